"""Evaluation: whole episodes of a frozen policy, and how sure their mean is."""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from proximo.envs import EpisodeStatistics, HostEnvs, make_envs, own_num_envs
from proximo.errors import UserError
from proximo.learn.agent import Agent
from proximo.learn.streams import environment_seeds, streams

MOST_ENVS = 16
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation:
    """Raw returns of whole episodes; `low` and `high` bound their mean with 95% confidence (Student's t)."""

    mean: float
    std: float
    low: float
    high: float
    episodes: int
    returns: list[float]
    lengths: list[int]

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95% interval (Student's t) of independent values; one value has no interval but itself."""
    from scipy.special import stdtrit  # an eighth of this package's import, for one number

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, mean, mean
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * float(np.std(values, ddof=1)) / count**0.5
    return mean, mean - half, mean + half


def summary(returns: list[float], lengths: list[int]) -> Evaluation:
    """Mean, standard deviation and interval of episode returns."""
    std = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    mean, low, high = interval(returns)
    return Evaluation(mean, std, low, high, len(returns), returns, lengths)


def evaluate(
    agent: Agent,
    env: Any = None,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    **make_options: Any,
) -> Evaluation:
    """Play whole episodes and sum them up; the agent and its statistics do not move.

    env            where to play; the environment the agent was trained on unless said otherwise
    episodes       shared out evenly over up to 16 environments, so that short ones are not preferred
    seed           of the environments and of sampled actions; training never draws from this stream
    deterministic  the most likely action at every step, or a sample

    The same arguments give the same returns. Raises UserError for fewer than one episode.
    """
    if episodes < 1:
        raise UserError(f"episodes is {episodes}: it must be at least 1")
    where = agent.name if env is None else env
    envs = make_envs(where, own_num_envs(where) or min(episodes, MOST_ENVS), **make_options)
    try:
        fits = envs.observation.shape == agent.observation.shape and envs.action.kind == agent.action.kind
        if not fits:
            raise UserError(f"{envs.name} has other observations or actions than {agent.name}: play it there")
        shares = [episodes // envs.num_envs + (i < episodes % envs.num_envs) for i in range(envs.num_envs)]
        return summary(*_play(agent, envs, shares, seed, deterministic))
    finally:
        envs.close()


def _play(
    agent: Agent, envs: HostEnvs, shares: list[int], seed: int, deterministic: bool
) -> tuple[list[float], list[int]]:
    """Episodes until environment i has ended `shares[i]` of them; in the order of the environments."""
    evaluation = streams(seed).evaluation
    sequence, noise_sequence = evaluation.spawn(2)
    key = jax.random.key(int(noise_sequence.generate_state(1)[0]))
    obs = np.empty((envs.num_envs, *envs.observation.shape), envs.observation.dtype)
    envs.observation.encode(envs.reset(environment_seeds(sequence, envs.num_envs)), obs)
    statistics = EpisodeStatistics(envs.num_envs)
    played: list[list[Any]] = [[] for _ in shares]
    seam = np.zeros(envs.num_envs, bool)
    while any(len(mine) < share for mine, share in zip(played, shares, strict=True)):
        if deterministic:
            action = agent.choose(obs)
        else:
            key, draw = jax.random.split(key)
            action = agent.sample(obs, draw)
        step = envs.step(envs.action.to_environment(action))
        envs.observation.encode(step.obs, obs)
        mask = (~seam).astype(np.float32)
        rows = (np.asarray(x)[None] for x in (step.reward, step.terminated, step.truncated, mask))
        for episode in statistics.update(*rows):
            played[episode.env].append(episode)
        seam = (step.terminated | step.truncated) & envs.seam_rows
    kept = [episode for mine, share in zip(played, shares, strict=True) for episode in mine[:share]]
    return [episode.episode_return for episode in kept], [episode.length for episode in kept]
