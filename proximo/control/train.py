"""The training loop: the table of contents of this library.

for iteration in training(config):
    print(iteration.steps, iteration.mean_return)
    if iteration.mean_return > 475:
        break
"""

import contextlib
import warnings
from typing import Any

import jax.numpy as jnp

from proximo.control.acting import actor_of
from proximo.control.agent import Agent
from proximo.control.arena import Arena, environments, open_stream, with_offset_of
from proximo.control.config import Config, validate
from proximo.control.cross_entropy import cross_entropy_method
from proximo.control.iteration import Iteration, Iterations, Progress, Snapshot, diverged
from proximo.control.learner import new_learner, restore_learner, scheduled
from proximo.control.streams import environment_seeds, later_seeds, streams
from proximo.control.warm_start import warm_started
from proximo.errors import EpisodesRestarted
from proximo.learn.update import Learner, update

__all__ = ["Iteration", "policy_optimisation", "training"]


def training(
    config: Config, start: Snapshot | None = None, *, start_from: Agent | None = None, **make_options: Any
) -> Iterations:
    """Train by the method of the configuration, one iteration at a time.

    config        what to train, and how
    start         where to continue; by default the beginning
    start_from    an agent whose policy and observation statistics to start from, as in `warm_start`
    make_options  passed on to `make_envs` (allow_import=True lets `module:EnvId` import its module)

    Ends after `config.steps` environment steps, or when `config.until` is reached; a loop may break out of it
    earlier. Raises UserError for invalid options, EnvironmentFault if an environment fails, UpdateDiverged if
    an update diverges (NaN or infinity). Iterations that were yielded before stay valid.
    """
    config = validate(config)
    method = policy_optimisation if config.population is None else cross_entropy_method
    return method(config, start, start_from, **make_options)


def policy_optimisation(
    config: Config, start: Snapshot | None = None, start_from: Agent | None = None, **make_options: Any
) -> Iterations:
    """Proximal Policy Optimization (Schulman 2017, algorithm 1), and all that differs in its update alone."""
    arena, learner, progress = begin(config, start, start_from, **make_options)
    with arena:
        while not progress.over:
            remaining = progress.remaining
            learner = scheduled(learner, remaining)
            experience = arena.experience(learner, progress.number)
            learner, metrics = update(learner, experience, config.update, remaining)
            iteration = progress.after(experience, learner, metrics, arena.stream)
            if not iteration.sound:
                raise diverged(iteration)
            yield iteration


def begin(
    config: Config, start: Snapshot | None, start_from: Agent | None = None, **make_options: Any
) -> tuple[Arena, Learner, Progress]:
    """Environments, learner and progress, new or of a snapshot.

    Environments that cannot save or restore their state start new episodes, with new seeds. A warning
    says so, and the episodes under way are discarded. Raises UserError if the snapshot is of another
    configuration.
    """
    seeds = streams(config.seed)
    with contextlib.ExitStack() as failing:
        envs = failing.enter_context(environments(config, config.num_envs, **make_options))
        learner, progress = new_learner(config, envs, seeds), Progress(config, start)
        learner = warm_started(learner, start_from, config, envs)
        if start is not None:
            learner = restore_learner(learner, start.learner)
        if start is None or start.stream is None:
            first = environment_seeds(seeds.environments, envs.num_envs)
            stream = open_stream(learner, config, envs, first)
            learner = with_offset_of(learner, stream)
        else:
            later = later_seeds(seeds.environments, progress.number, envs.num_envs)
            stream = open_stream(learner, config, envs, later)
            if why := stream.restore(start.stream):
                progress.statistics.restart()
                learner = learner._replace(rewards=learner.rewards._replace(running=jnp.zeros(envs.num_envs)))
                warnings.warn(
                    f"{envs.name} {why}: the episodes that were under way are restarted; the run continues, "
                    "but not bit for bit",
                    EpisodesRestarted,
                    stacklevel=3,
                )
        actor = actor_of(learner.policy, learner.observations)
        arena = Arena(stream, actor, seeds.actions, config.horizon)
        failing.pop_all()  # from now on the arena closes them
    return arena, learner, progress
