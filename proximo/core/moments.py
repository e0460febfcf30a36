"""Running mean and variance of observations and returns, feature by feature.

State goes in and comes out. Batches may be merged in any order and split in any way, over time and over
devices: the result is the same to rounding. Sums of squared deviations are kept, never sums of squares,
which lose every digit in float32 where the mean is large against the spread.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

SMALLEST_VARIANCE = 1e-8
"""Added under the root, so that a feature that never moves is not divided by 0."""


class Moments(NamedTuple):
    """What has been seen so far.

    count  []         rows seen
    mean   [feature]  their mean
    m2     [feature]  their sum of squared deviations from the mean
    """

    count: Float[Array, ""]  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    mean: Float[Array, "*feature"]
    m2: Float[Array, "*feature"]


def empty_moments(shape: tuple[int, ...]) -> Moments:
    """Nothing seen yet.

    shape    of one row's features; () for a single number
    returns  moments with a count of 0

    Raises nothing.
    """
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def moments_of(x: Float[Array, "T N *feature"], mask: Float[Array, "T N"]) -> Moments:
    """The moments of one batch, in two passes.

    mean = sum_i m_i x_i / n,   m2 = sum_i m_i (x_i - mean)^2

    x        [T, N, ...], any unit
    mask     [T, N], 1 where a row counts; what stands elsewhere changes nothing
    returns  moments of the features; empty where nothing counts

    Raises nothing.
    """
    counts = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)) > 0
    count = jnp.sum(mask > 0, dtype=jnp.float32)
    mean = jnp.sum(jnp.where(counts, x, 0.0), axis=(0, 1)) / jnp.maximum(count, 1.0)
    m2 = jnp.sum(jnp.square(jnp.where(counts, x - mean, 0.0)), axis=(0, 1))
    return Moments(count, mean, m2)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two batches together.

    Chan, Golub and LeVeque 1979, with d = mean_b - mean_a and n = n_a + n_b:

        mean = mean_a + d n_b / n
        m2   = m2_a + m2_b + d^2 n_a n_b / n

    a, b     moments of equal feature shape
    returns  moments of both

    Raises nothing.
    """
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1.0)
    apart = b.mean - a.mean
    return Moments(count, a.mean + apart * share, a.m2 + b.m2 + jnp.square(apart) * a.count * share)


def variance(moments: Moments) -> Float[Array, "..."]:
    """The variance of what has been seen.

    m2 / n, the whole population's (no n - 1)

    returns  [feature], unit of the feature squared; 0 with nothing seen

    Raises nothing.
    """
    return moments.m2 / jnp.maximum(moments.count, 1.0)


def standard_deviation(moments: Moments) -> Float[Array, "..."]:
    """The standard deviation of what has been seen, safe to divide by.

    sqrt(m2 / n)

    returns  [feature], unit of the feature; 1 where there is no spread yet: fewer than two rows, or all
             of them equal (rewards that are all 0 at first)

    Raises nothing.
    """
    spread = (moments.count >= 2) & (moments.m2 > 0)
    return jnp.where(spread, jnp.sqrt(variance(moments)), 1.0)


def normalise(x: Float[Array, "..."], moments: Moments, bound: float = 10.0) -> Float[Array, "..."]:
    """A feature in units of its own standard deviation, around its mean.

    Huang et al. 2022, details of continuous control 5 and 6:

        clip((x - mean) / sqrt(variance + 1e-8), -bound, bound)

    With nothing seen, x comes back as it is, unclipped: normalisation that is off is an empty `Moments`.

    x        [..., feature], any unit
    moments  of the feature's shape
    bound    largest magnitude, in standard deviations
    returns  [..., feature], without unit

    Raises nothing.
    """
    standard = (x - moments.mean) / jnp.sqrt(variance(moments) + SMALLEST_VARIANCE)
    return jnp.where(moments.count > 0, jnp.clip(standard, -bound, bound), x)
