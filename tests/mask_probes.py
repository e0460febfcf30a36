"""Environments in which some actions are illegal."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Bandit(gym.Env):
    """One step an episode. Arm k pays k, but only the arms in `legal` may be pulled; any other raises.

    how   it tells that: "info", "method", "part" (of its observation), several of these with "+" between
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, how="info", arms=5, legal=(0, 2)):
        self.how, self.legal, self.arms = how.split("+"), list(legal), arms
        self.action_space = spaces.Discrete(arms)
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        if "part" in self.how:
            mask = spaces.MultiBinary(arms)
            self.observation_space = spaces.Dict(action_mask=mask, one=self.observation_space)
        if "method" in self.how:
            self.action_masks = self.mask

    def mask(self):
        flags = np.zeros(self.arms, np.int8)
        flags[self.legal] = 1
        return flags

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.told()

    def step(self, action):
        if action not in self.legal:
            raise ValueError(f"arm {action} is illegal")
        obs, info = self.told()
        return obs, float(action), True, False, info

    def told(self):
        obs = np.ones(1, np.float32)
        if "part" in self.how:
            obs = {"action_mask": self.mask(), "one": obs}
        return obs, {"action_mask": self.mask()} if "info" in self.how else {}


class Wrong(Bandit):
    """A bandit of five steps whose mask is `wrong` from the second step on."""

    def __init__(self, wrong, how="info"):
        super().__init__(how)
        self.wrong, self.steps = wrong, 0

    def mask(self):
        return super().mask() if self.steps < 2 else self.wrong

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.steps += 1
        obs, info = self.told()
        return obs, float(action), self.steps == 5, False, info


class Game(gym.Env):
    """Other actions are legal in each step, and any other raises; it saves its state, and draws itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    action_space = spaces.Discrete(5, start=1)

    def __init__(self, render_mode=None, fails_at=0):
        self.render_mode, self.fails_at, self.steps = render_mode, fails_at, 0
        self.observation_space = spaces.Dict(
            seen=spaces.Box(-9.0, 9.0, (3,), np.float32), action_mask=spaces.MultiBinary(5)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.drawn(), {}

    def drawn(self):
        self.flags = self.np_random.random(5) < 0.4
        self.flags[self.np_random.integers(5)] = True
        return {
            "seen": self.np_random.normal(size=3).astype(np.float32),
            "action_mask": self.flags.astype(np.int8),
        }

    def step(self, action):
        if not self.flags[action - 1]:
            raise ValueError(f"action {action} is illegal")
        self.steps, self.clock = self.steps + 1, self.clock + 1
        if self.steps == self.fails_at:
            raise RuntimeError("the simulator failed")
        return self.drawn(), float(action), False, self.clock == 20, {}

    def get_state(self):
        generator = self.np_random.bit_generator.state
        return {"flags": self.flags.copy(), "clock": self.clock, "steps": self.steps, "random": generator}

    def set_state(self, state):
        self.flags, self.clock, self.steps = state["flags"], state["clock"], state["steps"]
        self.np_random.bit_generator.state = state["random"]

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


class Closes(Bandit):
    """A bandit that allows nothing when its episode has ended."""

    def step(self, action):
        obs, reward, *ends, info = super().step(action)
        return obs, reward, *ends, {"action_mask": 0 * info["action_mask"]}


class Identity(gym.Env):
    """As in sb3-contrib's tests: a reward of 1 for the action that is the observation; 100 steps.

    In each step `illegal` of all other values, chosen at random, are illegal.

    space  of both; a number for a Discrete one of so many
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, space=70, illegal=55, steps=100):
        space = spaces.Discrete(space) if isinstance(space, int) else space
        self.illegal, self.steps, self.sizes = illegal, steps, sizes_of(space)
        self.observation_space = self.action_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.drawn(), {}

    def drawn(self):
        self.values = self.np_random.integers(self.sizes)
        right = np.cumsum([0, *self.sizes[:-1]]) + self.values
        others = np.setdiff1d(np.arange(sum(self.sizes)), right)
        self.flags = np.ones(sum(self.sizes), bool)
        self.flags[self.np_random.choice(others, self.illegal, replace=False)] = False
        self.state = self.values.reshape(self.action_space.shape).astype(self.action_space.dtype)
        return self.state if self.state.ndim else int(self.state)

    def action_masks(self):
        return self.flags

    def step(self, action):
        reward, self.time = float(np.array_equal(action, self.state)), self.time + 1
        return self.drawn(), reward, False, self.time == self.steps, {}


def sizes_of(space):
    """How many values each component has."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    return space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [2] * space.n


class Pair(gym.Env):
    """Two choices of which each depends on the other: only equal ones are legal, and i, i pays i."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, size=3):
        self.size = size
        self.action_space = spaces.MultiDiscrete([size, size])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {"action_mask": np.eye(self.size, dtype=np.int8)}

    def step(self, action):
        assert action[0] == action[1], action
        obs, info = self.reset()
        return obs, float(action[0]), True, False, info
