"""The KL coefficient: the cost per nat of divergence from a reference policy, fixed or adaptive.

In language models the penalty is part of the reward, token by token (Ziegler et al. 2019, eq. 2); in
`surrogates.KLPenalty` it is part of the objective. All are called in the same way,

    controller.adapted(kl, episodes) -> controller

    kl        []  mean KL(policy || reference) of a batch of whole sequences, in nats per sequence
    episodes  []  how many sequences that were
    returns   the controller of the next batch; its `beta` is the coefficient, in units of reward per nat

and none raises anything. Each is a tree of arrays, so that its numbers can be traced and saved.
"""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar, traceable, with_numbers
from proximo.core.ranges import above, at_least

BETA_BOUNDS = (1e-20, 1e20)
"""We depart here: hundreds of updates on one side of the target must not make beta 0 or infinite."""


def adapt_kl_coefficient(beta: Scalar, kl: Scalar, target: Scalar) -> Float[Array, ""]:
    """The KL coefficient after an update, by the paper's rule.

    Schulman 2017, section 4:  beta / 2 if kl < target / 1.5,  2 beta if kl > 1.5 target,  beta otherwise

    beta     the current coefficient
    kl       measured, in nats
    target   wanted, in nats
    returns  the coefficient of the next update, within 1e-20 and 1e20

    Raises nothing.
    """
    factor = jnp.where(kl < target / 1.5, 0.5, jnp.where(kl > 1.5 * target, 2.0, 1.0))
    return jnp.clip(beta * factor, *BETA_BOUNDS)


@traceable
@dataclass(frozen=True)
class FixedKL:
    """A fixed KL coefficient.

    beta  units of reward per nat; 0.05 in Huang et al. 2024
    """

    beta: Annotated[float, at_least(0)] = 0.05

    def adapted(self, kl: Scalar, episodes: Scalar) -> "FixedKL":
        """Itself."""
        return self


@traceable
@dataclass(frozen=True)
class AdaptiveKL:
    """The paper's rule: it doubles above the target and is halved below it (`adapt_kl_coefficient`).

    target  of a sequence's KL, in nats
    beta    the current coefficient
    """

    target: Annotated[float, above(0)] = 6.0
    beta: Annotated[float, at_least(0)] = 0.05

    def adapted(self, kl: Scalar, episodes: Scalar) -> "AdaptiveKL":
        """With the next batch's coefficient."""
        return with_numbers(self, beta=adapt_kl_coefficient(self.beta, kl, self.target))


@traceable
@dataclass(frozen=True)
class ProportionalKL:
    """The coefficient changes in proportion to the error, a little with each batch.

    Ziegler et al. 2019, section 2.2, for a batch of n sequences:

        e = clip(kl / target - 1, -0.2, 0.2),    beta <- beta (1 + e n / horizon)

    target   of a sequence's KL, in nats
    horizon  sequences over which an error of 0.2 changes the coefficient by a fifth
    beta     the current coefficient
    """

    target: Annotated[float, above(0)] = 6.0
    horizon: Annotated[float, above(0)] = 10_000.0
    beta: Annotated[float, at_least(0)] = 0.15

    def adapted(self, kl: Scalar, episodes: Scalar) -> "ProportionalKL":
        """With the next batch's coefficient."""
        error = jnp.clip(kl / self.target - 1.0, -0.2, 0.2)
        beta = jnp.clip(self.beta * (1.0 + error * episodes / self.horizon), *BETA_BOUNDS)
        return with_numbers(self, beta=beta)


KLController = FixedKL | AdaptiveKL | ProportionalKL
