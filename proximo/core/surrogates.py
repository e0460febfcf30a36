"""The policy's objectives, to MAXIMISE, one number per transition; `reduce.masked_mean` makes the scalar.

Write r = pi(a|s) / pi_old(a|s) for the probability ratio and A for the advantage. All three objectives
have the same gradient at r = 1, that of the policy gradient; they differ in what happens further away.
Each is a tree of arrays, so its numbers can be traced, annealed, or differ between members of a `vmap`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar, traceable

LOG_RATIO_LIMIT = 20.0
"""Beyond e^20 a ratio says only "far"; kept finite, since 0 * inf in the gradient is NaN."""


@traceable
@dataclass(frozen=True)
class Clip:
    """The clipped surrogate: no reward for moving the ratio beyond 1 +- epsilon.

    Schulman 2017, eq. 7:  min(r A, clip(r, 1 - epsilon, 1 + epsilon) A)

    We depart in one thing: the log ratio is held within +-20, where the gradient ends.

    epsilon          half-width of the range of r, without unit; Table 1's best is 0.2, useful 0.1 to 0.3
    log_ratio        [...], log pi(a|s) - log pi_old(a|s), in nats
    advantage        [...], any unit (usually whitened)
    returns          objective [...], unit of the advantage

    Raises nothing; ranges are checked where options are read.
    """

    epsilon: float = 0.2

    def __call__(
        self, log_ratio: Float[Array, "*shape"], advantage: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        ratio = _ratio(log_ratio)
        near = jnp.clip(ratio, 1.0 - self.epsilon, 1.0 + self.epsilon)
        return jnp.minimum(ratio * advantage, near * advantage)

    def annealed(self, remaining: Scalar) -> "Clip":
        """The same objective with a narrower range.

        Schulman 2017, Table 5:  epsilon x alpha, with alpha from 1 to 0 over the training

        remaining  alpha, the share of the training that is left, in [0, 1]
        """
        narrower: Clip = jax.tree.map(lambda epsilon: epsilon * remaining, self)
        return narrower


@traceable
@dataclass(frozen=True)
class Unclipped:
    """The surrogate of conservative policy iteration, without any bound.

    Schulman 2017, eq. 6:  r A

    We depart in one thing: the log ratio is held within +-20, where the gradient ends.

    log_ratio  [...], log pi(a|s) - log pi_old(a|s), in nats
    advantage  [...], any unit
    returns    objective [...], unit of the advantage

    Raises nothing.
    """

    def __call__(
        self, log_ratio: Float[Array, "*shape"], advantage: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return _ratio(log_ratio) * advantage

    def annealed(self, remaining: Scalar) -> "Unclipped":
        """The same objective: it has no range to narrow, but takes the place of `Clip`."""
        return self


@traceable
@dataclass(frozen=True)
class PolicyGradient:
    """The objective whose gradient is the plain policy gradient, wherever the policy has moved to.

    Schulman 2017, eq. 2:  A log pi(a|s)

    We depart in the value alone: log pi_old is subtracted. It is a constant of the parameters, so the
    gradient is the same.

    log_ratio  [...], log pi(a|s) - log pi_old(a|s), in nats
    advantage  [...], any unit
    returns    objective [...], unit of the advantage x nats

    Raises nothing.
    """

    def __call__(
        self, log_ratio: Float[Array, "*shape"], advantage: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return log_ratio * advantage

    def annealed(self, remaining: Scalar) -> "PolicyGradient":
        """The same objective: it has no range to narrow, but takes the place of `Clip`."""
        return self


Objective = Clip | Unclipped | PolicyGradient


def clip_fraction(log_ratio: Float[Array, "*shape"], epsilon: Scalar) -> Float[Array, "*shape"]:
    """1 where the ratio has left the range of `Clip`, else 0; the masked mean of it is the clip fraction.

    Huang et al. 2022, detail 12:  |r - 1| > epsilon, whatever the sign of the advantage

    log_ratio  [...], in nats
    epsilon    half-width of the range of r, without unit
    returns    [...], 0 or 1

    Raises nothing.
    """
    return (jnp.abs(_ratio(log_ratio) - 1.0) > epsilon).astype(log_ratio.dtype)


def _ratio(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.exp(jnp.clip(log_ratio, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
