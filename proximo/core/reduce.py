"""From one number per transition to one number: the only place where `core` sums over a batch.

Whatever stands where the mask is 0, NaN and inf included, changes neither the result nor its gradient.
That holds for the argument itself. Arithmetic BEFORE the reduction can still turn a gradient of 0 into
NaN (0 * inf), so `select` its inputs first where they may be garbage.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core.arrays import Mask, Scalar

ROUNDING = 1e-6
"""A spread this small, relative to the mean, is float32's rounding of the values and not a spread."""


def select(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, "*shape"]:
    """The entries that count; 0 elsewhere, in value and gradient.

    x        [...], any unit
    mask     [...], 1 where an entry counts
    returns  [...], unit of x

    Raises nothing.
    """
    return jnp.where(mask > 0, x, 0.0)


def masked_sum(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, ""]:
    """The sum of the entries that count, in float32 at least.

    sum_i m_i x_i

    x        [...], any unit
    mask     [...], 1 where an entry counts
    returns  one number, unit of x

    Raises nothing.
    """
    return jnp.sum(select(x, mask), dtype=jnp.promote_types(x.dtype, jnp.float32))


def masked_mean(x: Float[Array, "*shape"], mask: Mask, count: Scalar | None = None) -> Float[Array, ""]:
    """The mean of the entries that count: the hat over E in all objectives of Schulman 2017.

    sum_i m_i x_i / max(count, 1)

    With the count of a whole batch, the results for its parts add up to that of the whole: this is how
    gradients are accumulated and devices share a batch. A mean of means would weigh short parts more.

    x        [...], any unit
    mask     [...], 1 where an entry counts
    count    entries that count, in all parts together; those of `mask` where not given
    returns  one number, unit of x; 0 where nothing counts

    Raises nothing.
    """
    return masked_sum(x, mask) / jnp.maximum(_count(mask) if count is None else count, 1)


def weighted_sum(x: Float[Array, "*shape"], weight: Float[Array, "*shape"]) -> Float[Array, ""]:
    """A mean whose shares are known: those of a whole batch, so that the results for its parts add up.

    sum_i w_i x_i

    x        [...], any unit
    weight   [...], share of each entry in the mean; one whose weight is 0 does not count
    returns  one number, unit of x

    Raises nothing.
    """
    return masked_sum(x * weight, weight)


def weighted_sums(
    columns: dict[str, Float[Array, "*shape"]], weight: Float[Array, "*shape"]
) -> dict[str, Float[Array, ""]]:
    """Several weighted sums in one pass: `weighted_sum` of each, under its name.

    A compiled reduction costs more to start than to do where a minibatch is small, so all columns go
    through one matrix product with the weights.

    columns  name -> [...], any unit
    weight   [...], share of each entry in the means; for all columns
    returns  name -> one number, unit of its column

    Raises nothing.
    """
    table = jnp.stack([select(x, weight).ravel() for x in columns.values()])
    return dict(zip(columns, table @ weight.ravel(), strict=True))


def masked_variance(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, ""]:
    """The variance of the entries that count, around their own mean.

    sum_i m_i (x_i - mean)^2 / sum_i m_i, the whole population's (no n - 1)

    x        [...], any unit
    mask     [...], 1 where an entry counts
    returns  one number, unit of x squared; 0 where nothing counts

    Raises nothing.
    """
    return masked_mean(jnp.square(select(x, mask) - masked_mean(x, mask)), mask)


def whiten(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, "*shape"]:
    """Mean 0 and standard deviation 1 over the entries that count: what advantages want.

    Huang et al. 2022, detail 7:  (x - mean) / std

    We depart twice: nothing is added to the standard deviation (entries without a spread are centred
    and not divided), and fewer than two entries come back as they are.

    x        [...], any unit
    mask     [...], 1 where an entry counts
    returns  [...], without unit; 0 where the mask is 0

    Raises nothing.
    """
    seen = select(x, mask)
    centred = (seen - masked_mean(x, mask)) / _divisor(x, mask)
    return select(jnp.where(_count(mask) < 2, seen, centred), mask).astype(x.dtype)


def scale(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, "*shape"]:
    """Standard deviation 1 over the entries that count, the mean scaled along: what rewards want.

    x / std

    Whitening would move the zero of a reward, and so pay for short or for long episodes. Entries
    without a spread, or fewer than two of them, come back as they are.

    x        [...], any unit
    mask     [...], 1 where an entry counts
    returns  [...], without unit; 0 where the mask is 0

    Raises nothing.
    """
    return (select(x, mask) / _divisor(x, mask)).astype(x.dtype)


def explained_variance(
    prediction: Float[Array, "*shape"], target: Float[Array, "*shape"], mask: Mask
) -> Float[Array, ""]:
    """How much of the target's variance the prediction accounts for.

    Huang et al. 2022, detail 12:  1 - Var[target - prediction] / Var[target]

    prediction  [...], units of reward
    target      [...], units of reward
    mask        [...], 1 where an entry counts
    returns     one number: 1 is perfect, 0 no better than a constant; 0 where the target has no spread

    Raises nothing.
    """
    spread = _has_spread(target, mask)
    unexplained = masked_variance(target - prediction, mask)
    return jnp.where(spread, 1.0 - unexplained / jnp.where(spread, masked_variance(target, mask), 1.0), 0.0)


def _count(mask: Mask) -> Array:
    return jnp.sum(mask > 0)


def _has_spread(x: Float[Array, "*shape"], mask: Mask) -> Bool[Array, ""]:
    return masked_variance(x, mask) > jnp.square(ROUNDING * masked_mean(x, mask))


def _divisor(x: Float[Array, "*shape"], mask: Mask) -> Float[Array, ""]:
    # 1 is put in before the root, whose derivative at 0 is inf.
    return jnp.sqrt(jnp.where(_has_spread(x, mask), masked_variance(x, mask), 1.0))
