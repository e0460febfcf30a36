"""Collecting experience on the host: per step only the action is computed, everything else waits."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from proximo.core.types import Experience
from proximo.envs import HostEnvs, advice, check_finite, observation_codec
from proximo.errors import EnvironmentAdvice, StateRefused

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]  # observations [N, ...], noise [N, ...] -> actions


class Stream:
    """A vector of environments in the middle of its stream, from one rollout to the next.

    `obs` [N, features] is the latest observation; `start` [N] says where it is the first of an episode, and
    `seam` [N] which environments ended in the step before and answer the next one with a fresh episode,
    whatever the action. `offset` [features] is what observations are relative to (`ObservationCodec.about`):
    the one that is given, or else one that suits the first observations.
    """

    def __init__(self, envs: HostEnvs, seeds: list[int], offset: np.ndarray | None = None) -> None:
        self.envs, self.seeds, first = envs, seeds, envs.reset(seeds)
        codec = observation_codec(envs.spaces[0])
        self.offset = codec.offset_from(first, envs.num_envs) if offset is None else offset
        envs.observation = codec.about(self.offset)
        self.obs = np.empty((envs.num_envs, *codec.shape), codec.dtype)
        envs.observation.encode(first, self.obs)
        self.start, self.seam = np.ones(envs.num_envs, bool), np.zeros(envs.num_envs, bool)
        self.rows = 0
        self.unproven = False  # nothing was learned from such observations yet

    def state(self, part: slice = slice(None)) -> dict[str, Any]:
        """What `restore` needs; `envs` is None where the environments cannot tell their state.

        With `part`, what a stream of those environments alone needs.
        """
        return {
            "obs": self.obs[part].copy(),
            "start": self.start[part].copy(),
            "seam": self.seam[part].copy(),
            "rows": self.rows,
            "envs": self.envs.state(part),
        }

    def restore(self, state: dict[str, Any]) -> str:
        """Go on where `state` was taken; where that cannot be, every episode starts anew.

        Returns why it cannot be, nothing where it can.
        """
        self.rows = state["rows"]
        if state["envs"] is None:
            return "cannot tell its state"
        try:
            self.envs.restore(state["envs"])
        except StateRefused as error:  # some of them may have taken it
            self.envs.observation.encode(self.envs.reset(self.seeds), self.obs)
            return f"did not take its state back ({error})"
        self.obs, self.seam = state["obs"], state["seam"]
        self.start = state.get("start", np.zeros_like(self.seam))  # unknown to older versions, without memory
        return ""


def advise(lines: list[str]) -> None:
    """Warn of what `envs.advice` says."""
    for line in lines:
        warnings.warn(line, EnvironmentAdvice, stacklevel=3)


def collect(act: Act, stream: Stream, noise: np.ndarray) -> Experience:
    """T steps of every environment, as `Experience` of NumPy arrays.

    act     the policy of this rollout; called once per step with all N observations
    stream  where the environments are; moved on by T rows
    noise   [T, N, ...], all the randomness of the actions

    Raises EnvironmentFault when an environment raises, or returns NaN or infinity.
    """
    envs, horizon = stream.envs, noise.shape[0]
    shape = (horizon, envs.num_envs)
    obs = np.empty((horizon + 1, *stream.obs.shape), stream.obs.dtype)
    reward = np.empty(shape, np.float64)  # raw episode returns are summed from it
    terminated, truncated = np.empty(shape, bool), np.empty(shape, bool)
    final_obs = None if envs.seam_rows else np.zeros_like(obs[1:])
    actions = []

    obs[0] = stream.obs
    for t in range(horizon):
        action = act(obs[t], noise[t])
        actions.append(action)
        step = envs.step(envs.action.to_environment(action))
        envs.observation.encode(step.obs, obs[t + 1])
        reward[t], terminated[t], truncated[t] = step.reward, step.terminated, step.truncated
        if final_obs is not None and step.final_obs is not None:
            envs.observation.encode(step.final_obs, final_obs[t])

    over = terminated | truncated
    # An end begins an episode in the next row, or in the one after the seam.
    ends = np.concatenate([[stream.start], [stream.seam], over] if envs.seam_rows else [[stream.start], over])
    start = ends[: horizon + 1]
    mask = np.ones(shape, np.float32)
    if envs.seam_rows:
        mask[...] = ~ends[1:-1]
        stream.seam = over[-1]
    action = np.stack(actions)
    applied = envs.action.to_environment
    check_finite(obs, reward, action, stream.rows, applied)
    if final_obs is not None:  # a row's final observation is its successor, as the next row's is elsewhere
        check_finite(np.concatenate([obs[:1], final_obs]), reward, action, stream.rows, applied)
    if stream.unproven:
        stream.unproven = False
        advise(advice.lost_precision(obs, envs.observation, stream.offset))
    stream.obs, stream.start, stream.rows = obs[-1], start[-1], stream.rows + horizon
    return Experience(obs, action, reward, terminated, truncated, over, mask, start, final_obs=final_obs)
