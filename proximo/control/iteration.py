"""One turn of training, and what every kind of training starts from."""

import math
import os
import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.control.agent import Agent
from proximo.control.collect import Stream, advise
from proximo.control.config import Config
from proximo.control.streams import Streams, environment_seeds, later_seeds
from proximo.core import AdaptiveKLPenalty, Objective, with_numbers
from proximo.envs import Episode, EpisodeStatistics, HostEnvs, advice, make_envs
from proximo.envs.parts import codec_for
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import EpisodesRestarted, UpdateDiverged, UserError
from proximo.learn.descend import adam
from proximo.learn.normalise import observation_normaliser, reward_normaliser, with_offset
from proximo.learn.update import Learner
from proximo.policies import ActorCritic, ScheduledGaussianHead
from proximo.runs.forks import refuse_after_fork
from proximo.runs.named import filled, named_arrays


class Snapshot(NamedTuple):
    """All that decides how a run goes on, as plain data and NumPy arrays, but for its configuration.

    Random streams need no more: actions draw from the seed and the iteration's number, shuffles from the
    learner's key, resets from the environments' own generators.

    learner  `named_arrays` of a `Learner`
    stream   of `Stream.state`; None where every iteration starts new episodes
    """

    number: int
    steps: int
    learner: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    stream: dict[str, Any] | None


@dataclass(frozen=True)
class Iteration:
    """One turn of the loop: what was learned, and how it went.

    steps     environment steps learned from so far
    learner   everything that learning changes
    agent     the policy, ready to act
    metrics   the update's metrics, read from the device
    episodes  the episodes that ended in this rollout; their returns are raw
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

    @property
    def sound(self) -> bool:
        """Whether the update stayed within the finite numbers; only members of an ensemble come without."""
        return all(math.isfinite(value) for value in self.metrics.values())


def diverged(iteration: Iteration) -> UpdateDiverged:
    """The error for an iteration that is not sound."""
    name, value = next((n, x) for n, x in iteration.metrics.items() if not math.isfinite(x))
    kept = ", the policy before it kept" if iteration.number > 1 else ""
    return UpdateDiverged(
        f"{name} is {value} after {iteration.steps} steps: the update is discarded{kept}; "
        "lower --learning-rate, or normalise observations and rewards",
        iteration,
    )


Iterations = Generator[Iteration, None, None]


def environments(config: Config, num_envs: int, **make_options: Any) -> HostEnvs:
    """The environments that a configuration asks for; `make_options` as of `make_envs`."""
    refuse_after_fork()
    mode = config.vectorization_mode
    if mode != "vector_entry_point":
        watch = {name: getattr(config, name) for name in ("step_timeout", "restart_interval")}
        members = num_envs // config.num_envs
        watch["max_restarts"] = 0 if mode == "sync" else config.max_restarts * members
        make_options = {"vector_kwargs": watch, **make_options}
    make_options = {"env_kwargs": config.env_kwargs, **make_options}
    envs = make_envs(config.env, num_envs, vectorization_mode=mode, **make_options)
    require_memory(envs, config.horizon)
    ours = isinstance(envs.vector, ParallelVectorEnv)
    if not ours and envs.seam_rows:  # elsewhere a reset, which may take longer, is part of a step
        envs.step_timeout = config.step_timeout * envs.num_envs
    return envs


def require_memory(envs: HostEnvs, horizon: int) -> None:
    """Close the environments and raise UserError where this machine cannot hold a rollout of them.

    An update needs its observations twice, as they came and normalised.
    """
    size = 2 * (horizon + 1) * envs.num_envs * envs.observation.shape[0] * envs.observation.dtype.itemsize
    has = memory()
    if has is not None and size > has:
        envs.close()
        raise UserError(
            f"a rollout of horizon x num_envs = {horizon} x {envs.num_envs} observations of "
            f"{envs.observation.shape[0]:,} numbers takes {size / 2**30:,.0f} GiB, this machine has "
            f"{has / 2**30:,.0f}: lower horizon or num_envs, or let the environment return less"
        )


def memory() -> int | None:
    """Bytes of this machine's memory; None where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; and systems that know no such names
        return None


def new_learner(config: Config, envs: HostEnvs, seeds: Streams) -> Learner:
    """The learner before its first rollout."""
    codec = codec_for(envs.spaces[0], ActorCritic.in_parts)
    active = codec.normalised & config.update.normalise_observations
    policy = ActorCritic(seeds.initialisation, codec.shape[0], envs.action.kind, config.network)
    return Learner(
        policy=policy,
        optimiser=adam(policy),
        actor_memory=config.update.actor_step.start(policy),
        objective=jax.tree.map(jnp.float32, config.update.objective),
        learning_rate=jnp.full((), config.update.learning_rate),
        observations=observation_normaliser(active),
        rewards=reward_normaliser(config.num_envs),
        key=seeds.shuffling,
        steps=jnp.zeros((), jnp.int32),
    )


