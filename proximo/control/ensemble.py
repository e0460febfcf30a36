"""Several runs as one: members that differ in seed and in numbers, learned by one mapped update.

    configs = [with_options(config, seed=seed) for seed in range(5)]
    for turn in ensemble(configs):
        print([iteration.mean_return for iteration in turn if iteration])

Each member is the run it would have been alone, to rounding: its own parameters, environments, random
streams, statistics and end. What is shared is the price: one call acts for all, one call learns for all.
"""

import operator
from collections.abc import Generator, Hashable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.control.acting import Act, Actor, SharedInput, actor_of
from proximo.control.agent import Agent
from proximo.control.collect import Stream, collect
from proximo.control.config import Config, validated
from proximo.control.iteration import (
    Iteration,
    environments,
    new_learner,
    over,
    relative,
    scheduled,
    snapshot,
    stream_for,
)
from proximo.control.streams import environment_seeds, streams
from proximo.control.train import training
from proximo.core.types import Experience
from proximo.envs import EpisodeStatistics, own_num_envs
from proximo.errors import UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.update import Learner, update

Turn = list[Iteration | None]

members_update = jax.jit(jax.vmap(update, in_axes=(0, 1, 0, 0)))


def kin(config: Config) -> Hashable:
    """A key that is equal for configurations which can be members of one ensemble.

    They may differ in the seed and in the numbers of the algorithm, not in what decides the shape of the
    computation. A population (`cross-entropy`) is an ensemble already: its runs have no kin.
    """
    alone = config.seed if isinstance(config.update.actor_step, CrossEntropy) else None
    shared = [repr(getattr(config, f.name)) for f in fields(config) if f.name not in ("seed", "update")]
    return (jax.tree.structure(config.update), *shared, alone)


def ensemble(configs: Sequence[Config], **make_options: Any) -> Generator[Turn, None, None]:
    """Train all members side by side, one iteration of each per turn.

    configs       the members; each pair must be `kin`
    make_options  as of `training`

    Yields a list with an `Iteration` per member, in order; None for one that had come to its end before.
    A member's snapshot is that of a run of its own, and `training` goes on from it. An update that leaves
    the finite numbers ends its own member alone: its last iteration holds the metrics as they came, and
    the learner from before. Raises UserError for members that are no kin and for what `training` raises it
    for, EnvironmentFault when an environment fails.
    """
    if len(configs) == 1:
        for iteration in training(configs[0], **make_options):
            yield [iteration]
        return
    configs = together([validated(config) for config in configs])
    first = configs[0]
    count, num_envs = len(configs), first.num_envs
    envs = environments(first, count * num_envs, **make_options)
    try:
        seeds = [streams(config.seed) for config in configs]
        members = [new_learner(config, envs, seed) for config, seed in zip(configs, seeds, strict=True)]
        first_seeds = [x for seed in seeds for x in environment_seeds(seed.environments, num_envs)]
        stream = stream_for(members[0], first, envs, first_seeds)
        members = [relative(member, stream) for member in members]
        learner, options = stacked(members), stacked([config.update for config in configs])
        actor = actor_of(members[0].policy, members[0].observations)
        crew = Crew(actor, count, num_envs, first.horizon, stacked([seed.actions for seed in seeds]))
        ledgers = [Ledger(config) for config in configs]
        number = 0
        while not all(ledger.ended for ledger in ledgers):
            remaining = jnp.array([ledger.remaining for ledger in ledgers])
            learner = scheduled(learner, remaining)
            noise = crew.noise(number)
            experience = collect(crew.act(learner, stream.obs, noise[0]), stream, noise)
            experience = by_member(experience, count)
            after, metrics = members_update(learner, experience, options, remaining)
            metrics = jax.device_get(metrics)
            learner = chosen(finite_members(metrics), after, learner)
            number += 1
            turn: Turn = []
            for index, member in enumerate(apart(learner)):
                own = {name: float(values[index]) for name, values in metrics.items()}
                own["rollout/restarts"] = float(envs.restarts)
                agent = Agent(member.policy, member.observations, envs.spaces, envs.description, actor)
                turn.append(ledgers[index].entry(index, number, experience, member, agent, own, stream))
            yield turn
    finally:
        envs.close()


