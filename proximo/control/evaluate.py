"""Evaluation: full episodes of a frozen policy, with an interval for their mean."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import recipe
from proximo.control.seen import critic_only
from proximo.control.streams import environment_seeds, streams
from proximo.core.types import Experience, vector_of
from proximo.envs import (
    Episode,
    EpisodeStatistics,
    HostEnvs,
    check_finite,
    check_fits,
    find_env,
    make_envs,
    own_num_envs,
    select_environment,
)
from proximo.errors import EnvironmentFault, UserError
from proximo.keywords import of_evaluation
from proximo.plain import plain
from proximo.runs.statistics import mean_of

MOST_ENVS = 16
MAX_STEPS = 1_000_000  # of an episode: what never ends must not be played for ever
LONG = 20_000  # steps without an end, after which a line says so


@dataclass(frozen=True)
class Evaluation:
    """Raw returns of full episodes; `low` and `high` bound their mean with 95% confidence.

    interval  how the bounds were computed; None for one episode, whose bounds are its return
    environment_seeds  for each episode, the seed that its environment was first reset with
    seed, deterministic  what the episodes were played with
    success_rate         the share of successes among episodes with `is_success` in their last info; None if
                         none has it
    """

    mean: float
    std: float
    low: float
    high: float
    episodes: int
    returns: list[float]
    lengths: list[int]
    environment_seeds: list[int] = field(default_factory=list)
    seed: int = 0
    deterministic: bool = True
    interval: str | None = None
    success_rate: float | None = None

    def __str__(self) -> str:
        sure = f"95% interval {self.low:,.2f} to {self.high:,.2f}, {self.interval}"
        success = "" if self.success_rate is None else f", success rate {self.success_rate:.0%}"
        return (
            f"{self.episodes} episodes: mean return {self.mean:,.2f} "
            f"({sure if self.interval else 'one episode: no interval'}), std {self.std:,.2f}, "
            f"mean length {sum(self.lengths) / self.episodes:,.1f}{success}"
        )

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def summary(returns: list[float], lengths: list[int]) -> Evaluation:
    """Mean, standard deviation and interval of episode returns."""
    std = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    mean, low, high, how = mean_of(returns)
    bounds = (mean, mean) if low is None or high is None else (low, high)
    return Evaluation(mean, std, *bounds, len(returns), returns, lengths, interval=how)


def evaluate(
    agent: Agent,
    env: Any = None,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    until_width: float | None = None,
    max_episodes: int = 10_000,
    num_envs: int | None = None,
    max_steps: int = MAX_STEPS,
    env_kwargs: Mapping[str, Any] | None = None,
    **make_options: Any,
) -> Evaluation:
    """Play full episodes and summarise them; the agent and its statistics do not change.

    env            where to play; by default the environment that the agent was trained on, with its arguments
                   and wrappers. A different environment is a warning, or an error if its observations
                   or actions would mean something else
    episodes       split evenly across the environments, so that short episodes are not over-represented
    seed           of the environments and of sampled actions; training never draws from this stream
    deterministic  the most likely action at every step, or a sample
    until_width    play more, `episodes` at a time, until the interval is narrower than this. Checking after
                   every round makes it slightly too narrow: use few rounds of many episodes
    max_episodes   the most episodes to play with `until_width`
    num_envs       environments in parallel; by default up to 16. Use 1 if only one can exist at a time
    max_steps      a longer episode is an error: it might never end
    env_kwargs     arguments of the environment, which override those that it was trained with
    make_options   as in `make_envs`; environments that are trained on all cores are played on all of them

    The same arguments give the same returns, on any number of cores, whether played in one round or in
    several. Raises UserError for fewer than one episode, and for a width that is not positive. Raises
    EnvironmentFault if an environment fails, does not end, or returns NaN or infinity.
    """
    make_options = of_evaluation(make_options)
    episodes = make_options.pop("episodes", episodes)
    episodes, seed = plain(episodes), plain(seed)  # they are written beside the returns
    if episodes < 1:
        raise UserError(f"episodes is {episodes}: it must be at least 1")
    if until_width is not None:
        if not until_width > 0:
            raise UserError(f"until_width is {until_width}: it must be above 0")
        if max_episodes < episodes:
            raise UserError(f"max_episodes is {max_episodes}: it must be at least episodes, {episodes}")
    for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    where, kwargs = select_environment(
        agent.environment, env, env_kwargs, allow_import=make_options.get("allow_import", False)
    )
    own = own_num_envs(where) if num_envs is None else None
    count = own or min(episodes, num_envs or MOST_ENVS)
    with _make_vector(where, count, env_kwargs=kwargs, **make_options) as envs:
        check_fits(agent.environment, agent.spaces, envs, unseen=critic_only(agent.policy))
        play = Evaluator(agent, envs, seed, deterministic, max_steps)
        total = episodes
        while True:
            found = play.summary(total)
            narrow = until_width is None or (total > 1 and found.high - found.low < until_width)
            if narrow or total == max_episodes:
                return found
            total = min(total + episodes, max_episodes)


def _make_vector(where: Any, num_envs: int, **make_options: Any) -> HostEnvs:
    """Environments split across all cores if `default` trains so; a failed one is not restarted."""
    if "vectorization_mode" not in make_options:
        if isinstance(where, str):  # whose module may have to be imported before its family is known
            find_env(where, allow_import=make_options.get("allow_import", False))
        mode = recipe(where).get("vectorization_mode")
        if mode == "auto":
            watch = {"max_restarts": 0}
            make_options = {"vectorization_mode": "parallel", "vector_kwargs": watch, **make_options}
        elif mode is not None:
            make_options = {"vectorization_mode": mode, **make_options}
    try:
        return make_envs(where, num_envs, **make_options)
    except UserError as error:
        cause = error.__cause__
        if num_envs == 1 or cause is None or isinstance(cause, TypeError | ImportError):
            raise
        told = f"{error}; if fewer than {num_envs} can exist at a time, use --num-envs 1 (num_envs=1)"
        raise UserError(told) from cause


class Evaluator:
    """A frozen policy in its environments; plays as many episodes as are asked for.

    max_steps  a longer episode raises EnvironmentFault
    remedy     what else to do about it, for the message
    """

    def __init__(
        self,
        agent: Agent,
        envs: HostEnvs,
        seed: int,
        deterministic: bool,
        max_steps: int = MAX_STEPS,
        remedy: str = ", or allow more with --max-steps",
    ) -> None:
        self.agent, self.envs, self.seed, self.deterministic = agent, envs, seed, deterministic
        self.max_steps, self.remedy = max_steps, remedy
        sequence, noise_sequence = streams(seed).evaluation.spawn(2)
        self.seeds = environment_seeds(sequence, envs.num_envs)
        self.key = jax.random.key(int(noise_sequence.generate_state(1)[0]))
        self.statistics = EpisodeStatistics(envs.num_envs)
        self.played: list[list[Episode]] = [[] for _ in self.seeds]
        self.successes: list[list[float]] = [[] for _ in self.seeds]  # of the same episodes; NaN for none
        self.steps = self._steps()

    def summary(self, episodes: int) -> Evaluation:
        """The first `episodes`, split evenly, in the order of the environments."""
        count = self.envs.num_envs
        shares = [episodes // count + (index < episodes % count) for index in range(count)]
        while any(len(mine) < share for mine, share in zip(self.played, shares, strict=True)):
            next(self.steps)
            self._check_length()
        kept = [episode for mine, share in zip(self.played, shares, strict=True) for episode in mine[:share]]
        found = summary([episode.episode_return for episode in kept], [episode.length for episode in kept])
        told = [one for mine, share in zip(self.successes, shares, strict=True) for one in mine[:share]]
        told = [one for one in told if not math.isnan(one)]
        return replace(
            found,
            environment_seeds=[self.seeds[episode.env] for episode in kept],
            seed=self.seed,
            deterministic=self.deterministic,
            success_rate=float(np.mean(told)) if told else None,
        )

    def _check_length(self) -> None:
        """Report, once, that no episode ends; raises EnvironmentFault if one is too long."""
        longest = int(self.statistics.length_so_far.max())
        if longest > self.max_steps:
            raise EnvironmentFault(
                f"an episode of {self.envs.name} has not ended in {self.max_steps:,} steps: limit it with "
                "gymnasium.wrappers.TimeLimit (--env-kwargs max_episode_steps=1000 for a registered one)"
                f"{self.remedy}"
            )
        if longest == LONG and not any(self.played):
            print(
                f"no episode of {self.envs.name} has ended in {LONG:,} steps; the evaluation fails after "
                f"{self.max_steps:,}",
                file=sys.stderr,
                flush=True,
            )

    def _steps(self) -> Iterator[None]:
        """Reset all environments, then step them without end; the episodes that end go into `played`."""
        agent, envs = self.agent, self.envs
        to_environment = agent.action_in(envs.spaces[1]).to_environment
        first = envs.reset(self.seeds)
        agent.require_masks_of(envs)
        codec = agent.observation.beside(envs.legal)  # what it is relative to was fixed in training
        obs = codec.empty(envs.num_envs)
        numbers = vector_of(obs)  # of the same memory
        envs.write(codec, first, obs, envs.legal)
        seam, before = np.zeros(envs.num_envs, bool), np.empty_like(numbers)
        start, carry = np.ones(envs.num_envs, bool), agent.acting.begin(envs.num_envs)
        held, draw = getattr(agent.policy.head, "interval", 1), self.key  # steps of the same noise
        while True:
            yield
            memory = (start if jax.tree.leaves(carry) else None, carry)
            if self.deterministic:
                action, carry = agent.choose(obs, *memory)
            else:
                if (envs.steps % held) == 0:  # the same key is the same noise
                    self.key, draw = jax.random.split(self.key)
                action, carry = agent.sample(obs, draw, *memory)
            before[...], applied = numbers, to_environment(action)
            step = envs.step(applied)
            envs.write(codec, step.obs, obs, step.legal)
            check_finite(
                np.stack([before, numbers]), np.asarray(step.reward)[None], [applied], envs.steps - 1
            )
            over = step.over
            row = Experience(
                obs=None,
                action=None,
                reward=np.asarray(step.reward)[None, :, None],
                terminated=step.terminated[None],
                truncated=step.truncated[None],
                over=over[None],
                mask=~seam[None],
                start=start,
            )
            for episode in self.statistics.update(row):
                self.played[episode.env].append(episode)
                self.successes[episode.env].append(float(step.success[episode.env]))
            start, seam = seam if envs.seam_rows else over, over & envs.seam_rows
