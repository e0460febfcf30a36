"""The policy's objectives, to MAXIMISE, one number per transition; `reduce.masked_mean` makes the scalar.

Write r = pi(a|s) / pi_old(a|s) for the probability ratio, A for the advantage and KL for the exact
KL(pi_old(.|s) || pi(.|s)) of the state. All objectives have the same gradient at r = 1, that of the policy
gradient; they differ in what happens further away. All are called in the same way,

    objective(log_ratio, advantage, kl) -> objective

    log_ratio  [...], log pi(a|s) - log pi_old(a|s), in nats; held within +-20, where the gradient ends
    advantage  [...], any unit (usually whitened)
    kl         [...], exact KL(old || new) per state, in nats; only the KL penalties need it
    returns    [...], unit of the advantage

and none raises anything: ranges are declared with the fields, and checked where options are read. Each is a
tree of arrays, so its numbers can be traced, annealed, or differ between members of a `vmap`. Those with a
range around r = 1 have `annealed(remaining)`: the same with the range times alpha, the share of training
that is left, in [0, 1] (Schulman 2017, table 5), and `bounds`: how far the ratio may fall below and rise
above 1. One whose numbers follow the divergence of an update has `adapted(kl)`: the objective of the next.
"""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar, traceable, with_numbers
from proximo.core.kl_control import adapt_kl_coefficient
from proximo.core.ranges import above

LOG_RATIO_LIMIT = 20.0
"""Beyond e^20 a ratio says only "far"; kept finite, since 0 * inf in the gradient is NaN."""


@traceable
@dataclass(frozen=True)
class Clip:
    """The clipped surrogate: no gain from moving the ratio beyond 1 +- epsilon.

    Schulman 2017, eq. 7:  min(r A, clip(r, 1 - epsilon, 1 + epsilon) A)

    epsilon  half-width of the range of r, without unit; Table 1's best is 0.2, useful 0.1 to 0.3
    """

    epsilon: Annotated[float, above(0)] = 0.2

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        ratio = _ratio(log_ratio)
        near = jnp.clip(ratio, 1.0 - self.epsilon, 1.0 + self.epsilon)
        return jnp.minimum(ratio * advantage, near * advantage)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """How far the ratio may fall below and rise above 1."""
        return self.epsilon, self.epsilon

    def annealed(self, remaining: Scalar) -> "Clip":
        """The same objective with a narrower range."""
        return with_numbers(self, epsilon=self.epsilon * remaining)


@traceable
@dataclass(frozen=True)
class Unclipped:
    """The surrogate of conservative policy iteration, without any bound.

    Schulman 2017, eq. 6:  r A
    """

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        return _ratio(log_ratio) * advantage


@traceable
@dataclass(frozen=True)
class PolicyGradient:
    """The objective whose gradient is the plain policy gradient, wherever the policy has moved to.

    Schulman 2017, eq. 2:  A log pi(a|s)

    We depart in the value alone: log pi_old is subtracted. It is a constant of the parameters, so the
    gradient is the same. The log ratio is not held within bounds.
    """

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        return log_ratio * advantage


@traceable
@dataclass(frozen=True)
class LogClip:
    """The clipped surrogate with a range that is symmetric in log r: from e^-epsilon to e^epsilon.

    Schulman 2017, section 6.1 ("clipping in log space"):  min(r A, exp(clip(log r, -epsilon, epsilon)) A)

    The paper gives no equation; this keeps r A inside the range, so that only the range differs from eq. 7.

    epsilon  half-width of the range of log r, in nats
    """

    epsilon: Annotated[float, above(0)] = 0.2

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        near = jnp.exp(jnp.clip(log_ratio, -self.epsilon, self.epsilon))
        return jnp.minimum(_ratio(log_ratio) * advantage, near * advantage)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """How far the ratio may fall below and rise above 1."""
        return -jnp.expm1(-self.epsilon), jnp.expm1(self.epsilon)

    def annealed(self, remaining: Scalar) -> "LogClip":
        """The same objective with a narrower range."""
        return with_numbers(self, epsilon=self.epsilon * remaining)


@traceable
@dataclass(frozen=True)
class KLPenalty:
    """The surrogate minus a fixed KL coefficient times the KL divergence.

    Schulman 2017, eq. 8:  r A - beta KL

    beta  KL coefficient, in units of the advantage per nat; Table 1 has 0.3, 1, 3 and 10
    """

    beta: Annotated[float, above(0)] = 1.0

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        return _ratio(log_ratio) * advantage - self.beta * kl


