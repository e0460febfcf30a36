"""MuJoCo's warnings, each said once."""

import multiprocessing
import sys
from contextlib import suppress
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator


class OncePerText:
    """What MuJoCo warns of: each text once in a process, where it would say it at every environment.

    Of a model that is only read, the process that learns has said it already, for all its workers.
    """

    def __init__(self) -> None:
        self.said: set[str] = set()
        self.reading = False

    def __call__(self, text: str) -> None:
        if text in self.said:
            return
        self.said.add(text)
        if not (self.reading and multiprocessing.parent_process()):
            with suppress(OSError, ValueError):
                print(f"MuJoCo: {' '.join(text.split())}", file=sys.stderr, flush=True)


def attach_handler(spec: Any) -> OncePerText | None:
    """MuJoCo's warnings go to a `OncePerText`, if an environment needs MuJoCo and nobody else hears them."""
    if isinstance(spec.entry_point, str):
        load_env_creator(spec.entry_point)  # it imports what it needs
    mujoco: Any = sys.modules.get("mujoco")
    if mujoco is None:
        return None
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(OncePerText())
    hearer = mujoco.get_mju_user_warning()
    return hearer if isinstance(hearer, OncePerText) else None


def make_with_unique_warnings(spec: Any, **kwargs: Any) -> gym.Env:
    """`gymnasium.make`, with each of MuJoCo's warnings said once."""
    hearer = attach_handler(spec)
    if hearer is None:
        return gym.make(spec, **kwargs)
    hearer.reading = True
    try:
        return gym.make(spec, **kwargs)
    finally:
        hearer.reading = False
