"""The memory that worker processes share with the process that learns."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

RESET, STEP, CLOSE, SAVE, RESTORE, READY, REMAKE = range(7)
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


def choices(space: gym.Space) -> np.ndarray:
    """How many values each part of an action can have, flat: one part for Discrete, two values for a switch.

    Empty where actions are real numbers.
    """
    if isinstance(space, spaces.Discrete):
        return np.array([space.n], np.int64)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.nvec, np.int64).reshape(-1)
    if isinstance(space, spaces.MultiBinary):
        return np.full(int(np.prod(space.shape)), 2, np.int64)
    return np.zeros(0, np.int64)


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [N]       what to do next; in this and the next two a worker's first environment stands for it
    at          [N]       where to begin, then the environment that is being stepped; ~index while it is made
                          or reset, which may take longer
    failed      [N]       whether a report is in the pipe
    seeds       [N]       for RESET, READY and REMAKE
    actions     [N, ...]  for STEP
    success     [N]       what the info of the row tells, NaN where it tells nothing; with cost, [N]
    legal       [N, M]    which actions may be next, for M values of all parts of an action
    masked      [N]       whether its last reset told that
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]; observations in parts
                          are dicts and tuples of such arrays, as Gymnasium has them
    """

    def __init__(self, num_envs: int, observation: gym.Space, action: gym.Space) -> None:
        rows: dict[str, type] = {
            **dict.fromkeys(("command", "at", "seeds"), np.int64),
            **dict.fromkeys(("failed", "terminated", "truncated", "masked"), bool),
            **dict.fromkeys(("reward", "success", "cost"), np.float64),
        }
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            name: ((num_envs,), np.dtype(kind)) for name, kind in rows.items()
        }
        self.specs["actions"] = ((num_envs, *(action.shape or ())), np.dtype(action.dtype))
        self.specs["legal"] = ((num_envs, int(choices(action).sum())), np.dtype(bool))

        def named(shape: tuple[int, ...], dtype: Any) -> Any:
            name = f"obs {len(self.specs)}"
            self.specs[name] = (shape, np.dtype(dtype))
            return name

        self.obs: Any = create_empty_array(observation, num_envs, named)  # the tree, with names for arrays
        self.memory = {
            name: CONTEXT.RawArray("b", max(1, int(np.prod(shape)) * dtype.itemsize))
            for name, (shape, dtype) in self.specs.items()
        }
        self.forget(self.arrays(), slice(None))

    @staticmethod
    def forget(arrays: dict[str, Any], rows: slice) -> None:
        """Nothing is told, and everything is legal."""
        arrays["success"][rows], arrays["cost"][rows], arrays["legal"][rows] = np.nan, np.nan, True

    def arrays(self) -> dict[str, Any]:
        """The memory as arrays, in whichever process asks."""
        arrays = {
            name: np.frombuffer(self.memory[name], dtype, int(np.prod(shape))).reshape(shape)
            for name, (shape, dtype) in self.specs.items()
        }
        return {**arrays, "obs": each(arrays.__getitem__, self.obs)}


def each(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same dicts and tuples, with what `function` makes of everything in them."""
    if isinstance(tree, dict):
        return {key: each(function, part) for key, part in tree.items()}
    return tuple(each(function, part) for part in tree) if isinstance(tree, tuple) else function(tree)
