"""One turn of training, and how far a run is."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import Array

from proximo.control.agent import Agent
from proximo.control.collect import Stream
from proximo.control.config import Config
from proximo.core.types import Experience
from proximo.envs import Episode, EpisodeStatistics, HostEnvs
from proximo.envs.scaling import bounded
from proximo.errors import UpdateDiverged
from proximo.learn.update import Learner
from proximo.runs.named import named_arrays

EVALUATING = "time/time_evaluating"  # seconds so far that went into evaluations and not into training


class Snapshot(NamedTuple):
    """Everything that a run needs to continue, as plain data and NumPy arrays, except its configuration.

    Random streams need no more: actions draw from the seed and the iteration's number, shuffles from the
    learner's key, resets from the environments' own generators.

    learner  `named_arrays` of a `Learner`
    stream   of `Stream.state`; None if every iteration starts new episodes
    """

    number: int
    steps: int
    learner: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    stream: dict[str, Any] | None


@dataclass(frozen=True)
class Iteration:
    """One iteration of the training loop: what was learned, and the metrics.

    steps     environment steps learned from so far
    learner   everything that learning changes
    agent     the policy, ready to act
    metrics   the update's metrics, read from the device
    episodes  the episodes that ended in this rollout, with raw returns
    """

    number: int
    steps: int
    learner: Learner
    agent: Agent
    metrics: dict[str, float]
    episodes: list[Episode]
    mean_return: float  # of the last 100 training episodes; NaN before the first has ended
    mean_length: float
    snapshot: Callable[[], Snapshot]  # good until the next iteration is asked for
    last: bool = False  # the training has come to its end: all its steps are made, or `until` is reached

    def __repr__(self) -> str:
        told = (
            f"{self.steps:,} steps, mean return {self.mean_return:,.1f}, {len(self.episodes)} episodes ended"
        )
        return f"Iteration({self.number}: {told})"

    @property
    def sound(self) -> bool:
        """Whether the update stayed finite; only members of an ensemble can be unsound."""
        return all(math.isfinite(value) for value in self.metrics.values())


def diverged(iteration: Iteration) -> UpdateDiverged:
    """The error for an iteration that is not sound."""
    name, value = next((n, x) for n, x in iteration.metrics.items() if not math.isfinite(x))
    kept = ", and the policy before it is kept" if iteration.number > 1 else ""
    return UpdateDiverged(
        f"{name} is {value} after {iteration.steps} steps: the update is discarded{kept}; "
        "lower --learning-rate, or normalise observations and rewards",
        iteration,
    )


Iterations = Generator[Iteration, None, None]


class Progress:
    """How far a run is, on the host.

    number, steps  iterations, and environment steps learned from, so far
    statistics     of its episodes
    episodes       that ended since the last iteration
    over           all steps are made, or `until` is reached: the mean return of the last 100 episodes, all of
                   them there
    """

    def __init__(self, config: Config, start: Snapshot | None = None, part: slice = slice(None)) -> None:
        """Of the beginning, or of a snapshot; `part` are the run's environments in a stream with others."""
        self.config, self.part = config, part
        self.number, self.steps = (start.number, start.steps) if start else (0, 0)
        self.statistics = EpisodeStatistics(config.num_envs)
        if start:
            self.statistics.restore(start.statistics)
        self.episodes: list[Episode] = []
        self.over = self.steps >= config.steps

    @property
    def remaining(self) -> float:
        """The share of the training that is left, 1 at the start."""
        return max(0.0, 1.0 - self.steps / self.config.steps)

    def count(self, experience: Experience, success: np.ndarray) -> None:
        """Take in a rollout of the run's own environments; `success` is the stream's, [T, N]."""
        self.episodes += self.statistics.update(experience, success[:, self.part])
        self.steps += int(experience.mask.sum())

    def after(
        self, experience: Experience, learner: Learner, metrics: dict[str, Any], stream: Stream
    ) -> Iteration:
        """The iteration that learned from a rollout, counted in."""
        self.count(experience, stream.success)
        share = actions_at_bounds(experience, stream.envs)
        metrics = metrics | ({} if share is None else {"rollout/actions_at_bounds": share})
        return self.iteration(learner, metrics, stream.envs, stream)

    def iteration(
        self, learner: Learner, metrics: dict[str, Any], envs: HostEnvs, stream: Stream | None = None
    ) -> Iteration:
        """The iteration that learned from what was counted since the last one.

        stream  that the next iteration continues with; None if it starts new episodes
        """
        statistics, episodes = self.statistics, self.episodes
        mean_return, until = statistics.mean_return(), self.config.until
        all_there = len(statistics.recent) == statistics.recent.maxlen
        good = until is not None and all_there and mean_return >= until
        self.number, self.episodes = self.number + 1, []
        self.over = self.steps >= self.config.steps or good
        return Iteration(
            number=self.number,
            steps=self.steps,
            learner=learner,
            agent=Agent(
                learner.policy,
                learner.observations,
                envs.spaces,
                envs.description,
                scale_actions=self.config.scale_actions,
                masked=envs.legal is not None,
            ),
            metrics=numbers(metrics) | statistics.metrics() | {"rollout/restarts": float(envs.restarts)},
            episodes=episodes,
            mean_return=mean_return,
            mean_length=statistics.mean_length(),
            snapshot=partial(self._snapshot, learner, stream),
            last=self.over,
        )

    def _snapshot(self, learner: Learner, stream: Stream | None) -> Snapshot:
        state = None if stream is None else stream.state(self.part)
        return Snapshot(self.number, self.steps, named_arrays(learner), self.statistics.state(), state)


def actions_at_bounds(experience: Experience, envs: HostEnvs) -> float | None:
    """The share of a rollout's actions that the environment gets at a bound; None where there is none.

    Of whole numbers the bounds are actions like others.
    """
    space = envs.spaces[1]
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return None
    inside = bounded(space)
    if not inside.any():
        return None
    action = np.asarray(experience.action)[np.asarray(experience.mask) > 0]
    applied = envs.action.to_environment(action).reshape(len(action), -1)
    at = (applied <= space.low.reshape(-1)) | (applied >= space.high.reshape(-1))
    return float(at[:, inside].mean())


def numbers(metrics: dict[str, Array | float]) -> dict[str, float]:
    """The metrics as Python's own numbers, read from the device in one go."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}
