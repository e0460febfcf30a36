"""Environments in processes of their own, next to the one that learns, over shared memory.

Two gains. Environments step at the same time, on as many cores as there are. And an environment keeps a
core's caches to itself: a step of HalfCheetah-v5 takes longer where it shares the process with the
policy's compiled calls, and so does the call.
"""

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from proximo_worker import CLOSE, RESET, STEP, Chunk, Shared, Worker


class ParallelVectorEnv(gym.vector.VectorEnv):
    """N environments, shared out over worker processes and this one; NEXT_STEP, as Gymnasium's vectors.

    make         makes one environment; without arguments
    probe        one that was made already, to read its spaces from; it is closed
    num_envs     N
    num_workers  processes beside this one; 0 steps everything here, without Gymnasium's sync vector's
                 copies and info dictionaries, which nobody reads while training

    This process steps a share too, unless there is one environment alone. Observations and actions must
    be arrays (`fits`). What `step` returns is overwritten by the next call; the info is empty.
    """

    def __init__(self, make: Callable[[], gym.Env], probe: gym.Env, num_envs: int, num_workers: int) -> None:
        own = num_envs if num_workers == 0 else num_envs // (num_workers + 1)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = probe.observation_space, probe.action_space
        self.observation_space = batch_space(probe.observation_space, num_envs)
        self.action_space = batch_space(probe.action_space, num_envs)
        self.metadata = {**probe.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.spec, self.render_mode = probe.spec, None
        probe.close()
        self.shared = Shared(num_envs, self.single_observation_space, self.single_action_space)
        bounds = np.linspace(own, num_envs, num_workers + 1).astype(int).tolist() if num_workers else []
        self.workers = [Worker(make, first, last, self.shared) for first, last in pairwise(bounds)]
        self.own = Chunk(make, 0, own, self.shared)
        self._arrays = self.shared.arrays()

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew; `seed` is one number or one per environment."""
        if seed is None:
            seed = np.random.SeedSequence().generate_state(self.num_envs).tolist()
        self._arrays["seeds"][:] = np.arange(self.num_envs) + seed if isinstance(seed, int) else seed
        self._everywhere(RESET)
        return self._arrays["obs"], {}

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One row of the stream."""
        arrays = self._arrays
        arrays["actions"][...] = actions
        self._everywhere(STEP)
        return arrays["obs"], arrays["reward"], arrays["terminated"], arrays["truncated"], {}

    def _everywhere(self, command: int) -> None:
        for worker in self.workers:
            worker.begin(command)
        self.own.obey(command)
        for worker in self.workers:
            worker.wait()

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers and close the environments."""
        for worker in self.workers:
            worker.begin(CLOSE)
        self.own.obey(CLOSE)
        for worker in self.workers:
            worker.end()


def fits(env: gym.Env) -> bool:
    """Whether an environment speaks in arrays of fixed size, which shared memory can hold."""
    spaces = (env.observation_space, env.action_space)
    return all(space.shape is not None and space.dtype is not None for space in spaces)


def spare_workers(num_envs: int) -> int:
    """Workers that pay: one per further core that this process may use, and no more than can be busy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, max(num_envs - 1, 1))
