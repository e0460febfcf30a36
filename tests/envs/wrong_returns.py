"""Environments that keep, change or return what they are told to; in a module that workers can import."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SPACE = spaces.Dict(
    real=spaces.Box(-10.0, 10.0, (2,), np.float32),
    byte=spaces.Box(0, 255, (2,), np.uint8),
    small=spaces.Box(-100, 100, (), np.int8),
    pair=spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary(2))),
)


def sound():
    """What a step may return."""
    return {
        "real": np.array([0.5, -0.5], np.float32),
        "byte": np.array([1, 2], np.uint8),
        "small": np.array(-3, np.int8),
        "pair": (np.int64(4), np.array([0, 1], np.int8)),
    }


def part(name, value):
    """A step whose observation has another part of that name."""
    return lambda: ({**sound(), name: value}, 1.0, False, False, {})


def ends(reward=1.0, terminated=False, truncated=False, info=()):
    return lambda: (sound(), reward, terminated, truncated, dict() if info == () else info)


# What a step returns -> a part of the complaint.
WRONG = {
    "a fraction for a whole number": (part("byte", np.array([0.7, 1.0])), r"returned 0.7 in its .*whole num"),
    "NaN for a whole number": (
        part("byte", np.array([1.0, np.nan])),
        r"returned nan in its observation\['by",
    ),
    "too large for 8 bits": (part("byte", np.array([1, 280])), r"280 in its .*uint8.*cannot hold"),
    "negative for unsigned": (part("byte", np.array([-1, 3])), r"-1 in its .*uint8.*cannot hold"),
    "too large for signed": (part("small", np.int64(200)), r"200 in its .*int8.*cannot hold"),
    "too large for float32": (part("real", np.array([1e39, 0.0])), r"1e\+39 in its .*too large for float32"),
    "one number for a row": (
        part("real", np.float32(0.5)),
        r"'real'\] of shape \(\), but its space declares \(2,\)",
    ),
    "a row of one": (part("real", np.zeros(1, np.float32)), r"of shape \(1,\), but its space declares \(2"),
    "a row too many": (part("real", np.zeros((1, 2), np.float32)), r"of shape \(1, 2\), but its space decl"),
    "text": (part("real", ["0.5", "1.0"]), r"returned the list \['0.5', '1.0'\] as its observation"),
    "nothing": (part("real", None), r"returned the NoneType None as its observation\['real'\]"),
    "complex": (
        part("real", np.array([1j, 0])),
        r"returned an array of complex128 \(2,\) as its observation",
    ),
    "ragged": (part("real", [[1.0], 2.0]), r"returned the list \[\[1.0\], 2.0\] as its observation"),
    "a fraction for a choice": (
        part("pair", (1.5, np.zeros(2, np.int8))),
        r"1.5 in its observation\['pair'\]\[0",
    ),
    "too few parts": (part("pair", (1,)), r"'pair'\] is the tuple \(1,\), but its space declares a tuple of"),
    "no part": (
        lambda: ({"real": np.zeros(2)}, 1.0, False, False, {}),
        r"without the part 'byte' of its space",
    ),
    "an array for parts": (
        lambda: (np.zeros(2), 1.0, False, False, {}),
        r"without the part 'real' of its space",
    ),
    "a reward in text": (ends(reward="1.0"), r"the str '1.0' as its reward, which is not one number"),
    "no reward": (ends(reward=None), r"the NoneType None as its reward, which is not one number"),
    "a reward in a list": (ends(reward=[1.0]), r"the list \[1.0\] as its reward, which is not one number"),
    "two rewards": (ends(reward=np.zeros(2)), r"an array of float64 \(2,\) as its reward"),
    "a complex reward": (ends(reward=1j), r"the complex 1j as its reward"),
    "a flag in text": (ends(terminated="False"), r"the str 'False' as terminated, which is not a bool"),
    "an info for a flag": (ends(truncated={"TimeLimit.truncated": False}), r"the dict .* as truncated"),
    "NaN for a flag": (ends(terminated=np.nan), r"the float nan as terminated, which is not a bool"),
    "another number for a flag": (ends(truncated=2), r"the int 2 as truncated, which is not a bool"),
    "a flag in a list": (ends(terminated=[False]), r"the list \[False\] as terminated, which is not a bool"),
    "a half for a flag": (ends(terminated=0.5), r"the float 0.5 as terminated, which is not a bool"),
    "two flags": (ends(terminated=np.zeros(2, bool)), r"an array of bool \(2,\) as terminated"),
    "no flag": (ends(terminated=None), r"the NoneType None as terminated"),
    "four values": (
        lambda: (sound(), 1.0, False, {}),
        r"four values, as in the old gym interface; return \(obs",
    ),
    "three values": (lambda: (sound(), 1.0, False), r"its step returned 3 values; return \(observation, rew"),
    "nothing at all": (lambda: None, r"its step returned the NoneType None; return \(observation, reward"),
}

# What loses nothing, if it is not what the spaces declare to the letter.
RIGHT = {
    "as declared": ends(),
    "lists": part("real", [0.5, -0.5]),
    "wider numbers": part("real", np.array([0.5, -0.5])),
    "whole numbers for real ones": part("small", -3),
    "wider whole numbers in range": part("byte", np.array([1, 2])),
    "bools for switches": part("pair", [4, np.array([False, True])]),
    "NumPy's scalars": ends(reward=np.float32(1.0), terminated=np.bool_(False)),
    "arrays without an axis": ends(reward=np.array(1), truncated=np.array(False)),
    "a bool for a reward": ends(reward=True),
    "NumPy's bool for a reward": ends(reward=np.bool_(True)),
    "an array of one reward": ends(reward=np.array([1.0], np.float32)),
    "0 for a flag": ends(terminated=0, truncated=np.int64(0)),
    "0.0 for a flag": ends(terminated=0.0, truncated=np.float32(0)),
    "an array of one flag": ends(terminated=np.array([False]), truncated=np.array([0])),
    "no info": ends(info=None),
    "any info": ends(info=SimpleNamespace(winner=3)),
    "a list": lambda: list(ends()()),
}
KINDS = [*WRONG, *RIGHT]


class Returns(gym.Env):
    """Its steps return what kind number `seed` of KINDS says."""

    observation_space, action_space = SPACE, spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.kind = KINDS[seed]
        return sound(), {}

    def step(self, action):
        return WRONG[self.kind][0]() if self.kind in WRONG else RIGHT[self.kind]()


class Keeps(gym.Env):
    """Keeps the action it was given and charges for the change; then it writes over all that it has."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    kept: np.ndarray | None

    def __init__(self, action_space):
        self.action_space = action_space
        self.buffer = np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.kept, self.buffer[:] = None, 0
        return self.buffer, {}

    def step(self, action):
        reward = 0.0 if self.kept is None else -float(np.abs(action.astype(float) - self.kept).sum())
        self.kept = action
        self.buffer += 1
        return self.buffer, reward, False, False, {"action": action, "obs": self.buffer}


class Spoils(Keeps):
    """The same, but writes over the action instead of keeping it."""

    def step(self, action):
        answer = super().step(action)
        self.kept = np.array(action, float)
        action *= 0
        return answer
