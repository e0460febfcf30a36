"""Which environments are in use: if two users step one environment, neither gets valid episodes."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from proximo.envs.description import name_of, visible
from proximo.errors import UserError

_in_use: dict[int, weakref.ref[Any]] = {}  # by id; one that is gone has left its id to another


def mark_in_use(owner: Any, vector: gym.vector.VectorEnv) -> Callable[[], Any]:
    """Note that `owner` steps these environments; returns what ends that, as the end of `owner` does.

    Raises UserError where another owner steps one of them, and where one is there twice.
    """
    inner = [env.unwrapped for env in visible(vector)]
    mine = {id(one): one for one in (vector.unwrapped, *inner)}
    if len(mine) < 1 + len(inner):
        raise UserError(
            f"several places of the vector hold the same {name_of(inner[0])}: the function must return a new "
            "environment at each call"
        )
    if any(map(_stepped, mine.values())):
        gc.collect()  # whose owner was forgotten, not closed, may be free
    for one in filter(_stepped, mine.values()):
        raise UserError(
            f"this {name_of(one)} is in use by a training or an evaluation, which would be "
            "disturbed: pass another instance, the class or the id"
        )
    _in_use.update({key: weakref.ref(one) for key, one in mine.items()})
    release = weakref.finalize(owner, _forget, list(mine))
    release.atexit = False
    return release


def _stepped(env: Any) -> bool:
    held = _in_use.get(id(env))
    return held is not None and held() is env


def _forget(keys: list[int]) -> None:
    for key in keys:
        _in_use.pop(key, None)
