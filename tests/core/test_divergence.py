"""How far apart two policies are: three estimates from samples, and the exact answer for three families."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from proximo.core import bernoulli_kl, categorical_kl, diagonal_gaussian_kl, k1, k2, k3

logits = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3).map(jnp.array)


def test_estimates_by_hand():
    # The new policy gives the first action twice, the second half the old probability.
    x = jnp.log(jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(k1(x), [-0.693147, 0.693147], rtol=1e-5)
    np.testing.assert_allclose(k2(x), [0.240227, 0.240227], rtol=1e-5)  # 0.5 * 0.693147^2
    np.testing.assert_allclose(k3(x), [0.306853, 0.193147], rtol=1e-5)  # 2 - 1 - 0.693, 0.5 - 1 + 0.693


@given(st.floats(-20, 20, width=32))
def test_k2_and_k3_are_never_negative(x):
    assert k2(jnp.float32(x)) >= 0
    assert k3(jnp.float32(x)) >= 0


def test_k3_keeps_its_digits_near_0():
    # x^2 / 2 for small x. exp(1e-3) - 1 - 1e-3 in float32 would be off by a tenth.
    np.testing.assert_allclose(k3(jnp.float32(1e-3)), 5.0017e-7, rtol=1e-3)


@given(logits, logits)
def test_the_mean_of_k1_and_of_k3_is_the_divergence(old, new):
    # The expectation over actions of the old policy, written out: sum_i old_i k(x_i).
    p = jax.nn.softmax(old)
    x = jax.nn.log_softmax(new) - jax.nn.log_softmax(old)
    exact = categorical_kl(old, new)
    np.testing.assert_allclose(jnp.sum(p * k1(x)), exact, atol=1e-5)
    np.testing.assert_allclose(jnp.sum(p * k3(x)), exact, atol=1e-5)


def test_k2_is_close_for_policies_that_are_close():
    old, new = jnp.array([0.1, 0.2, 0.3]), jnp.array([0.11, 0.2, 0.28])
    x = jax.nn.log_softmax(new) - jax.nn.log_softmax(old)
    np.testing.assert_allclose(jnp.sum(jax.nn.softmax(old) * k2(x)), categorical_kl(old, new), rtol=0.05)


# ---- exact


@pytest.mark.parametrize("compiled", [False, True])
def test_categorical_by_hand(compiled):
    kl = jax.jit(categorical_kl) if compiled else categorical_kl
    # p = (1/2, 1/2), q = (1/4, 3/4): 0.5 log 2 + 0.5 log(2/3) = 0.143841; the other way 0.130812.
    # One row each, and an offset of the logits, which means nothing.
    p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75]))
    found = kl(jnp.stack([p, q + 7.0]), jnp.stack([q - 3.0, p]))
    np.testing.assert_allclose(found, [0.143841, 0.130812], rtol=1e-5)


def test_gaussian_by_hand():
    # N(1, 1) from N(0, 2): log 2 + (1 + 1) / 8 - 0.5 = 0.443147; a component alike adds 0
    zero, log_2 = jnp.zeros(2), jnp.array([jnp.log(2.0), 0.0])
    found = diagonal_gaussian_kl(jnp.array([1.0, 0.0]), zero, zero, log_2)
    np.testing.assert_allclose(found, 0.443147, rtol=1e-5)


def test_bernoulli_by_hand():
    # p = 1/2, q = 1/4, two switches: 2 * 0.143841 (as the categorical above)
    found = bernoulli_kl(jnp.zeros(2), jnp.full(2, jnp.log(1 / 3)))
    np.testing.assert_allclose(found, 0.287682, rtol=1e-5)


@given(logits, logits)
def test_a_switch_is_a_choice_of_two(p, q):
    two = lambda x: jnp.stack([x, jnp.zeros_like(x)], axis=-1)  # noqa: E731
    np.testing.assert_allclose(bernoulli_kl(p, q), categorical_kl(two(p), two(q)).sum(), atol=1e-5)


def test_gaussian_agrees_with_the_integral():
    grid = np.linspace(-30, 30, 200_001)
    log_p, log_q = scipy.stats.norm(0.5, 0.7).logpdf(grid), scipy.stats.norm(-1.0, 1.6).logpdf(grid)
    integral = np.trapezoid(np.exp(log_p) * (log_p - log_q), grid)
    arguments = (jnp.array([x], jnp.float32) for x in (0.5, np.log(0.7), -1.0, np.log(1.6)))
    np.testing.assert_allclose(diagonal_gaussian_kl(*arguments), integral, rtol=1e-5)


@given(logits, logits)
def test_no_divergence_is_negative_and_none_from_itself(p, q):
    pairs = [
        (categorical_kl(p, q), categorical_kl(p, p)),
        (bernoulli_kl(p, q), bernoulli_kl(p, p)),
        (diagonal_gaussian_kl(p, q / 4, q, p / 4), diagonal_gaussian_kl(p, q, p, q)),
    ]
    for apart, same in pairs:
        assert apart >= -1e-6
        assert same == 0


# ---- what is not allowed


@pytest.mark.parametrize("forbidden", [-jnp.inf, -1e9])
def test_forbidden_choices_are_no_choices(forbidden):
    p, q = jnp.array([0.3, -0.2]), jnp.array([1.0, 0.1])
    longer = lambda x: jnp.append(x, forbidden)  # noqa: E731
    both = jax.value_and_grad(categorical_kl, argnums=(0, 1))
    kl, slopes = both(longer(p), longer(q))
    short_kl, short_slopes = both(p, q)
    np.testing.assert_allclose(kl, short_kl, rtol=1e-6)
    for slope, short in zip(slopes, short_slopes, strict=True):
        np.testing.assert_allclose(slope, jnp.append(short, 0.0), atol=1e-6)


def test_a_switch_that_is_stuck_adds_nothing():
    stuck = jnp.array([jnp.inf, -jnp.inf, 0.5])
    np.testing.assert_allclose(
        bernoulli_kl(stuck, stuck.at[2].set(0.0)), bernoulli_kl(stuck[2:], jnp.zeros(1))
    )


def test_what_only_p_allows_is_infinitely_far():
    assert categorical_kl(jnp.array([0.0, 0.0]), jnp.array([0.0, -jnp.inf])) == jnp.inf
    # The other way round it is finite: log 2.
    np.testing.assert_allclose(categorical_kl(jnp.array([0.0, -jnp.inf]), jnp.zeros(2)), 0.693147, rtol=1e-5)
