"""The loss over response tokens: weights that sum to 1, ratios of tokens and sequences, what is logged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core import AsymmetricClip, Clip, DualClip, PolicyGradient, k1, k2, k3
from proximo.language.train.estimators import overlong_penalty
from proximo.language.train.loss import clip_range, log_ratio_of, policy_loss, token_weights
from proximo.language.train.responses import Batch

MASK = jnp.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


def test_tokens_sequences_or_a_constant_count_alike():
    # Six tokens in two sequences of two and four; at most five a sequence.
    by_hand = {"tokens": MASK / 6, "sequences": [[1 / 4] * 2 + [0] * 2, [1 / 8] * 4], "length": MASK / 10}
    for aggregation, expected in by_hand.items():
        np.testing.assert_allclose(token_weights(MASK, aggregation, 5), expected)


@pytest.mark.parametrize("aggregation", ["tokens", "sequences", "length"])
def test_columns_without_tokens_change_nothing(aggregation):
    # At most 64 tokens: in 32 columns and in 64 a response has the same shares.
    mask = jnp.pad(MASK, ((0, 0), (0, 28)))
    wide = token_weights(jnp.pad(mask, ((0, 0), (0, 32))), aggregation, 64)
    np.testing.assert_array_equal(wide[:, :32], token_weights(mask, aggregation, 64))


def test_a_sequence_that_is_masked_out_is_none():
    mask = jnp.concatenate([MASK, jnp.zeros((1, 4))])
    weights = token_weights(mask, "sequences", 4)
    np.testing.assert_allclose(weights[:2], token_weights(MASK, "sequences", 4))
    assert weights.sum() == pytest.approx(1.0)


def test_a_sequences_ratio_is_the_mean_of_its_log_ratios():
    new = jnp.array([[0.2, 0.4, 9.0, 9.0], [0.1, 0.1, 0.1, 0.5]])
    out = log_ratio_of(new, jnp.zeros((2, 4)), MASK, "sequence")
    np.testing.assert_allclose(out, [[0.3, 0.3, 0, 0], [0.2] * 4], atol=1e-6)  # 0.6 / 2, 0.8 / 4
    np.testing.assert_allclose(log_ratio_of(new, jnp.zeros((2, 4)), MASK, "token")[0], [0.2, 0.4, 0, 0])


def gradient_of(ratio_of, advantage, new):
    def loss(log_prob):
        return policy_loss(log_prob, 0 * MASK, tokens(advantage), Clip(0.2), ratio_of=ratio_of)[0]

    return jax.grad(loss)(new)


def test_a_sequences_ratio_leaves_each_token_its_own_advantage():
    # At ratio 1 a token's gradient is minus its advantage times its share, 1/6, as with ratios of tokens.
    advantage = jnp.array([[1.0, -1.0, 0.0, 0.0], [3.0, -3.0, 2.0, 0.5]])
    np.testing.assert_allclose(gradient_of("sequence", advantage, 0 * MASK), -advantage * MASK / 6, atol=1e-6)


def test_with_one_advantage_for_all_its_gradient_is_that_of_the_mean():
    new, advantage = jnp.array([[0.1, -0.05, 0.0, 0.0], [0.02, 0.1, -0.2, 0.1]]), jnp.array([[2.0], [-1.0]])

    def by_mean(log_prob):
        mean = jnp.sum(log_prob * MASK, axis=1, keepdims=True) / jnp.sum(MASK, axis=1, keepdims=True)
        return -jnp.sum(jnp.exp(mean) * advantage * MASK / 6)

    np.testing.assert_allclose(
        gradient_of("sequence", advantage, new), jax.grad(by_mean)(new) * MASK, atol=1e-6
    )


def test_the_kl_that_is_told_is_that_of_tokens():
    # Log ratios of 0.3 and -0.3, in the mean 0. k3: e^0.3 - 1 - 0.3 and e^-0.3 - 1 + 0.3, in the mean 0.0453.
    new = jnp.array([[0.3, -0.3, 0.0, 0.0], [0.3, -0.3, 0.3, -0.3]])
    for of in ("token", "sequence"):
        _, metrics = policy_loss(new, 0 * MASK, tokens(1.0), Clip(0.2), ratio_of=of)
        assert metrics["policy/approxkl_avg"] == pytest.approx(0.0453, abs=1e-4)


def test_a_log_ratio_is_held_within_twenty_nats():
    far = log_ratio_of(jnp.full((1, 2), 500.0), jnp.zeros((1, 2)), jnp.ones((1, 2)), "token")
    assert far.tolist() == [[20.0, 20.0]]


def tokens(advantage, old=0.0, reference=0.0, mask=MASK, aggregation="tokens"):
    fill = jnp.full(mask.shape, 1.0)
    weight, share = (token_weights(mask, by, 4) for by in (aggregation, "tokens"))
    batch = Batch(None, old * fill, reference * fill, mask, advantage * fill)
    return batch._replace(weight=weight, share=share)


def test_at_ratio_one_the_loss_is_minus_the_mean_advantage():
    loss, metrics = policy_loss(jnp.zeros((2, 4)), jnp.zeros((2, 4)), tokens(3.0), Clip(0.2))
    assert loss == pytest.approx(-3.0)
    assert metrics["val/ratio"] == pytest.approx(1.0)
    assert metrics["policy/approxkl_avg"] == metrics["policy/clipfrac_avg"] == 0.0


@pytest.mark.parametrize("aggregation", ["sequences", "length"])
def test_what_is_logged_counts_every_token_alike(aggregation):
    given = tokens(1.0, aggregation=aggregation)
    _, metrics = policy_loss(jnp.zeros((2, 4)), jnp.ones((2, 4)), given, Clip(0.2))
    assert metrics["val/ratio"] == pytest.approx(1.0) and metrics["policy/entropy_avg"] == pytest.approx(1.0)


def test_at_ratio_one_its_gradient_is_the_policy_gradient():
    advantage = jnp.arange(8.0).reshape(2, 4)
    given = tokens(1.0)._replace(advantage=advantage)
    slope = jax.grad(lambda lp: policy_loss(lp, jnp.zeros((2, 4)), given, Clip(0.2))[0])(jnp.zeros((2, 4)))
    np.testing.assert_allclose(slope, -advantage * MASK / 6, atol=1e-6)


def test_garbage_under_the_mask_changes_neither_loss_nor_gradient():
    log_prob = jnp.linspace(-0.3, 0.3, 8).reshape(2, 4)
    hidden = MASK == 0

    def of(garbage):
        given = tokens(2.0)._replace(
            advantage=jnp.where(hidden, garbage, 2.0), log_prob=jnp.where(hidden, garbage, 0.0)
        )
        return jax.value_and_grad(lambda lp: policy_loss(lp, lp * 0, given, Clip(0.2))[0])(log_prob)

    clean, slope = of(0.0)
    for garbage in (1e30, jnp.nan, -jnp.inf):
        loss, grad = of(garbage)
        assert loss == clean
        np.testing.assert_array_equal(grad, slope)


def test_parts_of_a_minibatch_add_up():
    # Micro-batches are divided by the tokens of the WHOLE minibatch: no mean of means.
    log_prob, whole = jnp.linspace(-0.5, 0.5, 8).reshape(2, 4), tokens(1.5)
    loss, metrics = policy_loss(log_prob, -log_prob, whole, Clip(0.2), entropy_coefficient=0.1)
    parts = [
        policy_loss(
            log_prob[i : i + 1],
            -log_prob[i : i + 1],
            jax.tree.map(lambda x, i=i: x[i : i + 1], whole),
            Clip(0.2),
            entropy_coefficient=0.1,
        )
        for i in range(2)
    ]
    assert sum(part[0] for part in parts) == pytest.approx(float(loss))
    for name, value in metrics.items():
        assert sum(part[1][name] for part in parts) == pytest.approx(float(value), abs=1e-6), name


@pytest.mark.parametrize(("estimate", "value"), [("k1", 0.5), ("k2", 0.125), ("k3", np.exp(-0.5) - 1 + 0.5)])
def test_the_kl_in_the_loss(estimate, value):
    # log pi - log pi_ref = 0.5 everywhere: k1 = 0.5, k2 = 0.5^2 / 2, k3 = e^-0.5 - 1 + 0.5
    given = tokens(0.0, old=0.5)
    loss, _ = policy_loss(
        jnp.full((2, 4), 0.5), jnp.zeros((2, 4)), given, Clip(0.2), kl_coefficient=2.0, kl_estimate=estimate
    )
    assert loss == pytest.approx(2.0 * value, rel=1e-5)


def test_what_counts_as_clipped():
    assert clip_range(AsymmetricClip(0.2, 0.28)) == (0.2, 0.28)
    assert clip_range(DualClip(0.1)) == (0.1, 0.1)
    assert clip_range(PolicyGradient())[1] == jnp.inf
    # Ratios e^0.25 = 1.284 and e^-0.25 = 0.779: only the first leaves [0.7, 1.28].
    log_prob = jnp.array([[0.25, -0.25, 0, 0], [0, 0, 0, 0]])
    _, metrics = policy_loss(log_prob, log_prob * 0, tokens(1.0), AsymmetricClip(0.3, 0.28))
    assert metrics["policy/clipfrac_avg"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("estimate", "divergence"),
    [
        (k1, lambda log_p, log_q: 0.0 * log_p[0]),
        (k2, lambda log_p, log_q: jnp.sum(jnp.exp(log_p) * (log_p - log_q))),
        (k3, lambda log_p, log_q: jnp.sum(jnp.exp(log_q) * (log_q - log_p))),
    ],
)
def test_what_an_estimate_of_the_kl_pulls_at(estimate, divergence):
    """Trap 9: over samples of p, k1's gradient is 0, k2's is KL(p || q)'s, k3's that of the reversed one."""
    logits, log_q = jnp.array([0.3, -1.0, 0.7]), jax.nn.log_softmax(jnp.array([1.0, 0.0, -0.5]))
    probability = jax.nn.softmax(logits)
    sampled = jax.grad(lambda x: jnp.sum(probability * estimate(log_q - jax.nn.log_softmax(x))))(logits)
    exact = jax.grad(lambda x: divergence(jax.nn.log_softmax(x), log_q))(logits)
    np.testing.assert_allclose(sampled, exact, atol=1e-6)


def test_a_long_answer_pays_in_proportion():
    # At most 10 tokens, a margin of 4: free up to 6, then a quarter for each token.
    lengths = jnp.array([1, 6, 7, 9, 10])
    np.testing.assert_allclose(overlong_penalty(lengths, 10, 4), [0, 0, 0.25, 0.75, 1.0])
    assert overlong_penalty(lengths, 10, 0).tolist() == [0.0] * 5
