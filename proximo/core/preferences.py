"""What DPO and its relatives make of a pair of answers.

Each takes log(pi / ref) of the chosen and of the rejected answer, [...] in nats, and beta, the KL
coefficient, and returns the loss of the pair. beta times a log ratio is the reward that the
policy implies for an answer.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar, traceable
from proximo.core.ranges import Range

LogRatio = Float[Array, "*shape"]


@traceable
@dataclass(frozen=True)
class SigmoidLoss:
    """The likelihood of the preference, as Bradley and Terry would have it.

    Rafailov et al. 2023, eq. 7:  - log sigmoid(h),  h = beta (log ratio of chosen - log ratio of rejected)

    beta 0.1, log ratios 2 and -3: h = 0.5, 0.4741 nats. At the reference h = 0: log 2.
    """

    per_token: ClassVar[bool] = False

    def __call__(self, chosen: LogRatio, rejected: LogRatio, beta: Scalar) -> LogRatio:
        return -jax.nn.log_sigmoid(beta * (chosen - rejected))


@traceable
@dataclass(frozen=True)
class ConservativeLoss:
    """The same, where a share of the labels is known to be the wrong way round (cDPO).

    Mitchell 2023 (A note on DPO with noisy preferences):  - (1 - e) log sigmoid(h) - e log sigmoid(-h)

    It is least where sigmoid(h) = 1 - e, so that h stays finite; e = 0 is `SigmoidLoss`. h = 0.5, e = 0.1:
    0.9 x 0.4741 + 0.1 x 0.9741 = 0.5241.

    smoothing  e, the share of wrong labels, 0 to 1/2
    """

    smoothing: Annotated[float, Range(least=0, below=0.5)] = 0.1
    per_token: ClassVar[bool] = False

    def __call__(self, chosen: LogRatio, rejected: LogRatio, beta: Scalar) -> LogRatio:
        h = beta * (chosen - rejected)
        return -(1.0 - self.smoothing) * jax.nn.log_sigmoid(h) - self.smoothing * jax.nn.log_sigmoid(-h)


@traceable
@dataclass(frozen=True)
class IPOLoss:
    """A fixed lead for the chosen answer, however sure the labels are: nothing drives it to infinity.

    Azar et al. 2023, eq. 17:  (log ratio of chosen - log ratio of rejected - 1 / (2 beta))^2

    We depart where `per_token` is set: the log ratio of an answer is then its mean over tokens, not their
    sum. The lead that is asked for does not depend on length, so with sums long answers reach it by changes
    too small to matter, and short ones only by large ones.

    beta 0.1: a lead of 5 costs nothing, 3 costs 4, and none at all, at the reference, 25.

    per_token  take means over an answer's tokens
    """

    per_token: bool = True

    def __call__(self, chosen: LogRatio, rejected: LogRatio, beta: Scalar) -> LogRatio:
        return jnp.square(chosen - rejected - 1.0 / (2.0 * beta))


PreferenceLoss = SigmoidLoss | ConservativeLoss | IPOLoss
