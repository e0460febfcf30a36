"""The memory that worker processes share with the process that learns."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import create_empty_array

RESET, STEP, CLOSE, SAVE, RESTORE, READY, REMAKE = range(7)
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [N]       what to do next; in this and the next two a worker's first environment stands for it
    at          [N]       where to begin, then the environment that is being stepped; ~index while it is made
                          or reset, which may take longer
    failed      [N]       whether a report is in the pipe
    seeds       [N]       for RESET, READY and REMAKE
    actions     [N, ...]  for STEP
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]; observations in parts
                          are dicts and tuples of such arrays, as Gymnasium has them
    """

    def __init__(self, num_envs: int, observation: gym.Space, action: gym.Space) -> None:
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "command": ((num_envs,), np.dtype(np.int64)),
            "at": ((num_envs,), np.dtype(np.int64)),
            "failed": ((num_envs,), np.dtype(bool)),
            "seeds": ((num_envs,), np.dtype(np.int64)),
            "actions": ((num_envs, *(action.shape or ())), np.dtype(action.dtype)),
            "reward": ((num_envs,), np.dtype(np.float64)),
            "terminated": ((num_envs,), np.dtype(bool)),
            "truncated": ((num_envs,), np.dtype(bool)),
        }

        def named(shape: tuple[int, ...], dtype: Any) -> Any:
            name = f"obs {len(self.specs)}"
            self.specs[name] = (shape, np.dtype(dtype))
            return name

        self.obs: Any = create_empty_array(observation, num_envs, named)  # the tree, with names for arrays
        self.memory = {
            name: CONTEXT.RawArray("b", max(1, int(np.prod(shape)) * dtype.itemsize))
            for name, (shape, dtype) in self.specs.items()
        }

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
