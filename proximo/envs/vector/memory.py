"""The memory that worker processes share with the process that learns."""

import multiprocessing
from typing import Any

import numpy as np

from proximo.envs.vector.trees import each

RESET, STEP, CLOSE, SAVE, RESTORE, READY, REMAKE = range(7)
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [N]       what to do next; in this and the next two a worker's first environment stands for it
    at          [N]       where to begin, then the environment that is being stepped; ~index while it is made
                          or reset, which may take longer
    failed      [N]       whether a report is in the pipe
    seeds       [N]       for RESET, READY and REMAKE
    actions     [N, ...]  for STEP; of a Dict or a Tuple, dicts and tuples of such arrays
    success     [N]       what the info of the row tells, NaN where it tells nothing; with cost, [N]
    legal       [N, M]    which actions may be next, for as many flags as the largest form of mask has
    places      [N]       where its last reset told what is legal: bits of PLACES
    masked      [N]       how its last reset told that (`Masks.code_of`); 0 where it did not
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]; observations in parts
                          are dicts and tuples of such arrays, as Gymnasium has them; a text is int32
                          [N, max_length] (`returned.Leaf`)

    They are made like `obs` and `actions`, arrays or dicts and tuples of arrays, with room for `flags`.
    """

    def __init__(self, num_envs: int, obs: Any, actions: Any, flags: int) -> None:
        rows: dict[str, type] = {
            **dict.fromkeys(("command", "at", "seeds", "masked", "places"), np.int64),
            **dict.fromkeys(("failed", "terminated", "truncated"), bool),
            **dict.fromkeys(("reward", "success", "cost"), np.float64),
        }
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            name: ((num_envs,), np.dtype(kind)) for name, kind in rows.items()
        }
        self.specs["legal"] = ((num_envs, flags), np.dtype(bool))

        def named(array: np.ndarray) -> str:
            name = f"array {len(self.specs)}"
            self.specs[name] = (array.shape, array.dtype)
            return name

        self.trees = {"obs": each(named, obs), "actions": each(named, actions)}  # with names for arrays
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
        return {**arrays, **{name: each(arrays.__getitem__, tree) for name, tree in self.trees.items()}}
