"""Each distribution against SciPy, against itself by enumeration, and against its own samples."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from proximo.core import k3
from proximo.core.types import Binary, Categories, Continuous
from proximo.policies import Bernoulli, Categorical, DiagonalGaussian, make_head

LOGITS = jnp.array([0.5, -1.0, 2.0])
# MultiDiscrete([2, 3]): the padding of the first component is what the network said, and is replaced.
UNEQUAL = make_head(Categories((2, 3)), 0.0)
OUTPUTS = jnp.array([0.3, -0.4, 50.0, 0.5, -1.0, 2.0])


def softmax(logits):
    odds = np.exp(np.asarray(logits, np.float64))
    return odds / odds.sum()


def many(head, distribution, count=20_000):
    """`count` samples from fixed noise."""
    return np.asarray(distribution.sample(head.noise(jax.random.key(7), (count,))))


def kinds():
    """name -> (the distribution p, another one q, all their actions)."""
    other = OUTPUTS[::-1]
    switches = jnp.array([1.0, -0.5])
    return {
        "scalar": (
            Categorical(LOGITS[None], (3,), scalar=True),
            Categorical(-LOGITS[None], (3,), scalar=True),
            jnp.arange(3),
        ),
        "multi": (
            UNEQUAL(OUTPUTS),
            UNEQUAL(other),
            jnp.array(list(itertools.product(range(2), range(3)))),
        ),
        "binary": (
            Bernoulli(switches),
            Bernoulli(-2.0 * switches),
            jnp.array(list(itertools.product(range(2), range(2)))),
        ),
    }


every_finite_kind = pytest.mark.parametrize("name", ["scalar", "multi", "binary"])


@every_finite_kind
def test_probabilities_entropy_and_kl_by_enumeration(name):
    p, q, actions = kinds()[name]
    # A batch of actions under one distribution: the shapes broadcast as in a rollout [T, N].
    batched = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(actions), *x.shape)), (p, q))
    log_p, log_q = (np.asarray(d.log_prob(actions), np.float64) for d in batched)
    assert log_p.shape == (len(actions),)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(p.entropy(), -(np.exp(log_p) * log_p).sum(), rtol=1e-5)
    np.testing.assert_allclose(p.kl(q), (np.exp(log_p) * (log_p - log_q)).sum(), rtol=1e-5)
    # k3 needs no distribution, only ratios: its mean over actions of p is the same divergence.
    estimate = np.asarray(k3(jnp.asarray(log_q - log_p, jnp.float32)), np.float64)
    np.testing.assert_allclose(p.kl(q), (np.exp(log_p) * estimate).sum(), rtol=1e-4)
    assert abs(p.kl(p)) < 1e-6
    np.testing.assert_array_equal(p.mode(), actions[log_p.argmax()])


def test_one_choice_against_scipy():
    p = softmax(LOGITS)
    one = Categorical(LOGITS[None], (3,), scalar=True)
    np.testing.assert_allclose(one.log_prob(jnp.array(2)), np.log(p[2]), rtol=1e-5)
    np.testing.assert_allclose(one.entropy(), stats.entropy(p), rtol=1e-5)


def test_a_scalar_action_has_no_axis_of_its_own():
    scalar, vector = make_head(Categories((3,), scalar=True), 0.0), make_head(Categories((3,)), 0.0)
    assert scalar.inputs == vector.inputs == 3
    outputs = jnp.broadcast_to(LOGITS, (4, 5, 3))  # [T, N, inputs]
    noise = scalar.noise(jax.random.key(0), (4, 5))
    assert scalar(outputs).sample(noise).shape == (4, 5)
    assert vector(outputs).sample(noise).shape == (4, 5, 1)
    one, many = scalar(outputs).sample(noise), vector(outputs).sample(noise)
    np.testing.assert_array_equal(one, many[..., 0])
    np.testing.assert_allclose(scalar(outputs).log_prob(one), vector(outputs).log_prob(many))


def test_samples_of_choices_have_their_probabilities():
    actions = many(UNEQUAL, UNEQUAL(OUTPUTS))
    for component, (logits, size) in enumerate([(OUTPUTS[:2], 2), (OUTPUTS[3:], 3)]):
        seen = np.bincount(actions[:, component], minlength=size)
        assert len(seen) == size  # the padding (with an output of 50!) is never sampled
        assert stats.chisquare(seen, softmax(logits) * len(actions)).pvalue > 0.01
    # The components are independent: the two first choices together as often as their product says.
    both = np.mean((actions[:, 0] == 0) & (actions[:, 1] == 0))
    expected = np.mean(actions[:, 0] == 0) * np.mean(actions[:, 1] == 0)
    assert abs(both - expected) < 0.01


def test_padding_changes_nothing_and_gets_no_gradient():
    def value(outputs, what):
        distribution, other = UNEQUAL(outputs), UNEQUAL(OUTPUTS[::-1])
        numbers = {
            "log_prob": lambda: distribution.log_prob(jnp.array([1, 2])),
            "entropy": distribution.entropy,
            "kl": lambda: distribution.kl(other),
        }
        return numbers[what]()

    for what in ("log_prob", "entropy", "kl"):
        slope = jax.grad(value)(OUTPUTS, what)
        assert jnp.all(jnp.isfinite(slope)), what
        assert slope[2] == 0.0, what  # entry 2 is the padding of the component with two choices
        assert np.count_nonzero(slope) == 5, what
        assert value(OUTPUTS, what) == value(OUTPUTS.at[2].set(-7.0), what)
    # ln 2 + ln 3 where all choices are equal: the padding adds no entropy.
    np.testing.assert_allclose(UNEQUAL(jnp.zeros(6)).entropy(), np.log(2) + np.log(3), rtol=1e-6)


def test_choices_far_apart_stay_finite():
    p = Categorical(jnp.array([[0.0, 800.0, -800.0]]), (3,))
    assert p.entropy() == 0.0 and p.log_prob(jnp.array([1])) == 0.0
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: Categorical(x, (3,)).entropy())(p.logits)))


def test_switches_against_scipy():
    logits = jnp.array([0.7, -1.3])
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    switches = Bernoulli(logits)
    expected = stats.bernoulli.logpmf([1, 0], probability).sum()
    np.testing.assert_allclose(switches.log_prob(jnp.array([1, 0])), expected, rtol=1e-5)
    np.testing.assert_allclose(switches.entropy(), stats.bernoulli.entropy(probability).sum(), rtol=1e-5)
    actions = many(make_head(Binary(2), 0.0), switches)
    for column, p in zip(actions.T, probability, strict=True):
        seen = np.bincount(column, minlength=2)
        assert stats.chisquare(seen, [len(column) * (1 - p), len(column) * p]).pvalue > 0.01


def test_switches_far_from_even_stay_finite():
    def value(logits):
        return Bernoulli(logits).entropy() + Bernoulli(logits).log_prob(jnp.array([0, 1]))

    number, slope = jax.value_and_grad(value)(jnp.array([500.0, -500.0]))
    assert number == -1000.0  # the entropy is 0, and each switch is 500 nats from where it wants to be
    assert jnp.all(jnp.isfinite(slope))


def test_gaussian_against_scipy():
    mean, log_std = jnp.array([0.5, -1.0]), jnp.array([0.2, -0.7])
    gaussian, scipy = DiagonalGaussian(mean, log_std), stats.norm(mean, np.exp(log_std))
    action = jnp.array([1.3, -1.1])
    np.testing.assert_allclose(gaussian.log_prob(action), scipy.logpdf(action).sum(), rtol=1e-5)
    np.testing.assert_allclose(gaussian.entropy(), scipy.entropy().sum(), rtol=1e-5)
    np.testing.assert_array_equal(gaussian.mode(), mean)
    actions = many(make_head(Continuous(2), 0.0), gaussian)
    for column, centre, spread in zip(actions.T, mean, np.exp(log_std), strict=True):
        assert stats.kstest(column, stats.norm(centre, spread).cdf).pvalue > 0.01


def test_gaussian_kl_against_an_integral():
    p, q = (
        DiagonalGaussian(jnp.array([0.5]), jnp.array([0.2])),
        DiagonalGaussian(jnp.zeros(1), jnp.array([-0.3])),
    )
    x = np.linspace(-12, 12, 20_001)
    density_p = stats.norm(0.5, np.exp(0.2))
    density_q = stats.norm(0.0, np.exp(-0.3))
    integrand = density_p.pdf(x) * (density_p.logpdf(x) - density_q.logpdf(x))
    np.testing.assert_allclose(p.kl(q), np.trapezoid(integrand, x), rtol=1e-4)
    assert p.kl(p) == 0.0


def test_the_entropy_of_a_batch_counts_every_component():
    # log_std is one vector for the whole batch; the entropy is still one number per transition.
    gaussian = DiagonalGaussian(jnp.zeros((4, 5, 3)), jnp.zeros(3))
    np.testing.assert_allclose(gaussian.entropy(), np.full((4, 5), 3 * stats.norm.entropy()), rtol=1e-6)


@pytest.mark.parametrize("log_std", [-1e6, -50.0, 50.0, 1e6])
def test_one_huge_optimiser_step_leaves_everything_finite(log_std):
    def value(head, action):
        gaussian = head(jnp.zeros(2))
        return gaussian.log_prob(action) + gaussian.entropy()

    head = make_head(Continuous(2), log_std)
    action = head(jnp.zeros(2)).sample(jnp.ones(2))
    assert np.all(np.abs(action) > 0) and np.all(np.isfinite(action))
    number, slope = eqx.filter_value_and_grad(value)(head, action)
    assert np.isfinite(number) and np.all(np.isfinite(slope.log_std))
