"""What a model says of given tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

from proximo.language.model import likelihood as module
from proximo.language.model.likelihood import loss_of_tokens, score_tokens

MODEL = small_model(vocabulary=11, layers=1)
IDS = jax.random.randint(jax.random.key(1), (3, 7), 0, 11)
HIDDEN = jax.random.normal(jax.random.key(2), (3, 7, 16))


class Fixed(eqx.Module):
    """Stands in for a transformer: logits are the hidden states."""

    config: object = eqx.field(static=True)

    def logits(self, hidden):
        return hidden


FIXED = Fixed(MODEL.config)


def test_by_hand():
    # Odds 1 : 1 : 2, so probabilities 1/4, 1/4, 1/2.
    hidden = jnp.log(jnp.array([[[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]]))
    log_prob, entropy, best = score_tokens(FIXED, hidden, jnp.array([[0, 2]]))
    np.testing.assert_allclose(log_prob, [[np.log(0.25), np.log(0.5)]], rtol=1e-6)
    np.testing.assert_allclose(entropy, [[1.5 * np.log(2.0)] * 2], rtol=1e-6)  # 2 bits / 2 + 1 bit / 2
    np.testing.assert_array_equal(best, [[False, True]])


def test_a_temperature_by_hand():
    # At 1/2 the odds are squared: 1 : 1 : 4.
    hidden = jnp.log(jnp.array([[[1.0, 1.0, 2.0]]]))
    log_prob, entropy, _ = score_tokens(FIXED, hidden, jnp.array([[2]]), temperature=0.5)
    np.testing.assert_allclose(log_prob, [[np.log(2 / 3)]], rtol=1e-6)
    # -(2/3) log(2/3) - 2 (1/6) log(1/6)
    np.testing.assert_allclose(entropy, [[np.log(1.5) * 2 / 3 + np.log(6.0) / 3]], rtol=1e-6)


def test_an_even_distribution_has_the_highest_entropy():
    entropy = score_tokens(FIXED, jnp.full((1, 1, 8), 3.0), jnp.array([[5]])).entropy
    np.testing.assert_allclose(entropy, np.log(8.0), rtol=1e-6)


def test_large_logits_do_no_harm():
    log_prob, entropy, _ = score_tokens(FIXED, jnp.array([[[3e4, -3e4, 0.0]]]), jnp.array([[0]]))
    np.testing.assert_array_equal(log_prob, 0.0)
    np.testing.assert_array_equal(entropy, 0.0)


def said_and_slope(model, hidden):
    """What is said, and the slope of a mixture of all of it in the hidden states and the weights."""

    def mixture(arguments):
        log_prob, entropy, _ = score_tokens(*arguments, IDS, temperature=0.7)
        weight = jnp.arange(1.0, IDS.size + 1.0).reshape(IDS.shape)
        return jnp.sum(weight * log_prob) + jnp.sum(jnp.sin(weight) * entropy)

    return jax.jit(lambda *x: (score_tokens(*x, IDS, 0.7), jax.grad(mixture)(x)))(model, hidden)


@pytest.mark.parametrize("most", [1, 40, 11 * 20])
def test_parts_say_what_the_whole_says(monkeypatch, most):
    """21 tokens of 11 logits: one, three, or eleven tokens at a time, the last part filled up."""
    whole, slope = said_and_slope(MODEL, HIDDEN)
    monkeypatch.setattr(module, "MOST_LOGITS", most)
    parts, slope_of_parts = said_and_slope(MODEL, HIDDEN)
    np.testing.assert_allclose(parts.log_prob, whole.log_prob, rtol=1e-5)
    np.testing.assert_allclose(parts.entropy, whole.entropy, rtol=1e-5)
    np.testing.assert_array_equal(parts.best, whole.best)
    for ours, theirs in zip(jax.tree.leaves(slope_of_parts), jax.tree.leaves(slope), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_logits_are_never_all_there_at_once():
    """The largest array of a compiled gradient has fewer numbers than [tokens, vocabulary]."""
    model = small_model(vocabulary=2**14, size=4)
    ids = jnp.zeros((2, 1024), jnp.int32)  # 2^25 logits

    def loss(model, hidden):
        return jnp.sum(score_tokens(model, hidden, ids)[0])

    compiled = jax.jit(jax.grad(loss)).lower(model, jnp.zeros((2, 1024, 4))).compile()
    memory = compiled.memory_analysis()
    if memory is None:
        pytest.skip("this backend does not tell")
    assert memory.temp_size_in_bytes < 4 * 2**25


def test_loss_of_tokens_is_that_of_each_given_those_before():
    losses = jax.jit(loss_of_tokens)(MODEL, IDS, jnp.ones_like(IDS))
    logits = np.asarray(jax.jit(lambda model, ids: model.logits(model.hidden(ids)))(MODEL, IDS))
    for row in range(3):
        for place in range(1, 7):
            before = logits[row, place - 1]
            wanted = np.log(np.exp(before).sum()) - before[IDS[row, place]]
            np.testing.assert_allclose(losses[row, place], wanted, rtol=1e-5)
    np.testing.assert_array_equal(losses[:, 0], 0.0)


def test_loss_of_tokens_looks_at_its_own_document_alone():
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 0]])
    row = IDS[:1]
    packed = jax.jit(loss_of_tokens)(MODEL, row, segments)
    for document in (slice(0, 3), slice(3, 6)):
        alone = jax.jit(loss_of_tokens)(MODEL, row[:, document], jnp.ones((1, 3), jnp.int32))
        np.testing.assert_allclose(packed[:, document][:, 1:], alone[:, 1:], rtol=1e-5)
