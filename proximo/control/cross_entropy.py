"""The cross-entropy method (Szita and Lorincz 2006): full episodes of sampled actors, refitted to the best.

It shares environments, collection, statistics and run folder with everything else, but has neither
gradient nor critic, so its page is its own: the first one below.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.control.acting import Act, Actor, Columns, actor_of
from proximo.control.agent import Agent
from proximo.control.arena import environments, open_stream, with_offset_of
from proximo.control.collect import Stream, collect
from proximo.control.config import Config
from proximo.control.iteration import Iterations, Progress, Snapshot
from proximo.control.learner import new_learner, restore_learner
from proximo.control.streams import later_seeds, streams
from proximo.control.warm_start import warm_started
from proximo.core import candidates, refit
from proximo.core.types import Experience
from proximo.envs import Episode
from proximo.errors import UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.actor_vector import with_actor
from proximo.learn.update import Learner


def cross_entropy_method(
    config: Config, start: Snapshot | None = None, start_from: Agent | None = None, **make_options: Any
) -> Iterations:
    """One generation at a time: every environment plays with an actor of its own, at least one episode.

    config        a valid one with a `population`, which has an actor for each of its environments
    start         where to continue
    start_from    an agent whose policy is the first generation's mean
    make_options  passed on to `make_envs`

    Actions are the actors' most likely ones: the parameters are all that is random. Raises
    EnvironmentFault when an environment fails.
    """
    seeds, progress = streams(config.seed), Progress(config, start)
    with environments(config, config.num_envs, **make_options) as envs:
        learner = new_learner(config, envs, seeds)
        learner = warm_started(learner, start_from, config, envs)
        if start is not None:
            learner = restore_learner(learner, start.learner)
        actor = actor_of(learner.policy, learner.observations, Columns(envs.num_envs))
        while not progress.over:
            remaining = progress.remaining
            sampled, flat = sample_actors(learner, jax.random.fold_in(seeds.actions, progress.number), actor)
            new_seeds = later_seeds(seeds.environments, progress.number, envs.num_envs)
            stream = open_stream(learner, config, envs, new_seeds)
            stream.carry = actor.columns.split(stream.carry)
            learner = with_offset_of(learner, stream)
            progress.statistics.restart()
            for experience in whole_episodes(actor.stepper(flat, stream.obs), stream, config):
                progress.count(experience, stream.success)
                learner = update_statistics(learner, experience)
            fitness = mean_returns(progress.episodes, envs.num_envs)
            learner, metrics = next_generation(learner, sampled, fitness, config.population, remaining)
            yield progress.iteration(learner, metrics, envs)


@partial(jax.jit, static_argnames="actor")
def sample_actors(learner: Learner, key: Array, actor: Actor) -> tuple[Float[Array, "N P"], Array]:
    """New actors, [N, P], and what `Actor.stepper` takes to act as them."""
    memory, count = learner.actor_memory, actor.columns.policies or 1
    sampled = candidates(memory, jax.random.normal(key, (count, *memory.mean.shape)))
    policies = jax.vmap(partial(with_actor, learner.policy))(sampled)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), learner.observations)
    return sampled, actor.parameters(policies, each)


def whole_episodes(act: Act, stream: Stream, config: Config) -> Iterator[Experience]:
    """Rollouts until every environment has ended an episode.

    Raises UserError if that takes more steps than the training has: a candidate is judged by full episodes.
    """
    ended, steps = np.zeros(stream.envs.num_envs, bool), 0
    not_read = np.zeros((config.horizon, len(ended)), np.float32)  # the noise of actions that have none
    while not ended.all():
        if steps > config.steps:
            raise UserError(
                f"{stream.envs.name} has not ended an episode in {steps:,} steps, but candidates are judged "
                "by full episodes: give it a time limit (gymnasium.wrappers.TimeLimit)"
            )
        experience = collect(act, stream, not_read)
        steps += int(experience.mask.sum())
        ended |= experience.over.any(axis=0)
        yield experience


def mean_returns(episodes: list[Episode], num_envs: int) -> np.ndarray:
    """Each environment's mean return over the episodes that it ended, [N]."""
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    for episode in episodes:
        returns[episode.env].append(episode.episode_return)
    return np.array([np.mean(own) for own in returns], np.float32)


@jax.jit
def update_statistics(learner: Learner, experience: Experience) -> Learner:
    """The learner with the observations and steps counted; the actors of the generation are drawn."""
    return learner._replace(
        observations=learner.observations.after(experience),
        steps=learner.steps + jnp.sum(experience.mask).astype(learner.steps.dtype),
    )


@jax.jit
def next_generation(
    learner: Learner, sampled: Array, fitness: Array, population: CrossEntropy, remaining: float | Array
) -> tuple[Learner, dict[str, Array]]:
    """The next generation's distribution, its mean as the policy, and what to log."""
    memory = refit(learner.actor_memory, sampled, fitness, population.elite, population.extra_std * remaining)
    metrics = {
        "train/fitness_mean": jnp.mean(fitness),
        "train/fitness_best": jnp.max(fitness),
        "train/parameter_std": jnp.mean(memory.std),
    }
    policy = with_actor(learner.policy, memory.mean)
    return learner._replace(policy=policy, actor_memory=memory), metrics
