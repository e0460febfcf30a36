"""Batches become numbers here, and only what the mask lets through counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core import (
    explained_variance,
    masked_mean,
    masked_sum,
    masked_variance,
    scale,
    select,
    weighted_sum,
    weighted_sums,
    whiten,
)

X = jnp.array([[1.0, 2.0], [3.0, 100.0]])
MASK = jnp.array([[1.0, 1.0], [1.0, 0.0]])

REDUCTIONS = {
    "sum": masked_sum,
    "mean": masked_mean,
    "variance": masked_variance,
    "whiten": lambda x, mask: jnp.sum(whiten(x, mask) * jnp.arange(4.0).reshape(2, 2)),
    "scale": lambda x, mask: jnp.sum(scale(x, mask) * jnp.arange(4.0).reshape(2, 2)),
    "explained": lambda x, mask: explained_variance(x, jnp.array([[1.0, 3.0], [2.0, 4.0]]), mask),
    "explained target": lambda x, mask: explained_variance(jnp.array([[1.0, 3.0], [2.0, 4.0]]), x, mask),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mask", [MASK, MASK > 0], ids=["numbers", "booleans"])
def test_by_hand(compiled, mask):
    turn = jax.jit if compiled else (lambda function: function)
    # 1, 2 and 3 count. Sum 6, mean 2, variance (1 + 0 + 1) / 3, standard deviation 0.816497.
    assert turn(masked_sum)(X, mask) == 6.0
    assert turn(masked_mean)(X, mask) == 2.0
    np.testing.assert_allclose(turn(masked_variance)(X, mask), 2 / 3, rtol=1e-6)
    np.testing.assert_array_equal(turn(select)(X, mask), [[1.0, 2.0], [3.0, 0.0]])
    # whiten: (1 - 2) / 0.816497 = -1.224745;  scale keeps the mean: 1 / 0.816497 = 1.224745
    np.testing.assert_allclose(turn(whiten)(X, mask), [[-1.224745, 0.0], [1.224745, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(turn(scale)(X, mask), [[1.224745, 2.449490], [3.674235, 0.0]], rtol=1e-6)


def test_explained_variance_by_hand():
    target = jnp.array([1.0, 2.0, 3.0, 6.0])  # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    mask = jnp.ones(4)
    assert explained_variance(target + 5.0, target, mask) == 1.0  # an offset leaves nothing to explain
    assert explained_variance(jnp.zeros(4), target, mask) == 0.0
    # left over: 0, 0, 0, 2: mean 0.5, variance (3 * 0.25 + 2.25) / 4 = 0.75;  1 - 0.75 / 3.5 = 0.785714
    found = explained_variance(jnp.array([1.0, 2.0, 3.0, 4.0]), target, mask)
    np.testing.assert_allclose(found, 0.785714, rtol=1e-5)
    # worse than a constant: left over 2 * target, variance 4 * 3.5;  1 - 4 = -3
    np.testing.assert_allclose(explained_variance(-target, target, mask), -3.0, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1000.1])
def test_a_target_without_spread_explains_nothing(constant):
    target = jnp.full(7, constant)
    assert explained_variance(jnp.arange(7.0), target, jnp.ones(7)) == 0.0


@pytest.mark.parametrize("garbage", [jnp.nan, jnp.inf, -jnp.inf, 1e30])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_garbage_under_the_mask_changes_nothing(name, garbage):
    both = jax.jit(jax.value_and_grad(REDUCTIONS[name]))
    value, slope = both(X.at[1, 1].set(garbage), MASK)
    clean_value, clean_slope = both(X, MASK)
    assert jnp.isfinite(value) and jnp.isfinite(slope).all()
    np.testing.assert_array_equal(value, clean_value)
    np.testing.assert_array_equal(slope, clean_slope)
    assert slope[1, 1] == 0


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("valid", [0, 1])
def test_too_few_entries_give_numbers_and_gradients(name, valid):
    mask = jnp.zeros((2, 2)).at[0, 1].set(float(valid))
    value, slope = jax.value_and_grad(REDUCTIONS[name])(X, mask)
    assert jnp.isfinite(value) and jnp.isfinite(slope).all()


def test_one_entry_is_not_whitened():
    one = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(whiten(X, one), [[0.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(scale(X, one), [[0.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(whiten(X, 0 * one), jnp.zeros((2, 2)))
    # Two are: 1 and 2, mean 1.5, standard deviation 0.5
    two = jnp.array([[1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(whiten(X, two), [[-1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(scale(X, two), [[2.0, 4.0], [0.0, 0.0]])


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.1, 1234.5])
def test_rounding_is_not_a_spread(constant):
    # The mean of seven 0.1 is not 0.1 in float32. Divided by that error, noise would become advantages.
    same = jnp.full((7, 1), constant)
    np.testing.assert_allclose(whiten(same, jnp.ones((7, 1))), 0 * same, atol=1e-6 * abs(constant))
    np.testing.assert_array_equal(scale(same, jnp.ones((7, 1))), same)


batches = st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12).map(
    lambda numbers: jnp.array(numbers).reshape(4, 3) + jnp.arange(12.0).reshape(4, 3)
)
masks = st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12).map(
    lambda numbers: jnp.array(numbers).reshape(4, 3).at[0, :2].set(1.0)
)


@given(batches, masks)
def test_against_numpy(x, mask):
    entries = np.asarray(x)[np.asarray(mask) > 0].astype(np.float64)
    np.testing.assert_allclose(masked_sum(x, mask), entries.sum(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked_mean(x, mask), entries.mean(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked_variance(x, mask), entries.var(), rtol=1e-4, atol=1e-5)


@given(batches, masks, st.sampled_from([1e-4, 1.0, 1e4]))
def test_the_unit_of_an_advantage_does_not_matter(x, mask, unit):
    if masked_variance(x, mask) < 1e-3:
        return
    np.testing.assert_allclose(whiten(x * unit, mask), whiten(x, mask), atol=1e-3)
    np.testing.assert_allclose(scale(x * unit, mask), scale(x, mask), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(masked_mean(whiten(x, mask), mask), 0.0, atol=1e-3)
    np.testing.assert_allclose(masked_variance(whiten(x, mask), mask), 1.0, rtol=1e-3)
    np.testing.assert_allclose(masked_variance(scale(x, mask), mask), 1.0, rtol=1e-3)


@given(batches, masks, st.permutations(range(3)))
def test_environments_may_change_places(x, mask, order):
    order = jnp.array(order)
    np.testing.assert_allclose(
        whiten(x[:, order], mask[:, order]), whiten(x, mask)[:, order], rtol=1e-4, atol=1e-5
    )


@given(batches, masks, st.integers(1, 3))
def test_parts_with_the_count_of_the_whole_add_up_to_the_whole(x, mask, cut):
    def loss(weight, x, mask, count):
        return masked_mean(jnp.square(weight * x), mask, count)

    both = jax.value_and_grad(loss)
    count = jnp.sum(mask)
    whole = both(2.0, x, mask, None)
    parts = both(2.0, x[:cut], mask[:cut], count), both(2.0, x[cut:], mask[cut:], count)
    np.testing.assert_allclose(parts[0][0] + parts[1][0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(parts[0][1] + parts[1][1], whole[1], rtol=1e-5)


def test_a_count_may_be_any_kind_of_number():
    for count in (3, 3.0, jnp.float32(3), jnp.int32(3)):
        assert masked_mean(X, MASK, count) == 2.0
    assert masked_mean(X, 0 * MASK) == 0.0
    assert masked_mean(X, MASK, 0) == 6.0


def test_half_precision_is_summed_in_single():
    # In bfloat16 a sum of ones stops growing at 256.
    ones = jnp.ones(1000, jnp.bfloat16)
    assert masked_sum(ones, jnp.ones(1000)) == 1000.0
    assert whiten(ones, jnp.ones(1000)).dtype == jnp.bfloat16
    assert scale(ones, jnp.ones(1000)).dtype == jnp.bfloat16


def test_weighted_sums_of_parts_add_up_to_the_masked_mean():
    # A mean of 1 and 4 is 2.5; the parts' shares are 1 / 2 and 4 / 2, and NaN under the mask is none.
    x, mask = jnp.array([1.0, jnp.nan, 4.0, 7.0]), jnp.array([1.0, 0.0, 1.0, 0.0])
    weight = mask / jnp.sum(mask)
    shares = [float(weighted_sum(x[part], weight[part])) for part in (slice(0, 2), slice(2, 4))]
    assert shares == [0.5, 2.0] and sum(shares) == float(masked_mean(x, mask))
    assert jax.grad(weighted_sum)(x, weight).tolist() == [0.5, 0.0, 0.5, 0.0]


def test_weighted_sums_are_weighted_sum_of_each_column():
    mask = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    columns = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.array([[1.0, jnp.inf, 3.0], [jnp.nan, 5.0, 6.0]])}
    weight = mask / jnp.sum(mask)
    sums = weighted_sums(columns, weight)
    for name, column in columns.items():
        np.testing.assert_allclose(sums[name], weighted_sum(column, weight), rtol=1e-6)
    assert float(weighted_sums({"a": jnp.array([jnp.nan])}, jnp.zeros(1))["a"]) == 0.0
