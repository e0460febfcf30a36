"""A share of the environments, stepped one after another by the process that holds it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.vector import returned, snapshot
from proximo.envs.vector.info import NOTHING, told
from proximo.envs.vector.masks import LATE, MASK, Masks, bits_of
from proximo.envs.vector.memory import READY, REMAKE, RESET, STEP, Shared
from proximo.envs.vector.trees import each, put
from proximo.errors import Misfit, WorkerError, as_error


class EnvironmentSlice:
    """Environments `first` to `last` - 1 of a vector, stepped one after another.

    make    makes one of them
    spaces  that all must have: of observations and of actions
    made    the first of them, as far as they are made already
    """

    def __init__(
        self,
        make: Callable[[], gym.Env],
        spaces: tuple[gym.Space, gym.Space],
        first: int,
        last: int,
        shared: Shared,
        made: Sequence[gym.Env] = (),
    ) -> None:
        self.make, self.spaces, self.first, self.last = make, spaces, first, last
        arrays = shared.arrays()
        self.at, self.seeds, self.actions = arrays["at"], arrays["seeds"], arrays["actions"]
        self.obs, self.reward = arrays["obs"], arrays["reward"]
        self.terminated, self.truncated = arrays["terminated"], arrays["truncated"]
        self.success, self.cost = arrays["success"], arrays["cost"]
        self.legal, self.masked, self.places = arrays["legal"], arrays["masked"], arrays["places"]
        self.form = returned.form_for(spaces[0])
        self.whole = isinstance(self.obs, np.ndarray)  # an observation is one array
        self.single = isinstance(self.actions, np.ndarray)  # and so is an action
        self.masks = Masks(spaces[1])
        self.sources: list[str | None] = [None] * (last - first)  # where each tells what is legal, if known
        self.told: list[Any] = [NOTHING] * (last - first)  # what stands in success and cost
        self.seam = [False] * (last - first)
        self.envs = list(made)
        for index in range(first + len(self.envs), last):
            self.envs.append(self._made(index))

    def execute(self, command: int, start: int) -> None:
        """RESET, STEP or CLOSE them from `start` on; an exception is told which environment raised it.

        READY lets their next step begin an episode; REMAKE does so with `start` alone, made anew.
        """
        index = start
        try:
            if command == REMAKE:
                self._remake(index)
                return
            for index in range(start, self.last):
                if command == STEP:
                    self._step(index)
                elif command == RESET:
                    self._reset(index, int(self.seeds[index]))
                elif command == READY:
                    self._ready(index)
                else:
                    self.envs[index - self.first].close()
        except BaseException as raised:
            error = as_error(raised)
            if command in (RESET, STEP) and not isinstance(error, WorkerError):
                error = returned.clearer_error(error, self.envs[index - self.first])
            error.environment_index = index  # type: ignore[attr-defined]
            raise error from error.__cause__

    def save(self) -> list[dict[str, Any] | None]:
        """The state of each environment; None where it cannot be known."""
        states = [snapshot.save(env) for env in self.envs]
        return [
            None if state is None else {"seam": seam, "layers": state, **({"mask": source} if source else {})}
            for seam, source, state in zip(self.seam, self.sources, states, strict=True)
        ]

    def restore(self, states: list[dict[str, Any]], start: int = 0) -> None:
        """Put back what `save` gave of those from position `start` on, after a reset.

        Raises ValueError if it does not fit.
        """
        for position, state in zip(range(start, len(self.envs)), states, strict=True):
            snapshot.restore(self.envs[position], state["layers"])
            self.seam[position] = bool(state["seam"])
            self.sources[position] = state.get("mask", self.sources[position])
            self.told[position] = None

    def follow(self, other: "EnvironmentSlice") -> None:
        """Go on from where another one left the first environments, which both have."""
        both = slice(min(len(self.envs), len(other.envs)))
        self.envs[both], self.seam[both] = other.envs[both], other.seam[both]
        self.sources[both], self.told[both] = other.sources[both], other.told[both]

    def _reset(self, index: int, seed: int | None) -> None:
        position, result = index - self.first, self._began(index, seed)
        obs, env = self._fitted(returned.from_reset(result)), self.envs[position]
        source = self.sources[position]
        if source is None or seed is not None:
            source = self.sources[position] = self.masks.source(env, obs, result[1])
            self.masked[index] = self.masks.code(source, env, obs, result[1]) if source else 0
            self.places[index] = bits_of(source)
        self.legal[index] = True
        if source:
            self._tell_legal(index, source, obs, result[1], False)
        put(self.obs, index, obs)
        self._note(index, position, NOTHING)
        self.seam[position] = False

    def _step(self, index: int) -> None:
        """One NEXT_STEP row: an environment that ended before answers with its next episode's start.

        What is as it should be is seen to be so at once; returned.py has the rest.
        """
        position = index - self.first
        if self.seam[position]:
            self._reset(index, None)
            self.reward[index], self.terminated[index], self.truncated[index] = 0.0, False, False
            return
        self.at[self.first] = index
        if self.single:
            action = self.actions[index].copy()  # it may keep it, and the next step writes over ours
        else:
            action = each(lambda part: part[index].copy(), self.actions)
        result = self.envs[position].step(action)
        if type(result) is not tuple or len(result) != 5:
            result = returned.from_step(result)
        obs, reward, terminated, truncated, info = result
        kind = type(reward)
        if kind is not float and kind is not np.float64:
            reward = returned.number(reward)
        if terminated is not False and terminated is not True:
            terminated = returned.flag(terminated, "terminated")
        if truncated is not False and truncated is not True:
            truncated = returned.flag(truncated, "truncated")
        ended, obs, source = terminated or truncated, self._fitted(obs), self.sources[position]
        read = isinstance(info, dict) and info
        found = told(info) if read else NOTHING
        if source:
            self._tell_legal(index, source, obs, info, ended)
        elif read and self.masks.parts and MASK in info:
            raise Misfit(LATE)
        # After all that may fail: the last good one is still needed then.
        if self.whole:
            self.obs[index] = obs
        else:
            put(self.obs, index, obs)
        self.reward[index], self.terminated[index], self.truncated[index] = reward, terminated, truncated
        if found is not NOTHING or self.told[position] is not NOTHING:
            self._note(index, position, found)
        self.seam[position] = ended

    def _fitted(self, obs: Any) -> Any:
        form = self.form
        if self.whole and type(obs) is np.ndarray and obs.shape == form.shape and obs.dtype == form.dtype:
            return obs
        return returned.as_declared(obs, form)

    def _tell_legal(self, index: int, source: str, obs: Any, info: Any, ended: bool) -> None:
        code, env = int(self.masked[index]), self.envs[index - self.first]
        flags = self.masks.now(source, code, env, obs, info, ended)
        self.legal[index, : len(flags)] = flags

    def _note(self, index: int, position: int, found: tuple[float, float]) -> None:
        self.success[index], self.cost[index] = self.told[position] = found

    def _began(self, index: int, seed: int | None) -> Any:
        """What its reset returned."""
        self.at[self.first] = ~index
        return self.envs[index - self.first].reset(seed=seed)

    def _ready(self, index: int) -> None:
        self._began(index, int(self.seeds[index]))
        self.seam[index - self.first] = True

    def _remake(self, index: int) -> None:
        with suppress(Exception, SystemExit):  # what has failed may fail to close too
            self.envs[index - self.first].close()
        self.envs[index - self.first] = self._made(index)
        self._ready(index)

    def _made(self, index: int) -> gym.Env:
        """A new environment. Raises Misfit if it has other spaces than the rest."""
        self.at[self.first] = ~index
        try:
            env = self.make()
            returned.require_spaces(env, self.spaces)
        except BaseException as raised:
            error = as_error(raised)
            error.environment_index = index  # type: ignore[attr-defined]
            raise error from error.__cause__
        return env
