"""Running mean and variance: the same, however the data comes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core import Moments, empty_moments, merge, moments_of, normalise, standard_deviation, variance

batch_moments, merged = jax.jit(moments_of), jax.jit(merge)


def observations(seed, steps=6, environments=2, features=3):
    """Features of very different place and spread, and a mask with holes."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(steps, environments, features)) * [1.0, 100.0, 0.5] + [0.0, -50.0, 1000.0]
    mask = draw.random((steps, environments)) < 0.8
    return jnp.asarray(x, jnp.float32), jnp.asarray(mask, jnp.float32)


def same(a, b):
    np.testing.assert_allclose(a.count, b.count)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-3, atol=1e-3)


seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("compiled", [False, True])
def test_by_hand(compiled):
    find, join = (batch_moments, merged) if compiled else (moments_of, merge)
    # 1, 2 and 6: mean 3, m2 = 4 + 1 + 9 = 14. The 99 is padding.
    a = find(jnp.array([[1.0, 2.0], [6.0, 99.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0]]))
    assert (a.count, a.mean, a.m2) == (3.0, 3.0, 14.0)
    np.testing.assert_allclose(variance(a), 14 / 3, rtol=1e-6)
    np.testing.assert_allclose(standard_deviation(a), 2.160247, rtol=1e-6)
    # 7 alone: mean 7, m2 = 0. Together 1, 2, 6, 7: mean 4, m2 = 9 + 4 + 4 + 9 = 26.
    # By the formula: d = 4, mean = 3 + 4 * 1 / 4, m2 = 14 + 0 + 16 * 3 * 1 / 4 = 26.
    b = find(jnp.array([[7.0]]), jnp.array([[1.0]]))
    both = join(a, b)
    assert (both.count, both.mean, both.m2) == (4.0, 4.0, 26.0)


@given(seeds)
def test_against_numpy(seed):
    x, mask = observations(seed)
    rows = np.asarray(x, np.float64)[np.asarray(mask) > 0]
    found = batch_moments(x, mask)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(variance(found), rows.var(axis=0), rtol=1e-3)


@given(seeds, st.integers(1, 5))
def test_any_split_gives_the_same(seed, cut):
    x, mask = observations(seed)
    whole = batch_moments(x, mask)
    early, late = batch_moments(x[:cut], mask[:cut]), batch_moments(x[cut:], mask[cut:])
    same(merged(early, late), whole)
    same(merged(late, early), whole)


@given(seeds, seeds, seeds)
def test_any_order_gives_the_same(first, second, third):
    a, b, c = (batch_moments(*observations(seed)) for seed in (first, second, third))
    same(merged(a, b), merged(b, a))
    same(merged(merged(a, b), c), merged(a, merged(b, c)))


@given(seeds)
def test_nothing_added_changes_nothing(seed):
    a, nothing = batch_moments(*observations(seed)), empty_moments((3,))
    for both in (merged(a, nothing), merged(nothing, a)):
        jax.tree.map(np.testing.assert_array_equal, both, a)
    jax.tree.map(np.testing.assert_array_equal, merged(nothing, nothing), nothing)


@pytest.mark.parametrize("garbage", [jnp.nan, jnp.inf, -jnp.inf, 1e30])
def test_garbage_under_the_mask_changes_nothing(garbage):
    x, mask = observations(3)
    mask = mask.at[2, 1].set(0.0)
    dirty, clean = batch_moments(x.at[2, 1].set(garbage), mask), batch_moments(x.at[2, 1].set(0.0), mask)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    jax.tree.map(np.testing.assert_array_equal, moments_of(x * jnp.nan, 0 * mask), empty_moments((3,)))


def test_a_small_spread_far_from_0_survives_many_merges():
    # 10,000 +- 0.5 in float32: sums of squares would be 1e8 and have no digits left for 0.25.
    one = moments_of(jnp.array([[9999.5, 10000.5]]), jnp.ones((1, 2)))
    running, _ = jax.lax.scan(lambda seen, _: (merge(seen, one), None), empty_moments(()), length=1000)
    np.testing.assert_allclose(running.count, 2000.0)
    np.testing.assert_allclose(running.mean, 10000.0, rtol=1e-6)
    np.testing.assert_allclose(variance(running), 0.25, rtol=1e-3)


def test_the_shape_is_that_of_a_feature():
    x, mask = jnp.zeros((4, 2, 5, 6)), jnp.ones((4, 2))
    assert moments_of(x, mask).mean.shape == empty_moments((5, 6)).mean.shape == (5, 6)
    assert moments_of(x[..., 0, 0], mask).mean.shape == ()
    assert moments_of(x, mask).count == 8.0


def test_a_standard_deviation_is_safe_to_divide_by():
    assert standard_deviation(empty_moments(())) == 1.0
    assert standard_deviation(Moments(jnp.array(1.0), jnp.array(7.0), jnp.array(0.0))) == 1.0
    assert standard_deviation(Moments(jnp.array(1.0), jnp.array(7.0), jnp.array(4.0))) == 1.0
    assert standard_deviation(Moments(jnp.array(2.0), jnp.array(7.0), jnp.array(8.0))) == 2.0  # sqrt(8 / 2)
    # All rewards 0 so far: no spread, and 0 / 1 is 0, not NaN.
    assert standard_deviation(Moments(jnp.array(50.0), jnp.array(0.0), jnp.array(0.0))) == 1.0


def test_normalise_by_hand():
    moments = Moments(jnp.array(4.0), jnp.array([3.0, 0.0]), jnp.array([16.0, 0.0]))
    x = jnp.array([[5.0, 0.0], [103.0, 1.0], [-97.0, -1.0]])
    # feature 0: variance 16 / 4, so (5 - 3) / 2 = 1; (103 - 3) / 2 = 50, held at 10; -50, held at -10
    # feature 1 never moved: 0, then 1 / sqrt(1e-8) = 10,000, held at 10
    np.testing.assert_allclose(normalise(x, moments), [[1.0, 0.0], [10.0, 10.0], [-10.0, -10.0]], rtol=1e-6)
    np.testing.assert_allclose(
        normalise(x, moments, bound=40.0), [[1.0, 0.0], [40.0, 40.0], [-40.0, -40.0]], rtol=1e-6
    )


def test_the_smallest_variance():
    # variance 3e-8: 1e-4 / sqrt(3e-8 + 1e-8) = 0.5
    moments = Moments(jnp.array(1.0), jnp.array(0.0), jnp.array(3e-8))
    np.testing.assert_allclose(normalise(jnp.array([1e-4]), moments), [0.5], rtol=1e-5)


def test_normalising_with_nothing_seen_is_no_normalising():
    x = jnp.array([[5.0, -1000.0]])
    np.testing.assert_array_equal(normalise(x, empty_moments((2,))), x)


@given(seeds)
def test_what_was_normalised_has_mean_0_and_variance_1(seed):
    x, mask = observations(seed)
    again = batch_moments(normalise(x, batch_moments(x, mask)), mask)
    np.testing.assert_allclose(again.mean, jnp.zeros(3), atol=1e-3)
    np.testing.assert_allclose(variance(again), jnp.ones(3), rtol=1e-3)
