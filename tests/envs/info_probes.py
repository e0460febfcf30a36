"""Environments that tell things in their info, rightly or wrongly."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Tells(gym.Env):
    """Three steps an episode. At clock c a step has cost c / 2; the end is a success if the seed is odd.

    Before the action at clock c the only legal one is c. At the end there is nothing to do any more; an info
    says so if the seed is odd, and has no mask if it is even.

    how   it tells that: "info", "method", "part" (of its observation), or "" for not at all
    says  what the info of its second step has instead
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = spaces.Discrete(3)

    def __init__(self, how="info", says=None):
        self.how, self.says = how, says
        self.observation_space = spaces.Box(0, 3, (1,), np.float32)
        if how == "part":
            parts = dict(action_mask=spaces.MultiBinary(3), clock=self.observation_space)
            self.observation_space = spaces.Dict(parts)
        if how == "method":
            self.action_masks = self.mask

    def mask(self):
        return np.arange(3) == self.clock

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.seeded = seed
        self.clock = 0
        return self.told({})

    def step(self, action):
        self.clock += 1
        info = {"cost": self.clock / 2}
        if self.clock == 3:
            info["is_success"] = bool(self.seeded % 2)
        obs, info = self.told(info)
        return obs, 1.0, self.clock == 3, False, info

    def told(self, info):
        obs = np.full(1, self.clock, np.float32)
        if self.how == "part":
            obs = {"action_mask": self.mask().astype(np.int8), "clock": obs}
        if self.how == "info" and (self.clock < 3 or self.seeded % 2):
            info["action_mask"] = self.mask().astype(np.int8)
        if self.clock == 2 and self.says is not None:
            info |= self.says
        return obs, info


class Saves(Tells):
    """It can be put back."""

    def get_state(self):
        return {"clock": self.clock, "seeded": self.seeded}

    def set_state(self, state):
        self.clock, self.seeded = state["clock"], state["seeded"]


class Breaks(Tells):
    """Raises in its third step, if it was seeded with 7."""

    def step(self, action):
        if self.clock == 2 and self.seeded == 7:
            raise ZeroDivisionError("gone")
        return super().step(action)


class Parts(gym.Env):
    """Tells a mask that it is given, of an action of several parts."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, action_space, mask):
        self.action_space, self.mask = action_space, mask

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {"action_mask": self.mask}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {"action_mask": self.mask}
