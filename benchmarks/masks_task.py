"""The tasks of sb3-contrib's tests of masks: a reward of 1 for the action that is the observation.

In each step some of all other values, chosen at random, are illegal; 100 steps an episode. Its own classes
(`InvalidActionEnvDiscrete` and others) need torch and spend longer on a mask than a policy on an action:
these do the same with NumPy alone, and both libraries get them.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

STEPS = 100  # of an episode


class InvalidActions(gym.Env):
    """`sizes` values of each component of an action, of which `illegal` are illegal."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    sizes: tuple[int, ...]
    illegal: int

    def __init__(self) -> None:
        self.observation_space = self.action_space = self.space()
        self.first = np.cumsum([0, *self.sizes[:-1]])

    def space(self) -> gym.Space:
        """Of observations and of actions."""
        return spaces.MultiDiscrete(self.sizes)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.drawn(), {}

    def drawn(self) -> Any:
        """The next state, and what is illegal in it."""
        self.state = self.np_random.integers(self.sizes)
        chance = self.np_random.random(sum(self.sizes))
        chance[self.first + self.state] = 2.0  # the right values are never among the lowest
        self.legal = np.ones(len(chance), bool)
        self.legal[np.argpartition(chance, self.illegal)[: self.illegal]] = False
        return self.state.astype(self.action_space.dtype)

    def action_masks(self) -> np.ndarray:
        """Which values are legal, as both libraries ask for it."""
        return self.legal

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.time = float(np.array_equal(np.atleast_1d(action), self.state)), self.time + 1
        return self.drawn(), reward, False, self.time == STEPS, {}


class Discrete(InvalidActions):
    """70 actions, 55 of them illegal."""

    sizes, illegal = (70,), 55

    def space(self) -> gym.Space:
        return spaces.Discrete(self.sizes[0])

    def drawn(self) -> Any:
        return int(super().drawn()[0])


class MultiDiscrete(InvalidActions):
    """Four choices of ten, 20 of their values illegal."""

    sizes, illegal = (10,) * 4, 20


class MultiBinary(InvalidActions):
    """Ten switches, of which five are forced."""

    sizes, illegal = (2,) * 10, 5

    def space(self) -> gym.Space:
        return spaces.MultiBinary(len(self.sizes))


TASKS: dict[str, type[InvalidActions]] = {
    "discrete": Discrete,
    "multi-discrete": MultiDiscrete,
    "multi-binary": MultiBinary,
}
