"""What a training says it found in the spaces: one line, in plain words."""

import numpy as np
import pytest
from gymnasium import spaces

from proximo.envs.space_words import in_words

ONE = spaces.Box(-1, 1, (1,))


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (spaces.Box(-5, 5, (4,)), "4 numbers"),
        (ONE, "1 number"),
        (spaces.Box(-5, 5, (2, 3)), "6 numbers"),
        (spaces.Discrete(16), "1 category (16)"),
        (spaces.MultiDiscrete([3, 4]), "2 categories (3, 4)"),
        (spaces.MultiBinary(4), "4 switches"),
        (spaces.Box(0, 255, (96, 96, 3), np.uint8), "1 image of 96 x 96 x 3"),
        (spaces.Box(0.0, 1.0, (96, 96, 3), np.float32), "1 image of 96 x 96 x 3"),
        (
            spaces.Dict(sensors=spaces.Box(-5, 5, (5,)), mode=spaces.Discrete(3)),
            "5 numbers as 'sensors' + 1 category (3) as 'mode'",
        ),
        (spaces.Tuple((spaces.Box(-5, 5, (5,)), spaces.Discrete(3))), "5 numbers + 1 category (3)"),
        (
            spaces.Dict(arm=spaces.Dict(left=ONE, right=spaces.MultiBinary(1))),
            "1 number as 'arm/left' + 1 switch as 'arm/right'",
        ),
        (
            spaces.Dict({f"part-{index}": ONE for index in range(9)}),
            " + ".join(f"1 number as 'part-{index}'" for index in range(6)) + " + 3 more parts",
        ),
    ],
)
def test_an_observation_in_words(space, says):
    assert in_words(space, spaces.Discrete(2), scaled=True) == f"observation: {says}; action: 1 of 2 choices"


@pytest.mark.parametrize(
    ("space", "scaled", "says"),
    [
        (spaces.Box(0, 2000, (1,)), True, "1 number in [0, 2000], scaled from [-1, 1]"),
        (spaces.Box(0, 2000, (1,)), False, "1 number in [0, 2000], not scaled"),
        (spaces.Box(-1, 1, (6,)), True, "6 numbers in [-1, 1]"),
        (spaces.Box(-1, 1, (6,)), False, "6 numbers in [-1, 1]"),
        (
            spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 5, 5])),  # steer, gas, brake
            True,
            "1 number in [-1, 1] + 2 numbers in [0, 5], scaled from [-1, 1]",
        ),
        (spaces.Box(0, np.inf, (2,)), True, "2 numbers in [0, inf), not scaled"),
        (spaces.Box(-np.inf, np.inf, (2,)), True, "2 numbers without bounds, not scaled"),
        (spaces.Box(0, 255, (1,), np.uint8), True, "1 whole number in [0, 255], scaled from [-1, 1]"),
        (spaces.MultiDiscrete([3, 2]), True, "2 choices (3, 2)"),
        (spaces.MultiDiscrete([3] * 9), True, "9 choices (3 each)"),
        (spaces.MultiBinary(4), True, "4 switches"),
    ],
)
def test_an_action_in_words(space, scaled, says):
    assert in_words(ONE, space, scaled=scaled) == f"observation: 1 number; action: {says}"