def resumed(
    config: Config, envs: HostEnvs, seeds: Streams, start: Snapshot | None
) -> tuple[Learner, EpisodeStatistics, int, int]:
    """Learner, statistics, iterations and steps so far: those of a snapshot, or of the beginning.

    Raises UserError if the snapshot is of another configuration.
    """
    learner, statistics = new_learner(config, envs, seeds), EpisodeStatistics(config.num_envs)
    if start is None:
        return learner, statistics, 0, 0
    statistics.restore(start.statistics)
    saved = with_offset(start.learner, learner.observations.active)
    saved = with_objective(saved, learner.objective)
    return filled(learner, saved, "the checkpoint"), statistics, start.number, start.steps


def with_objective(arrays: Mapping[str, np.ndarray], objective: Objective) -> dict[str, np.ndarray]:
    """Saved arrays as this version has them: version 0.1 kept no number of an objective but its beta."""
    if "kl_coefficient" not in arrays:
        return dict(arrays)
    if isinstance(objective, AdaptiveKLPenalty):
        objective = with_numbers(objective, beta=float(arrays["kl_coefficient"]))
        objective = jax.tree.map(jnp.float32, objective)
    return {**arrays, **{f"objective.{name}": array for name, array in named_arrays(objective).items()}}


def stream_for(learner: Learner, config: Config, envs: HostEnvs, seeds: list[int]) -> Stream:
    """Experience that begins now. Its observations are relative to what the learner's were.

    Where it has seen none, the first ones decide that (`relative`), unless they are not normalised: then
    every entry is to reach the networks as it is.
    """
    new = learner.steps == 0
    undecided = new and config.update.normalise_observations
    offset = None if undecided else np.asarray(learner.observations.offset)
    policy = learner.policy
    stream = Stream(envs, seeds, offset, policy.begin(envs.num_envs), policy.in_parts)
    if new:
        std = math.exp(config.network.initial_log_std)
        advise(advice.unreachable_actions(envs.spaces[1], std) + advice.running_statistics(envs.vector))
        stream.unproven = True
    return stream


def relative(learner: Learner, stream: Stream) -> Learner:
    """The learner of a stream that has begun: it knows what its observations are relative to."""
    offset = jnp.asarray(stream.offset)
    return learner._replace(observations=learner.observations._replace(offset=offset))


def begin(
    config: Config, envs: HostEnvs, seeds: Streams, start: Snapshot | None
) -> tuple[Learner, Stream, EpisodeStatistics, int, int]:
    """`resumed`, and the stream of experience where it was.

    Environments that cannot tell their state, or do not take it back, start new episodes, with seeds that no
    episode before had; a warning says so, and what was under way counts for nothing.
    """
    learner, statistics, number, steps = resumed(config, envs, seeds, start)
    if start is None or start.stream is None:
        first = environment_seeds(seeds.environments, envs.num_envs)
        stream = stream_for(learner, config, envs, first)
        return relative(learner, stream), stream, statistics, number, steps
    later = later_seeds(seeds.environments, number, envs.num_envs)
    stream = stream_for(learner, config, envs, later)
    if why := stream.restore(start.stream):
        statistics.restart()
        learner = learner._replace(rewards=learner.rewards._replace(running=jnp.zeros(envs.num_envs)))
        warnings.warn(
            f"{envs.name} {why}: the episodes that were under way start anew, and the run goes on, but not "
            "bit for bit",
            EpisodesRestarted,
            stacklevel=3,
        )
    return learner, stream, statistics, number, steps


def snapshot(
    number: int,
    steps: int,
    learner: Learner,
    statistics: EpisodeStatistics,
    stream: Stream | None = None,
    part: slice = slice(None),
) -> Snapshot:
    """A run as it is now; `part` are its environments, where the stream has those of others too."""
    state = None if stream is None else stream.state(part)
    return Snapshot(number, steps, named_arrays(learner), statistics.state(), state)


def scheduled(learner: Learner, remaining: float | Array) -> Learner:
    """The learner with what follows a schedule, not the gradient, where the schedule has it.

    remaining  the share of training that is left; one for each member of an ensemble
    """
    if not isinstance(learner.policy.head, ScheduledGaussianHead):
        return learner
    head = learner.policy.head.annealed(remaining)
    return learner._replace(policy=eqx.tree_at(lambda policy: policy.head, learner.policy, head))


def over(config: Config, steps: int, statistics: EpisodeStatistics) -> bool:
    """Whether a training has come to its end: all its steps are made, or `until` is reached.

    That asks for the mean return of the last 100 episodes, all of them there.
    """
    if steps >= config.steps:
        return True
    whole = len(statistics.recent) == statistics.recent.maxlen
    return config.until is not None and whole and statistics.mean_return() >= config.until
