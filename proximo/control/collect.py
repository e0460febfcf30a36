"""Collecting experience on the host: per step only the action is computed, everything else waits."""

import warnings
from functools import partial
from typing import Any

import jax
import numpy as np

from proximo.control.acting import Act, as_calls_leave
from proximo.core.types import LEGAL, VECTOR, Experience, vector_of
from proximo.envs import HostEnvs, ObservationCodec, advice, check_finite
from proximo.envs.parts import codec_for
from proximo.envs.vector.trees import put
from proximo.errors import EnvironmentAdvice, StateRefused


class Stream:
    """A vector of environments in the middle of its stream, from one rollout to the next.

    `obs` [N, features] is the latest observation; `start` [N] says where it is the first of an episode, and
    `seam` [N] which environments ended in the step before and answer the next one with a fresh episode,
    whatever the action. `carry` is the policy's memory before `obs`. `offset` [features] is what observations
    are relative to (`ObservationCodec.about`): the one that is given, or else one that suits the first
    observations. `codec` is the policy's; without one, everything is one vector. `success` [T, N] is the
    success that the last rollout's steps reported; NaN if none.
    """

    def __init__(
        self,
        envs: HostEnvs,
        seeds: list[int],
        offset: np.ndarray | None = None,
        carry: Any = (),
        codec: ObservationCodec | None = None,
    ) -> None:
        self.envs, self.seeds, first = envs, seeds, envs.reset(seeds)
        codec = (codec or codec_for(envs.spaces, in_parts=False)).beside(envs.legal)
        self.offset = codec.offset_from(first, envs.num_envs) if offset is None else offset
        envs.observation = codec.about(self.offset)
        self.obs = codec.empty(envs.num_envs)
        envs.write(envs.observation, first, self.obs, envs.legal)
        self.start, self.seam = np.ones(envs.num_envs, bool), np.zeros(envs.num_envs, bool)
        self.carry, self.success, self.costly = carry, np.empty((0, envs.num_envs)), False
        self.rows = 0
        self.unproven = False  # nothing was learned from such observations yet

    def state(self, part: slice = slice(None)) -> dict[str, Any]:
        """What `restore` needs; `envs` is None if the environments cannot save their state.

        With `part`, what a stream of those environments alone needs.
        """
        return {
            "obs": jax.tree.map(lambda x: x[part].copy(), self.obs),
            "start": self.start[part].copy(),
            "seam": self.seam[part].copy(),
            "carry": [np.array(leaf[part]) for leaf in jax.tree.leaves(self.carry)],
            "costly": self.costly,
            "rows": self.rows,
            "envs": self.envs.state(part),
        }

    def restore(self, state: dict[str, Any]) -> str:
        """Continue where `state` was taken; if that is impossible, restart every episode.

        Returns the reason if it is impossible, else an empty string.
        """
        self.rows = state["rows"]
        if state["envs"] is None:
            return "cannot save its state (environments do so with get_state and set_state)"
        try:
            self.envs.restore(state["envs"])
        except StateRefused as error:  # some of them may have restored it
            first = self.envs.reset(self.seeds)
            self.envs.write(self.envs.observation, first, self.obs, self.envs.legal)
            return f"failed to restore its saved state ({error})"
        self.obs, self.seam = self._with_masks(state["obs"]), state["seam"]
        if "start" in state:  # versions without memory wrote none
            self.start, self.costly = state["start"], state["costly"]
            self.carry = jax.tree.unflatten(jax.tree.structure(self.carry), state["carry"])
        return ""

    def _with_masks(self, obs: Any) -> Any:
        """Restored observations with the legal actions beside them, which older versions did not keep."""
        if not self.envs.observation.flags or (isinstance(obs, dict) and LEGAL in obs):
            return obs
        return {**(obs if isinstance(obs, dict) else {VECTOR: obs}), LEGAL: np.array(self.envs.legal)}

    def rewards(self, reward: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """[T, N] -> [T, N, R]: the reward, and the cost beside it from the first one on that was told."""
        told = ~np.isnan(cost)
        self.costly = self.costly or bool(told.any())
        return np.stack([reward, np.where(told, cost, 0.0)], -1) if self.costly else reward[..., None]


def advise(lines: list[str]) -> None:
    """Warn of what `envs.advice` says."""
    for line in lines:
        warnings.warn(line, EnvironmentAdvice, stacklevel=3)


def rows_of(tree: Any) -> list[Any]:
    """Arrays, or dicts of them, row by row, as views."""
    if not isinstance(tree, dict):
        return list(tree)
    columns = [rows_of(part) for part in tree.values()]
    return [dict(zip(tree, parts, strict=True)) for parts in zip(*columns, strict=True)]


def stacked(rows: list[Any]) -> Any:
    """The inverse of `rows_of`."""
    if not isinstance(rows[0], dict):
        return np.stack(rows)
    return {name: stacked([row[name] for row in rows]) for name in rows[0]}


def collect(act: Act, stream: Stream, noise: Any) -> Experience:
    """T steps of every environment, as `Experience` of NumPy arrays.

    act     the policy of this rollout; called once per step with all N observations
    stream  where the environments are; moved on by T rows
    noise   [T, N, ...], or a dict of such: all the randomness of the actions

    Raises EnvironmentFault when an environment raises, or returns NaN or infinity.
    """
    envs, noises = stream.envs, rows_of(noise)
    horizon = len(noises)
    shape = (horizon, envs.num_envs)
    obs = envs.observation.empty(horizon + 1, envs.num_envs)
    reward = np.empty(shape, np.float64)  # raw episode returns are summed from it
    terminated, truncated = np.empty(shape, bool), np.empty(shape, bool)
    success, cost = np.empty(shape), np.empty(shape)
    final_obs = None if envs.seam_rows else jax.tree.map(lambda x: np.zeros_like(x[1:]), obs)
    rows, final_rows = rows_of(obs), [] if final_obs is None else rows_of(final_obs)
    write, applied = partial(envs.write, envs.observation), envs.action.to_environment
    # An end begins an episode in the next row, or in the one after the seam.
    before = [stream.start, stream.seam] if envs.seam_rows else [stream.start]
    ends = np.empty((len(before) + horizon, envs.num_envs), bool)
    ends[: len(before)] = before
    start, over = ends[: horizon + 1], ends[len(before) :]
    begun, remembers = stream.carry, bool(jax.tree.leaves(stream.carry))
    carry, actions = as_calls_leave(begun), []

    put(obs, 0, stream.obs)
    for t in range(horizon):
        action, carry = act(rows[t], noises[t], start[t] if remembers else None, carry)
        actions.append(action)
        step = envs.step(applied(action))
        write(step.obs, rows[t + 1], step.legal)
        reward[t], terminated[t], truncated[t] = step.reward, step.terminated, step.truncated
        success[t], cost[t] = step.success, step.cost
        over[t] = step.over
        if final_obs is not None and step.final_obs is not None:
            write(step.final_obs, final_rows[t])

    mask = np.ones(shape, np.float32)
    if envs.seam_rows:
        mask[...] = ~ends[1 : horizon + 1]
        stream.seam = over[-1]
    action = stacked(actions)
    numbers = vector_of(obs)
    check_finite(numbers, reward, action, stream.rows, applied)
    if final_obs is not None:  # a row's final observation is its successor, as the next row's is elsewhere
        check_finite(
            np.concatenate([numbers[:1], vector_of(final_obs)]), reward, action, stream.rows, applied
        )
    if stream.unproven:
        stream.unproven = False
        advise(advice.lost_precision(numbers, envs.observation, stream.offset))
    experience = Experience(
        obs=obs,
        action=action,
        reward=stream.rewards(reward, cost),
        terminated=terminated,
        truncated=truncated,
        over=over,
        mask=mask,
        start=start,
        carry=jax.tree.map(np.asarray, begun),  # as all else of it: the update is compiled once
        final_obs=final_obs,
    )
    stream.obs, stream.start, stream.carry = rows[-1], start[-1], carry
    stream.success, stream.rows = success, stream.rows + horizon
    return experience
