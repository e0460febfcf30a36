"""Parts of an observation as features: each part by itself, joined, and images modulated by the rest."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core.types import Choices, Picture, Seen, Tokens, Words
from proximo.policies.convolution import Small
from proximo.policies.encoders import BLOCK, Encoders, TextEncoder, channels_last, reading_in_words
from proximo.policies.memory import Lstm
from proximo.policies.options import NetworkOptions

KEY = jax.random.key(0)
PARTS = {"camera": Picture((3, 9, 8)), "kind": Choices((50, 2)), "mission": Tokens(6, 10)}
OPTIONS = NetworkOptions(image_network=Small((4,), 5), embedding=3, text_features=7, initialiser="lecun")


def observations(*axes):
    random = np.random.default_rng(0)
    return {
        "vector": random.normal(size=(*axes, 2)).astype(np.float32),
        "camera": random.integers(0, 256, (*axes, 3, 9, 8), np.uint8),
        "kind": random.integers(0, 2, (*axes, 2)).astype(np.int32),
        "mission": random.integers(1, 10, (*axes, 6)).astype(np.int32),
    }


def made(options=OPTIONS):
    return Encoders(KEY, Seen(2, PARTS), options)


def test_numbers_come_first_then_what_each_part_becomes():
    encoders = made()
    assert encoders.size == 2 + 5 + 2 * 3 + 7
    obs = observations(4, 2)
    features = eqx.filter_jit(encoders)(obs)
    assert features.shape == (4, 2, 20)
    np.testing.assert_array_equal(features[..., :2], obs["vector"])
    one = eqx.filter_jit(encoders)(jax.tree.map(lambda x: x[1, 0], obs))
    np.testing.assert_allclose(features[1, 0], one, atol=1e-5)


@pytest.mark.parametrize("name", ["camera", "kind", "mission"])
def test_a_part_changes_its_own_features_alone(name):
    places = {"camera": slice(2, 7), "kind": slice(7, 13), "mission": slice(13, 20)}
    obs = observations(4)
    other = {**obs, name: (255 if name == "camera" else 1) - obs[name] % 2}
    changed = np.any(eqx.filter_jit(made())(obs) != eqx.filter_jit(made())(other), axis=0)
    assert changed[places[name]].any()
    assert not np.delete(changed, np.r_[places[name]]).any()


def test_an_image_may_have_its_channels_first_last_or_none():
    assert channels_last(Picture((3, 9, 8))) == (9, 8, 3)
    assert channels_last(Picture((9, 8, 3))) == (9, 8, 3)
    assert channels_last(Picture((4, 84, 84))) == (84, 84, 4)
    assert channels_last(Picture((12, 84, 84))) == (
        84,
        84,
        12,
    )  # four colour pictures, before a larger square
    assert channels_last(Picture((9, 8))) == (9, 8, 1)
    assert channels_last(Picture((7, 7, 16))) == (7, 7, 16)  # more than colours: planes of a board, behind


@pytest.mark.parametrize(
    ("shape", "dtype", "clear"),
    [
        ((96, 96, 3), "uint8", True),
        ((4, 84, 84), "uint8", True),
        ((3, 9, 8), "uint8", True),
        ((9, 8), "uint8", True),  # it has none
        ((120, 160, 12), "uint8", True),  # four pictures, one behind the other: the small end
        ((12, 120, 160), "uint8", False),  # the same in front is taken for 12 rows
        ((7, 7, 16), "uint8", True),  # behind a square, as the planes of a board are
        ((10, 10, 10), "bool", True),  # MinAtar's Seaquest
        ((6, 7, 9), "bool", False),  # 6 rows, or 6 planes?
        ((3, 32, 3), "uint8", False),
        ((4, 4, 3), "uint8", True),
        ((4, 4, 4), "uint8", False),
        ((4, 4, 4), "bool", True),  # no picture is of bools
        ((3, 3, 40), "uint8", False),
        ((40, 3, 3), "uint8", False),
    ],
)
def test_whether_a_shape_tells_where_the_channels_are(shape, dtype, clear):
    kind = Picture(shape, dtype)
    assert kind.order_is_clear == clear
    assert clear or channels_last(kind) == shape  # where it does not, they are taken to be last


def test_floats_from_0_to_1_are_seen_as_the_bytes_they_stand_for():
    encoders, obs = made(), observations(4)
    floats = {**obs, "camera": obs["camera"] / np.float32(255.0)}
    np.testing.assert_allclose(encoders(obs), encoders(floats), atol=1e-6)


def test_what_is_behind_the_end_of_a_text_is_not_read():
    encoder = TextEncoder(KEY, Tokens(5, 9), OPTIONS)
    longer = TextEncoder(KEY, Tokens(8, 9), OPTIONS)
    np.testing.assert_allclose(
        encoder(jnp.array([3, 1, 4, 0, 0])), longer(jnp.array([3, 1, 4, 0, 0, 0, 0, 0])), atol=1e-6
    )
    assert np.any(encoder(jnp.array([3, 1, 4, 0, 0])) != encoder(jnp.array([1, 3, 4, 0, 0])))  # in order
    np.testing.assert_array_equal(encoder(jnp.zeros(5, jnp.int32)), 0.0)  # no text


def test_a_text_of_several_blocks_is_read_in_order_and_to_its_end():
    encoder = TextEncoder(KEY, Words(3 * BLOCK), OPTIONS)
    text = jnp.arange(1, 3 * BLOCK + 1) * 1234
    states, _ = encoder.reader(encoder.embedded(text[:, None]), None, encoder.reader.begin(1))
    for length in (0, 1, BLOCK, BLOCK + 3, 3 * BLOCK):
        read = encoder(jnp.where(jnp.arange(3 * BLOCK) < length, text, 0))
        expected = states[length - 1, 0] if length else 0.0
        np.testing.assert_allclose(read, expected, atol=1e-6)


def test_words_that_share_half_of_their_hash_differ():
    encoder = TextEncoder(KEY, Words(1), OPTIONS)
    first, second, third = encoder.embedded(jnp.array([5 * 1024 + 7, 5 * 1024 + 8, 6 * 1024 + 7]))
    assert np.any(first != second) and np.any(first != third)
    assert encoder.table.shape == (1024, OPTIONS.embedding)


def test_modulation_begins_as_none_and_then_lets_the_rest_change_what_is_seen():
    plain, modulated = made(), made(replace(OPTIONS, modulate=True))
    obs = observations(4)
    np.testing.assert_allclose(plain(obs), modulated(obs), atol=1e-6)
    stirred = jax.tree.map(lambda x: x + 0.1, modulated)
    other = {**obs, "mission": obs["mission"][:, ::-1]}
    assert np.any(stirred(obs)[:, 2:7] != stirred(other)[:, 2:7])


def test_how_each_part_is_read_is_said_in_one_line():
    assert reading_in_words(OPTIONS, Seen(2, PARTS)) == (
        "read: 'camera' by convolutions (small) + 'kind' as 3 learned numbers each + "
        "'mission' by a GRU over letters, as 7 numbers + 2 numbers"
    )
    remembering = NetworkOptions(network=Lstm(32))
    assert reading_in_words(remembering, Seen(0, {"image": Picture((84, 84, 4))})) == (
        "read: 'image' by convolutions (nature); memory: lstm of 32"
    )
    assert reading_in_words(OPTIONS, Seen(4, {})) == ""
