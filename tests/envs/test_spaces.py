"""Codecs: what an environment says becomes a float32 vector, what a policy says becomes an action."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from proximo.core.types import Binary, Categories, Continuous, Parts
from proximo.envs import ObservationCodec, action_codec, observation_codec
from proximo.envs.actions import ActionCodec, codecs
from proximo.envs.scaling import scaled_codec
from proximo.errors import EnvironmentFault, Misfit, UserError

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
boxes = st.builds(
    lambda shape, dtype: spaces.Box(0 if dtype == np.uint8 else -3, 7, shape, dtype),
    shapes,
    st.sampled_from([np.float32, np.float64, np.uint8, np.int16]),
)
discretes = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3))
multi_discretes = nps.arrays(
    np.int64, nps.array_shapes(max_dims=2, max_side=3), elements=st.integers(1, 4)
).map(lambda nvec: spaces.MultiDiscrete(nvec, start=np.arange(nvec.size).reshape(nvec.shape) - 1))
multi_binaries = nps.array_shapes(max_dims=2, max_side=3).map(spaces.MultiBinary)
leaves = boxes | discretes | multi_discretes | multi_binaries
any_space = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(spaces.Dict)
    ),
    max_leaves=5,
)


def encode(codec, batch, count):
    out = np.full((count, *codec.shape), np.nan, np.float32)
    codec.encode(batch, out)
    return out


@given(any_space, st.integers(0, 100))
def test_one_observation_is_encoded_as_gymnasium_flattens_it(space, seed):
    space.seed(seed)
    observation = space.sample()
    codec = observation_codec(space)
    (encoded,) = encode(codec, codec.batch_of_one(observation), 1)
    assert encoded.dtype == np.float32 and encoded.shape == codec.shape == codec.normalised.shape
    np.testing.assert_array_equal(encoded, spaces.flatten(space, observation).astype(np.float32))


@given(any_space, st.integers(1, 3), st.integers(0, 100))
def test_a_batch_is_its_observations_one_above_the_other(space, count, seed):
    batched = batch_space(space, count)
    batched.seed(seed)
    batch = batched.sample()
    codec = observation_codec(space)
    ones = gym.vector.utils.iterate(batched, batch)
    singles = [encode(codec, codec.batch_of_one(one), 1)[0] for one in ones]
    np.testing.assert_array_equal(encode(codec, batch, count), singles)


def test_a_normaliser_may_move_measured_numbers_only():
    space = spaces.Dict(
        action_mask=spaces.MultiBinary(2),
        flag=spaces.Box(0, 1, (1,), np.int8),
        level=spaces.Discrete(3),
        speed=spaces.Box(-1, 1, (2,), np.float32),
    )
    assert observation_codec(space).normalised.tolist() == [False] * 6 + [True] * 2


def test_values_are_counted_from_start():
    codec = observation_codec(spaces.Discrete(3, start=5))
    np.testing.assert_array_equal(encode(codec, np.array([5, 7]), 2), [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("space", "batch", "says"),
    [
        (spaces.Box(-1, 1, (4,)), np.zeros((2, 3)), r"has shape \(3,\), but its space declares \(4,\)"),
        (spaces.Box(-1, 1, (4,)), np.zeros((1, 4)), "shape"),  # would be repeated by a plain assignment
        (spaces.Box(-1, 1, (2, 2)), np.zeros((2, 4)), "shape"),
        (spaces.Discrete(3), np.array([0, 3]), "between 0 and 3, the space has .3. values counted from .0."),
        (spaces.Discrete(3), np.array([0, -1]), "outside its space"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2)), {"a": np.zeros(2, int)}, "no part 'b'"),
    ],
)
def test_a_batch_that_does_not_fit_is_a_fault(space, batch, says):
    with pytest.raises(EnvironmentFault, match=says):
        encode(observation_codec(space), batch, 2)


@given(
    leaves, nps.arrays(np.float32, (2, 81), elements=st.floats(width=32, allow_nan=False)), st.integers(0, 9)
)
def test_every_action_of_a_policy_is_legal(space, numbers, seed):
    """Whatever real numbers a Gaussian draws; and all the choices and switches of the discrete kinds."""
    codec = action_codec(space)
    generator = np.random.default_rng(seed)
    match codec.kind:
        case Continuous(size):
            action = numbers[:, :size]
        case Categories(sizes, scalar):
            action = generator.integers(0, sizes, (2, len(sizes)), dtype=np.int32)
            action = action[:, 0] if scalar else action
        case Binary(size):
            action = generator.integers(0, 2, (2, size), dtype=np.int32)
    before = action.copy()
    batch = codec.to_environment(action)
    assert batch.dtype == space.dtype and batch.shape == (2, *space.shape)
    assert all(space.contains(np.asarray(one)) for one in batch)
    assert space.contains(np.asarray(codec.to_environment_one(action[1])))
    np.testing.assert_array_equal(action, before)  # what is stored stays as it was sampled


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.float64])
def test_the_widest_bounds_hold(dtype):
    info = np.finfo(dtype) if dtype == np.float64 else np.iinfo(dtype)
    space = spaces.Box(info.min, info.max, (2,), dtype)
    action = np.array([[np.inf, -np.inf]], np.float32)
    assert space.contains(action_codec(space).to_environment(action)[0])


def test_bounds_that_float64_does_not_hold_are_kept():
    only = 2**53 + 1
    assert action_codec(spaces.Box(only, only, (1,), np.int64)).to_environment(np.zeros((1, 1))) == [[only]]


def test_whole_numbers_are_rounded_to_the_nearest():
    space = spaces.Box(-5, 5, (1, 3), np.int8)
    action = np.array([[1.6, -1.6, 0.4]], np.float32)
    assert action_codec(space).to_environment(action).tolist() == [[[2, -2, 0]]]


def test_the_kinds_of_action():
    assert action_codec(spaces.Discrete(4)).kind == Categories((4,), scalar=True)
    assert action_codec(spaces.MultiDiscrete([2, 3])).kind == Categories((2, 3))
    assert action_codec(spaces.MultiBinary((2, 2))).kind == Binary(4)
    assert action_codec(spaces.Box(-1, 1, (2, 3))).kind == Continuous(6)


def test_an_environment_may_keep_the_action_it_was_given():
    codec = action_codec(spaces.Box(-1, 1, (1,)))
    kept = codec.to_environment(np.array([[0.5]], np.float32))
    codec.to_environment(np.array([[0.1]], np.float32))
    assert kept.tolist() == [[0.5]]


@pytest.mark.parametrize("codec", [observation_codec, action_codec])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Discrete(2)),
    ],
)
def test_an_unsupported_space_says_what_to_do(codec, space):
    with pytest.raises(UserError, match=rf"{type(space).__name__}.*not supported: .*wrap") as raised:
        codec(space)
    assert "\n" not in str(raised.value)


LARGE = [spaces.Discrete(2**40), spaces.Discrete(5_000_000), spaces.MultiDiscrete([20_000, 20_000])]


@pytest.mark.parametrize("space", LARGE, ids=str)
def test_more_choices_than_memory_has_room_for_are_refused_before_any_is_made(space):
    with pytest.raises(UserError, match="one-hot entries, and at most 32,768 are supported: return several"):
        observation_codec(space)
    with pytest.raises(UserError, match="at most 32,768 are supported: split it into smaller choices"):
        action_codec(space)


def test_the_components_of_an_action_have_room_for_the_largest_of_them():
    # 400 components of 2 choices and one of 100: a network gives 401 x 100 = 40,100 logits.
    space = spaces.MultiDiscrete([2] * 400 + [100])
    with pytest.raises(UserError, match="needs 40,100 logits"):
        action_codec(space)
    assert observation_codec(space).shape == (900,)


NOTHING = [spaces.Box(-1, 1, (0,)), spaces.Box(-1, 1, (2, 0)), spaces.MultiDiscrete(np.zeros(0, np.int64))]


@pytest.mark.parametrize("space", [*NOTHING, spaces.Tuple(()), spaces.Dict({})], ids=str)
def test_an_observation_without_an_entry_is_refused(space):
    with pytest.raises(UserError, match="has no entries, so a policy would see nothing: give it one"):
        codecs(space, spaces.Discrete(2))


@pytest.mark.parametrize("space", NOTHING, ids=str)
def test_an_action_without_an_entry_is_refused(space):
    with pytest.raises(UserError, match="has no entries, so there is nothing to learn"):
        codecs(spaces.Discrete(2), space)


def test_one_part_of_an_observation_may_be_without_an_entry():
    space = spaces.Dict(nothing=spaces.Box(-1, 1, (0,)), something=spaces.Box(-1, 1, (2,)))
    assert codecs(space, spaces.Discrete(2))[0].shape == (2,)


def test_an_offset_is_subtracted_before_float32_rounds():
    # float32 holds 1.7e9 in steps of 128: 1.7e9 + 3 and 1.7e9 + 4 are one number to it.
    codec = observation_codec(spaces.Box(-np.inf, np.inf, (2,), np.float64))
    batch = np.array([[1.7e9 + 3, 0.5], [1.7e9 + 4, 0.5]])
    assert encode(codec, batch, 2).tolist() == [[1.7e9, 0.5], [1.7e9, 0.5]]
    offset = codec.offset_from(batch, 2)
    assert offset.dtype == np.float32 and offset.tolist() == [1.7e9, 0.0]  # what is near 0 stays where it is
    assert encode(codec.about(offset), batch, 2).tolist() == [[3.0, 0.5], [4.0, 0.5]]


wide = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no float here holds 64 bits")


@pytest.mark.parametrize(
    ("space", "base"),
    [
        (spaces.Box(-np.inf, np.inf, (1,), np.float64), -5e6 + 0.125),
        (spaces.Box(0, 2**31, (1,), np.int64), 2**30),
        pytest.param(spaces.Box(0, 2**62, (1,), np.int64), 2**60, marks=wide),
        pytest.param(spaces.Box(0, 2**64 - 1, (1,), np.uint64), 2**63, marks=wide),
    ],
)
def test_steps_of_one_far_from_0_stay_steps_of_one(space, base):
    whole = spaces.Tuple([spaces.Discrete(2), space])
    row = lambda step: (np.array([1, 1]), np.array([[base + step], [base + step + 1]], space.dtype))  # noqa: E731
    codec = observation_codec(whole)
    codec = codec.about(codec.offset_from(row(-1), 2))
    encoded = encode(codec, row(0), 2)
    assert encoded[:, :2].tolist() == [[0, 1], [0, 1]] and encoded[1, 2] - encoded[0, 2] == 1


def test_switches_and_what_float32_cannot_hold_have_no_offset():
    space = spaces.Tuple([spaces.Discrete(2), spaces.Box(-np.inf, np.inf, (2,), np.float64)])
    with np.errstate(over="ignore"):
        offset = observation_codec(space).offset_from((np.array([1]), np.array([[1e39, np.nan]])), 1)
    assert offset.tolist() == [0, 0, 0, 0]


ARM = spaces.Dict(
    arm=spaces.Dict(
        grip=spaces.Discrete(3, start=5), joints=spaces.Box(np.float32([0, -1]), np.float32([2000, 1]))
    ),
    lamps=spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3], start=[1, 0]))),
)


def test_a_dict_of_actions_is_by_name_for_the_policy_and_in_the_form_of_its_space_for_the_environment():
    codec = action_codec(ARM)
    assert codec.kind == Parts(
        ("arm/grip", "arm/joints", "lamps/0", "lamps/1"),
        (Categories((3,), scalar=True), Continuous(2), Binary(2), Categories((2, 3))),
    )
    chosen = {
        "arm/grip": np.array([2, 0]),
        "arm/joints": np.array([[1.0, -5.0], [3000.0, 0.5]]),
        "lamps/0": np.array([[0, 1], [1, 1]]),
        "lamps/1": np.array([[1, 2], [0, 0]]),
    }
    batch = codec.to_environment(chosen)
    assert batch["arm"]["grip"].tolist() == [7, 5]
    assert batch["arm"]["joints"].tolist() == [[1, -1], [2000, 0.5]]
    assert batch["lamps"][1].tolist() == [[2, 2], [1, 0]]
    assert batch_space(ARM, 2).contains(batch)
    one = codec.to_environment_one({name: part[0] for name, part in chosen.items()})
    assert ARM.contains(one)
    scaled = scaled_codec(ARM).to_environment({**chosen, "arm/joints": np.array([[0.0, 1.0], [1.0, -1.0]])})
    assert scaled["arm"]["joints"].tolist() == [[1000, 1], [2000, -1]]  # real numbers act from -1 to 1


@pytest.mark.parametrize(
    ("codec", "space", "says"),
    [
        (
            observation_codec,
            spaces.Dict(me=spaces.Dict(items=spaces.Sequence(spaces.Discrete(2)))),
            r"the part 'me/items' of the observation space, Sequence.*a Box of the longest sequence",
        ),
        (
            observation_codec,
            spaces.Tuple((spaces.Discrete(2), spaces.Graph(spaces.Box(-1, 1, (2,)), None))),
            r"the part '1' of the observation space, Graph.*a Box of its nodes",
        ),
        (action_codec, spaces.Dict(say=spaces.Text(3)), r"the part 'say' of the action space, Text.*use Box"),
        (action_codec, spaces.Dict({}), "has no parts, so there is nothing to learn"),
    ],
)
def test_a_part_that_is_not_supported_is_named_by_its_keys_with_what_to_do(codec, space, says):
    with pytest.raises(UserError, match=says) as raised:
        codec(space)
    assert "\n" not in str(raised.value)


def test_a_text_is_the_numbers_of_its_characters_and_one_hot_in_a_vector():
    space = spaces.Text(3, charset="ba")
    codec = observation_codec(space)
    out = np.empty((3, 6), np.float32)
    codec.encode(("ab", "", "bba"), out)  # as Gymnasium's vectors give it; ours has numbers
    a, b, end = [1, 0], [0, 1], [0, 0]
    assert out.tolist() == [a + b + end, end * 3, b + b + a]
    again = np.empty_like(out)
    codec.encode(np.array([[1, 2, 0], [0, 0, 0], [2, 2, 1]], np.int32), again)
    np.testing.assert_array_equal(again, out)
    for text, says in {
        "xa": "the character 'x' in its observation, which is not in the charset of its space",
        "aaaa": "a text of 4 characters as its observation, at most 3 are declared",
        7: "the int 7 as its observation, but its space declares a text",
    }.items():
        with pytest.raises(Misfit, match=says):
            codec.batch_of_one(text)


def test_later_kinds_of_space_join_by_registration():
    class Colour(spaces.Space):
        pass

    @observation_codec.register
    def _(space: Colour) -> ObservationCodec:
        return ObservationCodec((3,), np.ones(3, bool), lambda batch, out: out.fill(0.5))

    @action_codec.register
    def _(space: Colour) -> ActionCodec:
        return ActionCodec(Continuous(3), lambda action: action)

    assert observation_codec(spaces.Tuple([Colour(), spaces.Discrete(2)])).shape == (5,)
    assert action_codec(Colour()).kind == Continuous(3)
