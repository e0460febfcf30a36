"""Success, cost and legal actions in the infos of a vector that the user made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.vector.info import COST, SUCCESS, finite
from proximo.envs.vector.masks import (
    BY_METHOD,
    IN_INFO,
    IN_OBSERVATION,
    LATE,
    MASK,
    METHOD,
    NOWHERE,
    Masks,
    require_equal,
)
from proximo.envs.vector.printed import as_array, short
from proximo.envs.vector.trees import each
from proximo.errors import Misfit

CALLS = (gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv)  # those that can ask their environments


class PassedInfos:
    """What the infos of a vector tell, as arrays of all its environments.

    Gymnasium's vectors put beside the values of a name those of `_name`: which environments told it. Where
    there are none, as in EnvPool, every environment tells it.

    vector   which
    resets   whether an environment that ends answers with its next episode at once (SAME_STEP): what ended
             stands in `final_info` then
    """

    def __init__(self, vector: gym.vector.VectorEnv, resets: bool) -> None:
        self.vector, self.resets, self.num_envs = vector, resets, vector.num_envs
        self.masks = Masks(vector.single_action_space)
        self.source = NOWHERE  # where masks are told, as `Masks.source` has it
        self.code = 0  # how (`Masks.code_of`); 0 for not at all
        self.masked = np.zeros(self.num_envs, bool)  # who tells what is legal
        self.nothing = np.full(self.num_envs, np.nan)
        self.nothing.flags.writeable = False

    def begin(self, obs: Any, info: Any) -> np.ndarray | None:
        """After a reset of all: the legal actions, bool [N, M]; None where none tells. Raises Misfit."""
        self.source, self.code, self.masked = NOWHERE, 0, np.ones(self.num_envs, bool)
        if not self.masks.parts:
            return None
        places = []
        if isinstance(info, dict) and info.get(MASK) is not None:
            places, self.masked = [IN_INFO], _those(info, MASK, self.num_envs)
        if isinstance(self.vector.unwrapped, CALLS) and all(self._call("has_wrapper_attr", METHOD)):
            places.append(BY_METHOD)
        if isinstance(obs, dict) and MASK in obs:
            places.append(IN_OBSERVATION)
        if not places:
            return None
        self.source = " ".join(places)
        first, given = self._rows(places[0], obs, info)
        self.code = self.masks.code_of(first(int(np.argmax(given))))
        return self.legal(obs, info, np.zeros(self.num_envs, bool))

    def legal(self, obs: Any, info: Any, ended: np.ndarray) -> np.ndarray | None:
        """Which actions are legal next, bool [N, M]. Raises Misfit.

        ended  [N], who did in this step: the next action is ignored, unless it is of the next episode already
        """
        if self.source == NOWHERE:
            if self.masks.parts and isinstance(info, dict) and MASK in info:
                with at(int(np.argmax(_those(info, MASK, self.num_envs)))):
                    raise Misfit(LATE)
            return None
        ignored = np.zeros_like(ended) if self.resets else ended
        place, *others = self.source.split()
        found = self._legal_in(place, obs, info, ignored)
        for other in others:
            again = self._legal_in(other, obs, info, ignored)
            for index in np.flatnonzero(self.masked & ~ignored).tolist():
                with at(index):
                    require_equal(found[index], again[index], place, other)
        return found

    def _legal_in(self, place: str, obs: Any, info: Any, ignored: np.ndarray) -> np.ndarray:
        row, given = self._rows(place, obs, info)
        found = np.ones((self.num_envs, self.masks.count(self.code)), bool)
        for index in np.flatnonzero(self.masked).tolist():
            with at(index):
                mask = row(index) if given[index] else None
                found[index] = self.masks.legal(mask, bool(ignored[index]), self.code)
        return found

    def _rows(self, place: str, obs: Any, info: Any) -> tuple[Callable[[int], Any], np.ndarray]:
        """The mask of one environment by its index, and which environments tell one, [N]."""
        if place == IN_OBSERVATION:
            return lambda index: each(itemgetter(index), obs[MASK]), self.masked
        if place == BY_METHOD:
            return self._call(METHOD).__getitem__, self.masked
        info = info if isinstance(info, dict) else {}
        return lambda index: _one_of(info[MASK], index), _those(info, MASK, self.num_envs)

    def _call(self, *words: Any) -> Any:
        return self.vector.unwrapped.call(*words)  # type: ignore[attr-defined]

    def told(self, info: Any, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Success and cost of a step, each float64 [N], NaN where none is told. Raises Misfit.

        ended  [N], who did in this step
        """
        if not isinstance(info, dict):
            return self.nothing, self.nothing
        final = info.get("final_info") if self.resets else None
        return self._column(info, final, SUCCESS, ended), self._column(info, final, COST, ended)

    def _column(self, info: dict[str, Any], final: Any, name: str, ended: np.ndarray) -> np.ndarray:
        found = self._values(info, name)
        if not self.resets or not ended.any():
            return found
        if isinstance(final, dict):
            last = self._values(final, name)
        else:  # an info for each, as older versions of Gymnasium have it
            ones = [None] * self.num_envs if final is None else final
            last = np.array([finite(one.get(name), name) if one else np.nan for one in ones])
        return np.where(ended, last, found)

    def _values(self, info: dict[str, Any], name: str) -> np.ndarray:
        values = info.get(name)
        if values is None:
            return self.nothing
        array = as_array(values)
        if array is None or array.shape[:1] != (self.num_envs,):
            remedy = f"return an array of {self.num_envs} numbers"
            raise Misfit(f"the {name!r} in its infos is {short(values)}; {remedy}")
        found = self.nothing.copy()
        given = _those(info, name, self.num_envs)
        if f"_{name}" not in info and array.dtype.kind == "f":
            given = given & ~np.isnan(array).reshape(self.num_envs, -1).any(1)  # its word for none
        for index in np.flatnonzero(given):
            found[index] = finite(array[index], name)
        return found


@contextmanager
def at(index: int) -> Iterator[None]:
    """What is wrong in here is so with this environment."""
    try:
        yield
    except Misfit as error:
        error.environment_index = index  # type: ignore[attr-defined]
        raise


def _one_of(rows: Any, index: int) -> Any:
    """The mask of one environment: Gymnasium's vectors make dicts of arrays of dicts."""
    if isinstance(rows, dict):
        keys = [key for key in rows if f"_{key}" in rows] or list(rows)  # those of `_key` say who has it
        told = {key: f"_{key}" not in rows or rows[f"_{key}"][index] for key in keys}
        return {key: _one_of(rows[key], index) if told[key] else None for key in keys}
    return rows[index]


def _those(info: dict[str, Any], name: str, num_envs: int) -> np.ndarray:
    """Which environments told it, bool [N]."""
    told = np.asarray(info.get(f"_{name}", np.full(num_envs, name in info)))
    return told.astype(bool) if told.shape == (num_envs,) else np.full(num_envs, name in info)
