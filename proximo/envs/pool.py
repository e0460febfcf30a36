"""EnvPool's environments, `envpool/NAME`: stepped by threads of their own, as vectors alone."""

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from proximo.envs.vector.trees import ANY_TEXT
from proximo.errors import UserError, nearest

POOL = "envpool/"
LIFE = "episodic_life"  # in the configuration of a pool: it plays Atari
LEVELS = "num_levels"  # in the configuration of a pool: it plays Procgen
BYTES = "mission_bytes"  # in the configuration of a pool: a part `mission` is a text of so many bytes


def register_pool(name: str) -> None:
    """Register `envpool/NAME` with Gymnasium. Raises UserError where EnvPool has no such name."""
    task, known = name.removeprefix(POOL), importlib.import_module("envpool").list_all_envs()
    if task not in known:
        raise UserError(f"EnvPool has no environment {task!r}: {nearest(task, known)}")
    config = importlib.import_module("envpool").make_spec(task).config
    kind = "AtariPool" if hasattr(config, LIFE) else "ProcgenPool" if hasattr(config, LEVELS) else "Pool"
    gym.register(name, vector_entry_point=f"{__name__}:{kind}", kwargs={"task": task})


class Pool(gym.vector.VectorEnv):
    """A vector of EnvPool.

    Its seeds are those that it is made with, so a reset with others makes it anew. A mission of MiniGrid and
    BabyAI, which it has as bytes, is a text.
    """

    def __init__(self, task: str, num_envs: int, **options: Any) -> None:
        make = importlib.import_module("envpool").make
        self.make = partial(make, task, env_type="gymnasium", num_envs=num_envs, **options)
        self.pool, self.num_envs = self.make(), num_envs
        self.metadata = self.pool.metadata
        self.single_action_space = self.pool.action_space
        self.single_observation_space = self.pool.observation_space
        self.has_mission = BYTES in self.pool.config and isinstance(self.pool.observation_space, spaces.Dict)
        if self.has_mission:
            self.single_observation_space = spaces.Dict(
                {**self.pool.observation_space.spaces, "mission": ANY_TEXT}
            )

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.pool.close()
            self.pool = self.make(seed=seed if isinstance(seed, int) else list(seed))
        obs, info = self.pool.reset()
        return self._told(obs), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.pool.step(actions)
        return self._told(obs), reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        self.pool.close()

    def _told(self, obs: Any) -> Any:
        if not self.has_mission:
            return obs
        return {**obs, "mission": tuple(bytes(one).split(b"\0", 1)[0].decode() for one in obs["mission"])}


class ProcgenPool(Pool):
    """A vector of a Procgen game, each of whose episodes is a level of its own (Cobbe 2020).

    Options of EnvPool's choose the levels: `num_levels` of them from `start_level` on, or all with 0.
    """


class AtariPool(Pool):
    """A vector of an Atari game.

    Frames, held actions and the number of idle actions are as in ale-py's vector. Fire is pressed after the
    idle actions, not before, and the first frame fills the stack, which is empty there.
    """
