"""Training, whole: the table of contents of this library.

for iteration in training(config):
    print(iteration.steps, iteration.mean_return)
    if iteration.mean_return > 475:
        break
"""

from functools import partial
from typing import Any

import jax
import numpy as np

from proximo.control.acting import actor_of
from proximo.control.agent import Agent
from proximo.control.collect import collect
from proximo.control.config import Config, validated
from proximo.control.evolve import evolution
from proximo.control.iteration import (
    Iteration,
    Iterations,
    Snapshot,
    begin,
    diverged,
    environments,
    new_learner,
    over,
    scheduled,
    snapshot,
)
from proximo.control.streams import streams
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.update import update

__all__ = ["Iteration", "new_learner", "training"]


def training(config: Config, start: Snapshot | None = None, **make_options: Any) -> Iterations:
    """Proximal Policy Optimization (Schulman 2017, algorithm 1), one iteration at a time.

    config        what to train, and how
    start         where to go on; the beginning unless said otherwise
    make_options  passed on to `make_envs` (allow_import=True lets `module:EnvId` import its module)

    Ends when `config.steps` environment steps were learned from, or `config.until` is reached; a loop may
    break out of it earlier. Raises UserError for options that cannot be, EnvironmentFault when an environment
    fails, UpdateDiverged when an update leaves the finite numbers; what was yielded stays good.
    """
    config = validated(config)
    if isinstance(config.update.actor_step, CrossEntropy):
        yield from evolution(config, start, **make_options)
        return
    seeds = streams(config.seed)
    envs = environments(config, config.num_envs, **make_options)
    try:
        learner, stream, statistics, number, steps = begin(config, envs, seeds, start)
        actor = actor_of(learner.policy, learner.observations)
        shape = (config.horizon, envs.num_envs)
        while steps < config.steps:
            remaining = 1.0 - steps / config.steps
            learner = scheduled(learner, remaining)
            noise = np.asarray(actor.noise(jax.random.fold_in(seeds.actions, number), shape=shape))
            act = actor.stepper(actor.parameters(learner.policy, learner.observations), stream.obs, noise[0])
            experience = collect(act, stream, noise)
            episodes = statistics.update(experience, stream.success)
            learner, metrics = update(learner, experience, config.update, remaining)
            steps += int(experience.mask.sum())
            number += 1
            iteration = Iteration(
                number=number,
                steps=steps,
                learner=learner,
                agent=Agent(learner.policy, learner.observations, envs.spaces, envs.description, actor),
                metrics=numbers(metrics) | statistics.metrics() | {"rollout/restarts": float(envs.restarts)},
                episodes=episodes,
                mean_return=statistics.mean_return(),
                mean_length=statistics.mean_length(),
                snapshot=partial(snapshot, number, steps, learner, statistics, stream),
                last=over(config, steps, statistics),
            )
            if not iteration.sound:
                raise diverged(iteration)
            yield iteration
            if iteration.last:
                return
    finally:
        envs.close()


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics as Python's own numbers, read from the device in one go."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}
