"""Which head an action needs: by its kind, and for real numbers by the distribution that was asked for."""

from dataclasses import dataclass
from functools import singledispatch
from math import log, prod
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp

from proximo.core.ranges import at_least
from proximo.core.types import Binary, Categories, Combinations, Continuous, Parts
from proximo.policies.distributions.bounded import BetaHead, SquashedGaussianHead, beta_inside, tanh_inside
from proximo.policies.distributions.categorical import CategoricalHead, DependentCategoricalHead
from proximo.policies.distributions.distribution import Head
from proximo.policies.distributions.gaussian import (
    ExploringGaussianHead,
    GaussianHead,
    ScheduledGaussianHead,
    StateDependentGaussianHead,
)
from proximo.policies.distributions.joint import JointHead
from proximo.policies.distributions.switches import BernoulliHead


@dataclass(frozen=True)
class Normal:
    """Normal, with one standard deviation for all states (Schulman 2017, section 6.1)."""

    inside: ClassVar[Any] = None  # any number: clipped at bounds

    def head(self, size: int, features: int, log_std: float, final_log_std: float | None) -> Head:
        start = _vector(size, log_std)
        if final_log_std is None:
            return GaussianHead(start)
        return ScheduledGaussianHead(start, log_std, final_log_std)


@dataclass(frozen=True)
class StateDependentNormal:
    """Normal, with a standard deviation that the network says of each state."""

    inside: ClassVar[Any] = None  # any number: clipped at bounds

    def head(self, size: int, features: int, log_std: float, final_log_std: float | None) -> Head:
        return StateDependentGaussianHead(size, log_std)


@dataclass(frozen=True)
class TanhNormal:
    """tanh of a normal: inside the bounds without clipping (Haarnoja 2018)."""

    inside: ClassVar[Any] = staticmethod(tanh_inside)  # what was sampled, from -1 to 1

    def head(self, size: int, features: int, log_std: float, final_log_std: float | None) -> Head:
        return SquashedGaussianHead(_vector(size, log_std))


@dataclass(frozen=True)
class BoundedBeta:
    """Beta between the bounds (Chou 2017)."""

    inside: ClassVar[Any] = staticmethod(beta_inside)  # what was sampled, from -1 to 1

    def head(self, size: int, features: int, log_std: float, final_log_std: float | None) -> Head:
        return BetaHead(size)


@dataclass(frozen=True)
class StateDependentExploration:
    """Normal, with noise that is a function of the state, held for some steps (gSDE, Raffin 2021).

    interval  steps for which noise is held
    """

    inside: ClassVar[Any] = None  # any number: clipped at bounds

    interval: Annotated[int, at_least(1)] = 4

    def head(self, size: int, features: int, log_std: float, final_log_std: float | None) -> Head:
        # Of features near 1 the noise of all of them together has the standard deviation that is asked for.
        return ExploringGaussianHead(
            _vector((features, size), log_std - 0.5 * log(max(features, 1))), self.interval
        )


ContinuousDistribution = Normal | StateDependentNormal | TanhNormal | BoundedBeta | StateDependentExploration


def _vector(shape: Any, value: float) -> Any:
    return jnp.full(shape, value, jnp.result_type(float))  # not weakly typed: one compilation


@singledispatch
def make_head(
    kind: Any,
    log_std: float,
    final_log_std: float | None = None,
    distribution: ContinuousDistribution = Normal(),
    features: int = 0,
) -> Any:
    """The head for a kind of action.

    log_std        where the log standard deviation of real numbers starts
    final_log_std  where it is brought by a schedule; None lets it be learned
    distribution   of real numbers
    features       numbers that the network's last layer reads

    Later kinds join with `make_head.register`.
    """
    raise TypeError(f"no distribution for actions of kind {type(kind).__name__}")


@make_head.register
def _(kind: Categories, *_: Any) -> CategoricalHead:
    return CategoricalHead(kind.sizes, kind.scalar)


@make_head.register
def _(kind: Combinations, *_: Any) -> DependentCategoricalHead:
    return DependentCategoricalHead(kind.sizes)


@make_head.register
def _(kind: Binary, *_: Any) -> BernoulliHead:
    return BernoulliHead(kind.size)


@make_head.register
def _(
    kind: Continuous,
    log_std: float,
    final_log_std: float | None = None,
    distribution: ContinuousDistribution = Normal(),
    features: int = 0,
) -> Head:
    return distribution.head(kind.size, features, log_std, final_log_std)


@make_head.register
def _(kind: Parts, *of_numbers: Any) -> JointHead:
    heads = tuple(make_head(part, *of_numbers) for part in kind.parts)
    return JointHead(heads, kind.names, tuple(flags_of(part) for part in kind.parts))


def dependent_names(head: Any) -> list[str]:
    """The names of the parts of an action whose choices depend on each other; "" is an action as a whole."""
    if isinstance(head, JointHead):
        pairs = zip(head.names, head.heads, strict=True)
        return [name for name, one in pairs if isinstance(one, DependentCategoricalHead)]
    return [""] if isinstance(head, DependentCategoricalHead) else []


def flags_of(kind: Any) -> int:
    """How many flags of legal values actions of a kind have (`core.types.LEGAL`)."""
    match kind:
        case Categories(sizes=sizes):
            return sum(sizes)
        case Combinations(sizes=sizes):
            return prod(sizes)
        case Binary(size=size):
            return 2 * size
        case Parts(parts=parts):
            return sum(map(flags_of, parts))
    return 0
