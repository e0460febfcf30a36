"""Distributions over an interval, and noise of the state: against integrals, SciPy and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from proximo.core.types import Continuous
from proximo.policies.distributions import (
    Beta,
    BoundedBeta,
    ExploringGaussian,
    SquashedGaussian,
    StateDependentExploration,
    StateDependentNormal,
    TanhNormal,
    make_head,
)

KEY = jax.random.key(3)
U = np.linspace(-12, 12, 40_001)  # tanh is +-1 to double precision long before its ends


def squashed(mean, std):
    return SquashedGaussian(jnp.array([mean]), jnp.log(jnp.array([std])))


def test_the_density_of_tanh_of_a_normal_integrates_to_one_over_the_interval():
    # d a = (1 - tanh(u)^2) d u, and log_prob is the density of a at tanh(u).
    p = squashed(0.4, 0.8)
    log_prob = jax.vmap(p.log_prob)(jnp.asarray(U[:, None], jnp.float32))
    slope = 1 - np.tanh(U) ** 2
    assert np.trapezoid(np.exp(np.asarray(log_prob, np.float64)) * slope, U) == pytest.approx(1.0, abs=1e-4)


def test_its_density_is_that_of_a_change_of_variables():
    # a = tanh(0.5): log N(0.5; 0, 1) - log(1 - tanh(0.5)^2) = -0.91894 - 0.125 + 0.24023 = -0.80371
    p = squashed(0.0, 1.0)
    assert float(p.log_prob(jnp.array([0.5]))) == pytest.approx(-0.80371, abs=1e-5)


@pytest.mark.parametrize(("std", "error"), [(0.1, 1e-3), (0.5, 1e-3), (1.0, 1e-3), (1.5, 1e-3), (2.5, 1e-2)])
@pytest.mark.parametrize("mean", [0.0, 0.7, 3.0])
def test_its_entropy_is_the_integral(mean, std, error):
    p = squashed(mean, std)
    u = np.linspace(mean - 10 * std, mean + 10 * std, 40_001)
    density = stats.norm(mean, std).pdf(u)
    log_prob = stats.norm(mean, std).logpdf(u) - 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    expected = -np.trapezoid(density * log_prob, u)
    assert float(p.entropy()) == pytest.approx(expected, abs=error)


def test_its_divergence_is_that_of_the_normals_below():
    p, q = squashed(0.4, 0.8), squashed(-0.2, 1.3)
    u = jnp.asarray(np.random.default_rng(0).normal(0.4, 0.8, (200_000, 1)), jnp.float32)
    sampled = np.mean(np.asarray(jax.vmap(p.log_prob)(u) - jax.vmap(q.log_prob)(u), np.float64))
    assert float(p.kl(q)) == pytest.approx(sampled, rel=0.02)
    assert float(p.kl(p)) == 0.0


def test_it_is_finite_where_tanh_rounds_to_one():
    p = squashed(0.0, 1.0)
    for u in (-50.0, 9.5, 50.0):
        action = jnp.array([u])
        log_prob = lambda mean, action: SquashedGaussian(mean, p.log_std).log_prob(action)  # noqa: E731
        number, slope = jax.value_and_grad(log_prob)(jnp.zeros(1), action)
        assert np.isfinite(number) and np.all(np.isfinite(slope))


def test_a_beta_is_scipys():
    alpha, beta = np.array([1.5, 4.0]), np.array([3.0, 1.2])
    p, scipy = Beta(jnp.asarray(alpha), jnp.asarray(beta)), stats.beta(alpha, beta)
    x = jnp.array([0.3, 0.9])
    assert float(p.log_prob(x)) == pytest.approx(scipy.logpdf(x).sum(), rel=1e-5)
    assert float(p.entropy()) == pytest.approx(scipy.entropy().sum(), rel=1e-4)
    # (1.5 - 1) / (1.5 + 3 - 2) = 0.2 and 3 / 3.2 = 0.9375
    np.testing.assert_allclose(p.mode(), [0.2, 0.9375], rtol=1e-6)


def test_the_divergence_of_betas_is_the_integral():
    p, q = Beta(jnp.array([2.0]), jnp.array([3.0])), Beta(jnp.array([4.0]), jnp.array([1.5]))
    x = np.linspace(1e-6, 1 - 1e-6, 200_001)
    p_, q_ = stats.beta(2, 3), stats.beta(4, 1.5)
    expected = np.trapezoid(p_.pdf(x) * (p_.logpdf(x) - q_.logpdf(x)), x)
    assert float(p.kl(q)) == pytest.approx(expected, rel=1e-3)
    assert float(p.kl(p)) == pytest.approx(0.0, abs=1e-6)


def test_samples_of_a_beta_have_its_distribution_and_stay_inside():
    head = make_head(Continuous(2), 0.0, None, BoundedBeta())
    p = head(jnp.array([0.3, 2.0, 1.0, -3.0]))
    drawn = np.asarray(p.sample(head.noise(KEY, (5_000,))), np.float64)
    for column, alpha, beta in zip(drawn.T, np.asarray(p.alpha), np.asarray(p.beta), strict=True):
        assert stats.kstest(column, stats.beta(alpha, beta).cdf).pvalue > 0.01
    assert drawn.min() > 0 and drawn.max() < 1


def test_a_beta_is_finite_at_its_ends():
    head = make_head(Continuous(1), 0.0, None, BoundedBeta())

    def value(outputs, x):
        p = head(outputs)
        return p.log_prob(x) + p.entropy()

    for outputs in (jnp.array([-60.0, -60.0]), jnp.array([80.0, -80.0])):
        edge = head(outputs).sample(head.noise(KEY, ()))
        for x in (edge, *map(jnp.array, ([1e-6], [1 - 1e-6], [0.0], [7.0]))):  # the last in masked rows alone
            number, slope = jax.value_and_grad(value)(outputs, x)
            assert np.isfinite(number) and np.all(np.isfinite(slope)), (outputs, x)


def test_a_state_dependent_spread_is_what_the_network_says_of_the_state():
    head = make_head(Continuous(2), -0.5, None, StateDependentNormal())
    assert head.inputs == 4
    p = head(jnp.array([1.0, 2.0, 0.3, -0.3]))
    np.testing.assert_allclose(p.mean, [1.0, 2.0])
    np.testing.assert_allclose(p.log_std, [-0.2, -0.8], rtol=1e-6)


def exploration(interval=3, features=2, size=1, log_std=0.34657359):  # sigma 1 for each of 2
    return make_head(Continuous(size), log_std, None, StateDependentExploration(interval), features)


def test_noise_that_depends_on_the_state_has_the_variance_of_the_features():
    # features (3, 4), sigma 1: variance 9 + 16, standard deviation 5
    head = exploration()
    p = head(jnp.array([0.5]), jnp.array([3.0, 4.0]))
    assert float(p.log_std[0]) == pytest.approx(np.log(5.0), abs=1e-6)
    # noise (1, -1): 0.5 + 3 - 4
    assert float(p.sample(jnp.array([[1.0], [-1.0]]))[0]) == pytest.approx(-0.5)
    drawn = np.asarray(jax.vmap(p.sample)(jax.random.normal(KEY, (20_000, 2, 1))))[:, 0]
    assert stats.kstest(drawn, stats.norm(0.5, 5.0).cdf).pvalue > 0.01
    assert float(p.log_prob(jnp.array([1.5]))) == pytest.approx(stats.norm(0.5, 5.0).logpdf(1.5), rel=1e-5)


def test_it_is_held_for_the_interval():
    noise = exploration(interval=3).noise(KEY, (7, 2))
    assert noise.shape == (7, 2, 2, 1)
    same = [bool(np.array_equal(noise[t], noise[t + 1])) for t in range(6)]
    assert same == [True, True, False, True, True, False]


def test_no_gradient_of_the_noise_reaches_the_features():
    head = exploration()
    slope = jax.grad(lambda features: head(jnp.zeros(1), features).log_prob(jnp.ones(1)))(jnp.ones(2))
    np.testing.assert_array_equal(slope, 0.0)


def of_each_kind():
    """name -> (outputs, features) -> a distribution over one real number, and an action of it."""
    squash, beta = (make_head(Continuous(1), -0.3, None, kind()) for kind in (TanhNormal, BoundedBeta))
    varied = make_head(Continuous(1), -0.3, None, StateDependentNormal())
    return {
        "squashed": (lambda x: squash(x[:1]), jnp.array([1.2])),
        "beta": (beta, jnp.array([0.3])),
        "state-dependent": (varied, jnp.array([1.2])),
        "exploration": (lambda x: ExploringGaussian(x[:1], x[:, None] + 1.0), jnp.array([1.2])),
    }


@pytest.mark.parametrize("name", of_each_kind())
@pytest.mark.parametrize("what", ["log_prob", "entropy", "kl"])
def test_gradients_are_those_of_finite_differences(name, what):
    make, action = of_each_kind()[name]
    with jax.enable_x64(True):
        at, action = jnp.array([0.4, -0.7]), jnp.asarray(action, jnp.float64)
        old = make(jnp.array([0.1, 0.2]))

        def value(outputs):
            p = make(outputs)
            return {"log_prob": lambda: p.log_prob(action), "entropy": p.entropy, "kl": lambda: old.kl(p)}[
                what
            ]()

        slope = jax.jit(jax.grad(value))(at)
        for index in range(1 if name == "exploration" else 2):  # features get no gradient, by design
            step = jnp.zeros(2).at[index].set(1e-5)
            expected = (value(at + step) - value(at - step)) / 2e-5
            assert float(slope[index]) == pytest.approx(float(expected), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", of_each_kind())
def test_the_ratio_to_itself_is_one_and_masks_are_refused(name):
    make, _ = of_each_kind()[name]
    p = make(jnp.array([0.4, -0.7]))
    with pytest.raises(TypeError, match="has no masks"):
        p.masked(jnp.ones(0, bool))
    assert float(p.kl(make(jnp.array([0.4, -0.7])))) == pytest.approx(0.0, abs=1e-6)
