"""Success, cost and legal actions in the infos of a vector that the user made."""

from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.vector.info import (
    BY_METHOD,
    COST,
    IN_INFO,
    IN_OBSERVATION,
    MASK,
    METHOD,
    NOWHERE,
    SUCCESS,
    Masks,
    finite,
)
from proximo.envs.vector.returned import as_array, short
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
        self.source = NOWHERE
        self.masked = np.zeros(self.num_envs, bool)  # who tells what is legal
        self.nothing = np.full(self.num_envs, np.nan)
        self.nothing.flags.writeable = False

    def begin(self, obs: Any, info: Any) -> np.ndarray | None:
        """After a reset of all: the legal actions, bool [N, M]; None where none tells. Raises Misfit."""
        self.source, self.masked = NOWHERE, np.ones(self.num_envs, bool)
        if not self.masks.size:
            return None
        if isinstance(info, dict) and info.get(MASK) is not None:
            self.source, self.masked = IN_INFO, _those(info, MASK, self.num_envs)
        elif isinstance(self.vector.unwrapped, CALLS) and all(self._call("has_wrapper_attr", METHOD)):
            self.source = BY_METHOD
        elif isinstance(obs, dict) and MASK in obs:
            self.source = IN_OBSERVATION
        return self.legal(obs, info, np.zeros(self.num_envs, bool))

    def legal(self, obs: Any, info: Any, ended: np.ndarray) -> np.ndarray | None:
        """Which actions are legal next, bool [N, M]. Raises Misfit.

        ended  [N], who did in this step: the next action is ignored, unless it is of the next episode already
        """
        if self.source == NOWHERE:
            return None
        given = self.masked
        if self.source == BY_METHOD:
            rows = self._call(METHOD)
        elif self.source == IN_INFO:
            info = info if isinstance(info, dict) else {}
            rows, given = info.get(MASK), _those(info, MASK, self.num_envs)
        else:
            rows = obs[MASK]
        found = np.ones((self.num_envs, self.masks.size), bool)
        for index in np.flatnonzero(self.masked):
            ignored = bool(ended[index]) and not self.resets
            try:
                found[index] = self.masks.legal(rows[index] if given[index] else None, ignored)
            except Misfit as error:
                error.environment_index = int(index)  # type: ignore[attr-defined]
                raise
        return found

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


def _those(info: dict[str, Any], name: str, num_envs: int) -> np.ndarray:
    """Which environments told it, bool [N]."""
    told = np.asarray(info.get(f"_{name}", np.full(num_envs, name in info)))
    return told.astype(bool) if told.shape == (num_envs,) else np.full(num_envs, name in info)