def together(configs: list[Config]) -> list[Config]:
    """The same configurations. Raises UserError unless they can be one ensemble."""
    first = configs[0]
    if isinstance(first.update.actor_step, CrossEntropy):
        raise UserError("a population is an ensemble already: run the seeds of `cross-entropy` one by one")
    if own_num_envs(first.env) is not None:
        raise UserError("several seeds need environments of their own: pass an id, a class or a function")
    if first.vectorization_mode == "vector_entry_point":
        raise UserError("a vector of its own takes one seed for all: run the seeds one by one, or in `sync`")
    if any(kin(config) != kin(first) for config in configs):
        raise UserError("members of an ensemble may differ in seed and in the algorithm's numbers alone")
    return configs


class Crew:
    """All members' policies as one function, and the noise of their actions.

    actor                   of any member; it is mapped over their parameters
    count, num_envs, horizon  members, environments of each, rows of a rollout
    keys                    each member's stream of action noise, [count]
    """

    def __init__(self, actor: Actor, count: int, num_envs: int, horizon: int, keys: Array) -> None:
        self.count, self.shape, self.keys = count, (horizon, num_envs), keys
        self._parameters = jax.jit(jax.vmap(actor.parameters))
        self._sample = jax.jit(jax.vmap(actor.sample))  # members have no memory yet
        draw = partial(actor.head.noise, shape=self.shape)
        self._draw = jax.jit(
            jax.vmap(lambda key, number: draw(jax.random.fold_in(key, number)), (0, None), out_axes=1)
        )

    def noise(self, number: int) -> np.ndarray:
        """[T, members, N, ...], for each member what it would draw alone."""
        return np.asarray(self._draw(self.keys, number))

    def act(self, learner: Learner, obs: np.ndarray, noise: np.ndarray) -> Act:
        """(observations [members * N, ...], noise) -> actions [members * N, ...]."""
        flat = self._parameters(learner.policy, learner.observations)
        split = (self.count, self.shape[1], *obs.shape[1:])
        shared_obs, shared_noise, sample = SharedInput(obs.reshape(split)), SharedInput(noise), self._sample

        def act(obs: np.ndarray, noise: np.ndarray, start: Any, carry: Any) -> tuple[np.ndarray, Any]:
            actions, carry = sample(flat, shared_obs(obs.reshape(split)), shared_noise(noise))
            return np.asarray(actions).reshape(-1, *actions.shape[2:]), carry

        return act


class Ledger:
    """How far a member has come, on the host."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.statistics = EpisodeStatistics(config.num_envs)
        self.steps, self.ended = 0, False

    @property
    def remaining(self) -> float:
        """The share of the training that is left; a member that has ended learns no more."""
        return max(0.0, 1.0 - self.steps / self.config.steps)

    def entry(
        self,
        index: int,
        number: int,
        experience: Experience,
        learner: Learner,
        agent: Agent,
        metrics: dict[str, float],
        stream: Stream,
    ) -> Iteration | None:
        """The member's iteration; None once it has ended."""
        if self.ended:
            return None
        mine = slice(index * self.config.num_envs, (index + 1) * self.config.num_envs)
        own: Experience = jax.tree.map(lambda x: x[:, index], experience)
        episodes = self.statistics.update(own, stream.success[:, mine])
        self.steps += int(own.mask.sum())
        iteration = Iteration(
            number=number,
            steps=self.steps,
            learner=learner,
            agent=agent,
            metrics=metrics | self.statistics.metrics(),
            episodes=episodes,
            mean_return=self.statistics.mean_return(),
            mean_length=self.statistics.mean_length(),
            snapshot=partial(snapshot, number, self.steps, learner, self.statistics, stream, mine),
        )
        self.ended = over(self.config, self.steps, self.statistics) or not iteration.sound
        return replace(iteration, last=self.ended)


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one tree, with the members' axis in front of every array."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


@jax.jit
def apart(tree: Any) -> list[Any]:
    """The inverse of `stacked`, in one call."""
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(operator.itemgetter(index), tree) for index in range(count)]


def by_member(experience: Experience, count: int) -> Experience:
    """[T, members * N, ...] -> [T, members, N, ...]; no copy."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], count, -1, *x.shape[2:]), experience)


def finite_members(metrics: dict[str, np.ndarray]) -> np.ndarray:
    """Which members' metrics are all finite, [members]."""
    return np.all([np.isfinite(values) for values in metrics.values()], axis=0)


@jax.jit
def chosen(sound: Array | np.ndarray, after: Learner, before: Learner) -> Learner:
    """Each member after its update where that is sound, before it elsewhere."""

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(sound.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, after, before)
