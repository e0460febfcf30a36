"""What a policy says: distributions over actions, and the heads that make them from a network's output."""

from proximo.policies.distributions.bounded import Beta, BetaHead, SquashedGaussian, SquashedGaussianHead
from proximo.policies.distributions.categorical import (
    Categorical,
    CategoricalHead,
    DependentCategorical,
    DependentCategoricalHead,
)
from proximo.policies.distributions.distribution import Distribution, Head, per_state
from proximo.policies.distributions.gaussian import (
    DiagonalGaussian,
    ExploringGaussian,
    ExploringGaussianHead,
    GaussianHead,
    ScheduledGaussianHead,
    StateDependentGaussianHead,
)
from proximo.policies.distributions.heads import (
    BoundedBeta,
    ContinuousDistribution,
    Normal,
    StateDependentExploration,
    StateDependentNormal,
    TanhNormal,
    dependent_names,
    flags_of,
    make_head,
)
from proximo.policies.distributions.joint import Joint, JointHead
from proximo.policies.distributions.switches import Bernoulli, BernoulliHead

__all__ = [
    "Bernoulli",
    "BernoulliHead",
    "Beta",
    "BetaHead",
    "BoundedBeta",
    "Categorical",
    "CategoricalHead",
    "ContinuousDistribution",
    "DependentCategorical",
    "DependentCategoricalHead",
    "DiagonalGaussian",
    "Distribution",
    "ExploringGaussian",
    "ExploringGaussianHead",
    "GaussianHead",
    "Head",
    "Joint",
    "JointHead",
    "Normal",
    "ScheduledGaussianHead",
    "SquashedGaussian",
    "SquashedGaussianHead",
    "StateDependentExploration",
    "StateDependentGaussianHead",
    "StateDependentNormal",
    "TanhNormal",
    "dependent_names",
    "flags_of",
    "make_head",
    "per_state",
]
