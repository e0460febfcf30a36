"""A policy's actions from -1 to 1, mapped to the bounds of a Box: what becomes of which entry."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from proximo.envs import action_codec
from proximo.envs.scaling import scaled_codec, scaling_of, unscaled


def box(low, high, dtype=np.float32):
    return spaces.Box(np.asarray(low, dtype), np.asarray(high, dtype), dtype=dtype)


def applied(space, *actions):
    """What the environment gets for actions of the policy."""
    return scaled_codec(space).to_environment(np.array(actions, np.float32)).tolist()


def test_minus_1_is_the_low_bound_1_the_high_one_and_0_the_middle():
    watts = box([0, -30], [2000, 10])
    assert applied(watts, [-1, -1], [1, 1], [0, 0], [0.5, -0.5]) == [
        [0, -30],
        [2000, 10],
        [1000, -10],
        [1500, -20],
    ]


def test_the_ends_are_exact_where_low_plus_the_width_is_not_high():
    assert -1e20 + (1.0 - -1e20) == 0.0
    assert applied(box([-1e20], [1.0]), [1]) == applied(box([-1e20], [1.0], np.float64), [1]) == [[1.0]]


def test_what_lies_beyond_minus_1_and_1_is_clipped():
    assert applied(box([0], [2000]), [-7], [7], [np.inf], [-np.inf]) == [[0], [2000], [2000], [0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_of_minus_1_and_1_are_left_alone_bit_for_bit(dtype):
    space = box([-1, -1], [1, 1], dtype)
    assert scaling_of(space) is None  # no work in a step
    mixed = box([-1, 0], [1, 2000], dtype)
    action = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    expected = action_codec(space).to_environment(action)[:, 0]
    np.testing.assert_array_equal(scaled_codec(mixed).to_environment(action)[:, 0], expected)


@pytest.mark.parametrize(
    ("low", "high", "raw"),
    [
        (0, np.inf, [0, 0, 3]),  # clipped at the bound that there is
        (-np.inf, 2, [-1, 0, 2]),
        (-np.inf, np.inf, [-1, 0, 3]),
        (-3.4e38, 3.4e38, [-1, 0, 3]),  # a way to write no bound
        (5, np.inf, [5, 5, 5]),
    ],
)
def test_an_entry_without_two_bounds_stays_as_it_is(low, high, raw):
    space = box([low, 0], [high, 10])
    assert unscaled(space).tolist() == [True, False]
    found = applied(space, [-1, -1], [0, 0], [3, 1])
    assert found == [[value, scaled] for value, scaled in zip(raw, [0, 5, 10], strict=True)]


def test_an_entry_of_one_value_has_that_value():
    assert applied(box([0.3, 0], [0.3, 2]), [-1, -1], [0.4, 0], [9, 1]) == [
        [pytest.approx(0.3), 0],
        [pytest.approx(0.3), 1],
        [pytest.approx(0.3), 2],
    ]


def test_whole_numbers_are_scaled_and_rounded():
    assert applied(box([0], [255], np.uint8), [-1], [0], [0.01], [1]) == [[0], [128], [129], [255]]
    assert applied(box([-2], [2], np.int64), [-0.6], [0.2], [0.3]) == [[-1], [0], [1]]
    assert applied(spaces.Box(0, 1, (1,), bool), [-0.2], [0.2]) == [[False], [True]]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_the_ends_of_a_wide_integer_are_no_bounds(dtype):
    ends = np.iinfo(dtype)
    assert unscaled(spaces.Box(ends.min, ends.max, (1,), dtype)).all()
    assert not unscaled(spaces.Box(0, 100, (1,), dtype)).any()
    assert not unscaled(spaces.Box(0, 255, (1,), np.uint8)).any()


def test_shape_and_kind_of_other_spaces_are_those_of_their_codec():
    assert applied(spaces.Box(0, 10, (1, 2)), [0, 1]) == [[[5, 10]]]
    assert applied(spaces.Box(0, 10, ()), [0]) == [5]
    for space in (spaces.Discrete(3, start=4), spaces.MultiBinary(2)):
        assert scaled_codec(space).kind == action_codec(space).kind
    assert scaled_codec(spaces.Discrete(3, start=4)).to_environment(np.array([2])).tolist() == [6]


def test_in_an_environment_with_other_bounds_actions_keep_their_units():
    trained, here = box([0], [2000]), box([0], [1200])
    found = scaled_codec(trained, here).to_environment(np.array([[-0.5], [0.9]], np.float32))
    assert found.tolist() == [[500], [1200]]


KINDS = (np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, bool)


@st.composite
def boxes(draw):
    """Boxes of any bounds, equal, endless and huge ones among them."""
    dtype = np.dtype(draw(st.sampled_from(KINDS)))
    values = nps.from_dtype(dtype, allow_nan=False)
    ends = [draw(nps.arrays(dtype, 3, elements=values)) for _ in range(2)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    if dtype.kind == "f":  # a low bound of infinity is none
        low, high = np.where(low == np.inf, 0, low), np.where(high == -np.inf, 0, high)
    return box(np.minimum(low, high), np.maximum(low, high), dtype)


@given(boxes(), nps.arrays(np.float32, (20, 3), elements=st.floats(width=32, allow_nan=False)))
def test_every_action_lies_in_its_box_and_the_ends_are_exact(space, action):
    before = action.copy()
    batch = scaled_codec(space).to_environment(action)
    assert batch.dtype == space.dtype and batch.shape == action.shape
    assert all(space.contains(one) for one in batch)
    np.testing.assert_array_equal(action, before)  # what is stored stays as it was sampled
    mapped = ~unscaled(space) & (np.abs(space.high.astype(float)) < 2.0**53)
    low, high = scaled_codec(space).to_environment(np.array([[-1.0] * 3, [1.0] * 3], np.float32))
    np.testing.assert_array_equal(low[mapped], space.low[mapped])
    np.testing.assert_array_equal(high[mapped], space.high[mapped])


@given(boxes(), nps.arrays(np.float32, (2, 3), elements=st.floats(-1.5, 1.5, width=32)))
def test_a_larger_action_of_the_policy_is_no_smaller_in_the_environment(space, actions):
    smaller, larger = np.sort(actions, axis=0)
    below, above = scaled_codec(space).to_environment(np.stack([smaller, larger])).astype(np.longdouble)
    tolerance = 4 * np.finfo(float).eps * np.maximum(np.abs(below), np.abs(above))
    assert (below <= above + tolerance).all()
