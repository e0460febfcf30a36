"""The mathematics of PPO: pure functions of `[T, N]` arrays, importing JAX alone."""

from proximo.core.arrays import Mask, Scalar
from proximo.core.divergence import bernoulli_kl, categorical_kl, diagonal_gaussian_kl, k1, k2, k3
from proximo.core.moments import (
    Moments,
    empty_moments,
    merge,
    moments_of,
    normalise,
    standard_deviation,
    variance,
)
from proximo.core.reduce import (
    explained_variance,
    masked_mean,
    masked_means,
    masked_sum,
    masked_variance,
    scale,
    select,
    whiten,
)
from proximo.core.returns import gae, monte_carlo_returns, td_lambda_returns
from proximo.core.surrogates import Clip, Objective, PolicyGradient, Unclipped, clip_fraction
from proximo.core.types import ActionKind, Binary, Categories, Continuous, Rollout
from proximo.core.values import ClippedSquaredError, Huber, SquaredError, ValueLoss

__all__ = [
    "ActionKind",
    "Binary",
    "Categories",
    "Clip",
    "ClippedSquaredError",
    "Continuous",
    "Huber",
    "Mask",
    "Moments",
    "Objective",
    "PolicyGradient",
    "Rollout",
    "Scalar",
    "SquaredError",
    "Unclipped",
    "ValueLoss",
    "bernoulli_kl",
    "categorical_kl",
    "clip_fraction",
    "diagonal_gaussian_kl",
    "empty_moments",
    "explained_variance",
    "gae",
    "k1",
    "k2",
    "k3",
    "masked_mean",
    "masked_means",
    "masked_sum",
    "masked_variance",
    "merge",
    "moments_of",
    "monte_carlo_returns",
    "normalise",
    "scale",
    "select",
    "standard_deviation",
    "td_lambda_returns",
    "variance",
    "whiten",
]
