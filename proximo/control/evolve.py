"""The cross-entropy method (Szita and Lorincz 2006): whole episodes in, a better spread of actors out.

It shares environments, collection, statistics and run folder with everything else, but has neither
gradient nor critic, so the loop is its own. `training` hands over to it.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.control.acting import Act, SharedInput, actor_of
from proximo.control.agent import Agent
from proximo.control.collect import Stream, collect
from proximo.control.config import Config
from proximo.control.iteration import (
    Iteration,
    Iterations,
    Snapshot,
    environments,
    over,
    relative,
    resumed,
    snapshot,
    stream_for,
)
from proximo.control.streams import later_seeds, streams
from proximo.core import candidates, refit
from proximo.core.types import Experience
from proximo.envs import Episode
from proximo.errors import UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.actor_vector import with_actor
from proximo.learn.update import Learner


def evolution(config: Config, start: Snapshot | None = None, **make_options: Any) -> Iterations:
    """One generation at a time: every environment plays with an actor of its own, at least one episode.

    config        a valid one whose `actor_step` is a `CrossEntropy`; `num_envs` is the population
    start         where to go on
    make_options  passed on to `make_envs`

    Actions are the actors' most likely ones: the parameters are all that is random. Raises
    EnvironmentFault when an environment fails.
    """
    step: Any = config.update.actor_step
    seeds = streams(config.seed)
    envs = environments(config, config.num_envs, **make_options)
    try:
        learner, statistics, number, steps = resumed(config, envs, seeds, start)
        population = Candidates(learner, config)
        while steps < config.steps:
            remaining = 1.0 - steps / config.steps
            actors, act = population.drawn(learner, jax.random.fold_in(seeds.actions, number))
            new_seeds = later_seeds(seeds.environments, number, envs.num_envs)
            stream = stream_for(learner, config, envs, new_seeds)
            learner = relative(learner, stream)
            statistics.restart()
            episodes: list[Episode] = []
            for experience in until_all_have_ended(act, stream, population.idle, config.steps):
                episodes += statistics.update(experience, stream.success)
                steps += int(experience.mask.sum())
                learner = counted_in(learner, experience)
            fitness = mean_returns(episodes, envs.num_envs)
            learner, metrics = evolved(learner, actors, fitness, step, remaining)
            number += 1
            last = over(config, steps, statistics)
            yield Iteration(
                number=number,
                steps=steps,
                learner=learner,
                agent=Agent(
                    learner.policy, learner.observations, envs.spaces, envs.description, population.actor
                ),
                metrics={name: float(value) for name, value in jax.device_get(metrics).items()}
                | statistics.metrics()
                | {"rollout/restarts": float(envs.restarts)},
                episodes=episodes,
                mean_return=statistics.mean_return(),
                mean_length=statistics.mean_length(),
                snapshot=partial(snapshot, number, steps, learner, statistics),
                last=last,
            )
            if last:
                return
    finally:
        envs.close()


class Candidates:
    """The actors of a generation as one function of all environments' observations.

    actor  compiled for one policy, shared by the agents
    idle   [T, N], what stands for the noise that deterministic actions do without
    """

    def __init__(self, learner: Learner, config: Config) -> None:
        self.actor = actor_of(learner.policy, learner.observations)
        self.idle = np.zeros((config.horizon, config.num_envs), np.float32)
        self._mode = jax.jit(jax.vmap(self.actor.mode))

        @jax.jit
        def draw(learner: Learner, key: Array) -> tuple[Array, Array]:
            memory = learner.actor_memory
            noise = jax.random.normal(key, (config.num_envs, *memory.mean.shape))
            actors = candidates(memory, noise)
            policies = jax.vmap(partial(with_actor, learner.policy))(actors)
            parameters = jax.vmap(self.actor.parameters, (0, None))
            return actors, parameters(policies, learner.observations)

        self._draw = draw

    def drawn(self, learner: Learner, key: Array) -> tuple[Float[Array, "N P"], Act]:
        """New actors, [N, P], and (observations [N, ...], anything) -> actions, row n from actor n."""
        actors, flat = self._draw(learner, key)
        shared: list[SharedInput] = []

        def act(obs: np.ndarray, noise: np.ndarray, start: Any, carry: Any) -> tuple[np.ndarray, Any]:
            if not shared:
                shared.append(SharedInput(obs))
            return np.asarray(self._mode(flat, shared[0](obs))[0]), carry

        return actors, act


def until_all_have_ended(act: Act, stream: Stream, idle: np.ndarray, most: int) -> Iterator[Experience]:
    """Rollouts until every environment has ended an episode.

    Raises UserError if that takes more than so many steps: a candidate is judged by whole episodes.
    """
    ended, steps = np.zeros(stream.envs.num_envs, bool), 0
    while not ended.all():
        if steps > most:
            raise UserError(
                f"{stream.envs.name} has not ended an episode in {steps:,} steps, and candidates are judged "
                "by whole ones: give it a time limit (gymnasium.wrappers.TimeLimit)"
            )
        experience = collect(act, stream, idle)
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
def counted_in(learner: Learner, experience: Experience) -> Learner:
    """The learner with the observations and steps counted; the actors of the generation are drawn."""
    return learner._replace(
        observations=learner.observations.after(experience),
        steps=learner.steps + jnp.sum(experience.mask).astype(learner.steps.dtype),
    )


@jax.jit
def evolved(
    learner: Learner, actors: Array, fitness: Array, step: CrossEntropy, remaining: float | Array
) -> tuple[Learner, dict[str, Array]]:
    """The next generation's distribution, its mean as the policy, and what to log."""
    memory = refit(learner.actor_memory, actors, fitness, step.elite, step.extra_std * remaining)
    metrics = {
        "train/fitness_mean": jnp.mean(fitness),
        "train/fitness_best": jnp.max(fitness),
        "train/parameter_std": jnp.mean(memory.std),
    }
    policy = with_actor(learner.policy, memory.mean)
    return learner._replace(policy=policy, actor_memory=memory), metrics
