"""Sampling: what is drawn is what whole passes say, however it was computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import CONFIGS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_models import small_model

from proximo.language.model.config import model_config
from proximo.language.model.sampler import Sampling, draw, is_stop, sample, truncate_logits
from proximo.language.model.transformer import new_model

PROMPTS = np.array([[0, 0, 3, 4], [5, 6, 7, 8], [0, 9, 9, 1]], np.int32)  # padded left with 0
LENGTHS = np.array([2, 4, 3], np.int32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model():
    return small_model(layers=1)


def drawn(model, prompts=PROMPTS, lengths=LENGTHS, key=KEY, **options):
    options = {"length": 6, "eos_ids": (1,)} | options
    return jax.device_get(sample(model, prompts, lengths, key, Sampling(**options), 0))


def whole_pass(model, out, prompts=PROMPTS, lengths=LENGTHS):
    """Logits that a pass over the whole texts gives before each token of the responses."""
    rows, width = np.repeat(np.arange(len(prompts)), len(out.ids) // len(prompts)), prompts.shape[1]
    ids = np.concatenate([prompts[rows], out.ids], axis=1)
    place = np.arange(ids.shape[1])
    segments = (place >= (width - lengths[rows])[:, None]) & (place < (width + out.lengths)[:, None])
    return np.asarray(logits_of(model, ids, np.int32(segments)))[:, width - 1 : -1]


logits_of = jax.jit(lambda model, ids, segments: model.logits(model.hidden(ids, segments)))


def valid(out):
    return np.arange(out.ids.shape[1]) < out.lengths[:, None]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3"])
def test_greedy_is_the_likeliest_token_of_a_whole_pass(family):
    # Learned positions; rotation and grouped queries; windows of 4 and soft caps; windows and head norms.
    model = new_model(model_config(CONFIGS[family]), KEY)
    out = drawn(model, temperature=0.0)
    np.testing.assert_array_equal(whole_pass(model, out).argmax(-1)[valid(out)], out.ids[valid(out)])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_those_of_the_distribution_drawn_from(model, temperature):
    out = drawn(model, temperature=temperature, samples=2)
    said = jax.nn.log_softmax(whole_pass(model, out) / temperature)
    chosen = np.take_along_axis(np.asarray(said), out.ids[..., None], -1)[..., 0]
    np.testing.assert_allclose(out.log_probs[valid(out)], chosen[valid(out)], atol=1e-5)
    assert not out.log_probs[~valid(out)].any()


def test_padding_on_the_left_changes_nothing(model):
    wide = np.pad(PROMPTS, ((0, 0), (4, 0)), constant_values=7)
    a, b = drawn(model), drawn(model, prompts=wide)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)


def test_samples_of_a_prompt_are_those_of_the_prompt_repeated(model):
    a = drawn(model, samples=2)
    b = drawn(model, prompts=np.repeat(PROMPTS, 2, 0), lengths=np.repeat(LENGTHS, 2))
    np.testing.assert_array_equal(a.ids, b.ids)
    assert (a.ids[0] != a.ids[1]).any()


def test_a_response_ends_with_its_end_token(model):
    out = drawn(model, samples=20)
    for row, log_probs, length, finished in zip(*out, strict=True):
        assert finished == (row[length - 1] == 1)
        assert (row[: length - 1] != 1).all() and not row[length:].any()
        assert finished or length == 6
        assert log_probs[length - 1] < 0  # the end token was drawn like any other
    assert 0 < out.finished.sum() < len(out.finished)


def test_an_early_end_of_all_does_not_change_them(model):
    # The loop stops once all rows have ended; the same rows beside one that goes on are the same.
    every = tuple(range(16))
    assert drawn(model, eos_ids=every).lengths.tolist() == [1, 1, 1]
    first = drawn(model, eos_ids=())
    np.testing.assert_array_equal(drawn(model, eos_ids=every).ids[:, 0], first.ids[:, 0])


def test_the_first_tokens_frequencies_are_the_softmax():
    logits = jnp.array([0.0, 1.0, -1.0, 2.0, -30.0, 0.5, 0.1])
    noise = jax.random.uniform(KEY, (2, 20_000))
    tokens = np.asarray(draw(jnp.broadcast_to(logits, (20_000, 7)), noise))
    counts = np.bincount(tokens, minlength=7)
    expected = np.asarray(jax.nn.softmax(logits), np.float64) * 20_000
    assert counts[4] == 0  # e^-30
    keep = np.arange(7) != 4
    assert chisquare(counts[keep], expected[keep] * 20_000 / expected[keep].sum()).pvalue > 1e-3


@given(st.lists(st.one_of(st.floats(-20, 20), st.just(-np.inf)), min_size=1, max_size=12), st.data())
@settings(max_examples=60)
def test_what_cannot_be_is_never_drawn(logits, data):
    if max(logits) == -np.inf:
        return
    edge = st.sampled_from([0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))])
    noise = jnp.array([[data.draw(edge)], [data.draw(edge)]], jnp.float32)
    token = int(draw(jnp.array([logits], jnp.float32), noise)[0])
    assert logits[token] > -np.inf


def test_truncation_by_hand():
    # Probabilities 0.5, 0.3, 0.15, 0.05.
    logits = jnp.log(jnp.array([[0.3, 0.5, 0.05, 0.15]]))

    def kept(**options):
        return np.flatnonzero(np.isfinite(truncate_logits(logits, Sampling(length=1, **options))[0])).tolist()

    assert kept(top_k=1) == [1] and kept(top_k=3) == [0, 1, 3] and kept(top_k=99) == [0, 1, 2, 3]
    assert kept(top_p=0.5) == [1] and kept(top_p=0.6) == [0, 1] and kept(top_p=0.0) == [1]
    assert kept(min_p=0.2) == [0, 1, 3]  # at least 0.2 x 0.5 = 0.1
    assert Sampling(length=1, min_p=0.1).truncates and not Sampling(length=1, temperature=2.0).truncates


def test_a_stop_sequence_ends_a_response():
    ids = jnp.array([[3, 3], [4, 5], [7, 7], [0, 0]])  # [T, B]; the third token was just drawn
    sampling = Sampling(length=4, stop_sequences=((4, 7),))
    assert is_stop(ids, ids[2], jnp.array(2), sampling).tolist() == [True, False]
    assert not is_stop(ids, ids[0], jnp.array(0), Sampling(length=4, stop_sequences=((9, 3),))).any()
    assert is_stop(ids, ids[0], jnp.array(0), Sampling(length=4, stop_sequences=((3,),))).all()