@traceable
@dataclass(frozen=True)
class AdaptiveKLPenalty:
    """The surrogate minus an adaptive KL coefficient times the KL divergence.

    Schulman 2017, eq. 8 and section 4:  r A - beta KL, and after each update, with d its mean KL,
        beta / 2 if d < target / 1.5,    2 beta if d > 1.5 target,    beta otherwise

    target  of an update's mean KL, in nats; Table 1 has 0.003, 0.01 and 0.03
    beta    the current coefficient, in units of the advantage per nat; its initial value hardly matters
    """

    target: Annotated[float, above(0)] = 0.01
    beta: Annotated[float, above(0)] = 1.0

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        return _ratio(log_ratio) * advantage - self.beta * kl

    def adapted(self, kl: Scalar) -> "AdaptiveKLPenalty":
        """The objective of the next update; `kl` is the mean KL(old || new) of this one, in nats."""
        return with_numbers(self, beta=adapt_kl_coefficient(self.beta, kl, self.target))


@traceable
@dataclass(frozen=True)
class DualClip:
    """The clipped surrogate, bounded below as well where the advantage is negative.

    Ye et al. 2020 (arXiv 1912.09729):  max(clipped, bound A) where A < 0, and clipped, eq. 7, elsewhere

    epsilon  half-width of the range of r, without unit
    bound    the ratio beyond which a bad action is pushed away no more, without unit, above 1; theirs is 3
    """

    epsilon: Annotated[float, above(0)] = 0.2
    bound: Annotated[float, above(1)] = 3.0

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        clipped = with_numbers(Clip(), epsilon=self.epsilon)(log_ratio, advantage)
        return jnp.where(advantage < 0, jnp.maximum(clipped, self.bound * advantage), clipped)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """How far the ratio may fall below and rise above 1."""
        return self.epsilon, self.epsilon

    def annealed(self, remaining: Scalar) -> "DualClip":
        """The same objective with a narrower range; the bound stays."""
        return with_numbers(self, epsilon=self.epsilon * remaining)


@traceable
@dataclass(frozen=True)
class AsymmetricClip:
    """The clipped surrogate with a range of its own on each side.

    Yu et al. 2025 (DAPO, arXiv 2503.14476):  min(r A, clip(r, 1 - low, 1 + high) A)

    A higher upper bound lets rare actions grow: 0.01 x 1.2 is hardly more than 0.01.

    low, high  widths of the range of r below and above 1, without unit
    """

    low: Annotated[float, above(0)] = 0.2
    high: Annotated[float, above(0)] = 0.28

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        ratio = _ratio(log_ratio)
        near = jnp.clip(ratio, 1.0 - self.low, 1.0 + self.high)
        return jnp.minimum(ratio * advantage, near * advantage)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """How far the ratio may fall below and rise above 1."""
        return self.low, self.high

    def annealed(self, remaining: Scalar) -> "AsymmetricClip":
        """The same objective with a narrower range on both sides."""
        return with_numbers(self, low=self.low * remaining, high=self.high * remaining)


@traceable
@dataclass(frozen=True)
class QuadraticPenalty:
    """Simple Policy Optimization (SPO): a parabola in r whose top lies at the edge of the range.

    Xie et al. 2024 (arXiv 2401.16025):  r A - |A| (r - 1)^2 / (2 epsilon)

    The slope in r is 0 at 1 + sign(A) epsilon and turns back beyond it, where `Clip` merely has slope 0.

    epsilon  where the top lies, as a distance of r from 1, without unit
    """

    epsilon: Annotated[float, above(0)] = 0.2

    def __call__(
        self,
        log_ratio: Float[Array, "*shape"],
        advantage: Float[Array, "*shape"],
        kl: Float[Array, "*shape"] | None = None,
    ) -> Float[Array, "*shape"]:
        ratio = _ratio(log_ratio)
        return ratio * advantage - jnp.abs(advantage) * jnp.square(ratio - 1.0) / (2.0 * self.epsilon)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """How far the ratio may fall below and rise above 1."""
        return self.epsilon, self.epsilon

    def annealed(self, remaining: Scalar) -> "QuadraticPenalty":
        """The same objective with its top nearer to r = 1."""
        return with_numbers(self, epsilon=jnp.maximum(self.epsilon * remaining, 1e-6))


Objective = (
    Clip
    | Unclipped
    | PolicyGradient
    | LogClip
    | KLPenalty
    | AdaptiveKLPenalty
    | DualClip
    | AsymmetricClip
    | QuadraticPenalty
)


def clip_fraction(log_ratio: Float[Array, "*shape"], low: Scalar, high: Scalar) -> Float[Array, "*shape"]:
    """1 where the ratio has left its range, else 0; the masked mean of it is the clip fraction.

    Huang et al. 2022, detail 12:  r < 1 - low or r > 1 + high, whatever the sign of the advantage

    log_ratio  [...], in nats
    low, high  widths of the range of r below and above 1, without unit
    returns    [...], 0 or 1

    Raises nothing.
    """
    beyond = _ratio(log_ratio) - 1.0
    return ((beyond < -low) | (beyond > high)).astype(log_ratio.dtype)


def _ratio(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.exp(jnp.clip(log_ratio, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
