"""Several runs as one: members that differ in seed and in numbers, learned by one mapped update.

    configs = [with_options(config, seed=seed) for seed in range(5)]
    for members in ensemble(configs):
        print([iteration.mean_return for iteration in members if iteration])

Each member is the run that it would be alone, up to rounding, with its own parameters, environments, random
streams, statistics and end. The cost is shared: one call acts for all members, one call updates all.
"""

import contextlib
import operator
from collections.abc import Generator, Hashable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.control.acting import Columns, actor_of
from proximo.control.agent import Agent
from proximo.control.arena import Arena, environments, open_stream, with_offset_of
from proximo.control.config import Config, validate
from proximo.control.iteration import Iteration, Progress
from proximo.control.learner import new_learner, scheduled
from proximo.control.streams import environment_seeds, streams
from proximo.control.train import training
from proximo.control.warm_start import warm_started
from proximo.core.types import Experience
from proximo.envs import own_num_envs
from proximo.errors import UserError
from proximo.learn.update import Learner, update
from proximo.options import with_options

MemberIterations = list[Iteration | None]
"""One iteration of each member; None for one that had come to its end before."""

OF_MEMBERS = Experience(*[1] * len(Experience._fields))._replace(carry=0)  # where the members' axis is
update_members = jax.jit(jax.vmap(update, in_axes=(0, OF_MEMBERS, 0, 0)))


class EnsembleSummary(NamedTuple):
    """How far an ensemble is: the latest iteration of each member, and what sums them up."""

    steps: int
    mean_return: float
    members: list[Iteration]


def summarise(members: Sequence[Iteration]) -> EnsembleSummary:
    """The latest iteration of each member, summed up."""
    mean_return = float(np.mean([member.mean_return for member in members]))
    return EnsembleSummary(sum(member.steps for member in members), mean_return, list(members))


def member_configs(config: Config, seeds: int) -> list[Config]:
    """The configuration with `seeds` seeds, from its own one upwards. Raises UserError for less than one."""
    if seeds < 1:
        raise UserError(f"seeds is {seeds}: it must be at least 1")
    return [validate(with_options(config, seed=config.seed + index)) for index in range(seeds)]


def ensemble_key(config: Config) -> Hashable:
    """A key that is equal for configurations which can be members of one ensemble.

    They may differ in the seed and in the numbers of the algorithm, not in what decides the shape of the
    computation. A population (`cross-entropy`) is an ensemble already: each of its runs has its own key.
    """
    alone = None if config.population is None else config.seed
    shared = [repr(getattr(config, f.name)) for f in fields(config) if f.name not in ("seed", "update")]
    return (jax.tree.structure(config.update), *shared, alone)


def ensemble(
    configs: Sequence[Config], *, start_from: Agent | None = None, **make_options: Any
) -> Generator[MemberIterations, None, None]:
    """Train all members together; yields one iteration of each at a time, in the members' order.

    configs       the members; all have the same `ensemble_key`
    start_from    an agent whose policy all members begin with
    make_options  as in `training`

    A member's snapshot is like that of a single run, and `training` can continue from it. An update that
    diverges ends only its own member: the last iteration holds the metrics of that update, and the learner
    from before it. Raises UserError for members that cannot be trained together and in the cases of
    `training`, EnvironmentFault if an environment fails.
    """
    if len(configs) == 1:
        for iteration in training(configs[0], start_from=start_from, **make_options):
            yield [iteration]
        return
    configs = [validate(config) for config in configs]
    check_compatible(configs)
    arena, learner, members = begin_members(configs, start_from, **make_options)
    options, number = stack([config.update for config in configs]), 0
    with arena:
        while not all(member.over for member in members):
            remaining = jnp.array([member.remaining for member in members])
            learner = scheduled(learner, remaining)
            experience = arena.experience(learner, number)
            after, metrics = update_members(learner, experience, options, remaining)
            metrics, number = jax.device_get(metrics), number + 1
            learner = select_finite(finite_members(metrics), after, learner)
            iterations: MemberIterations = []
            for index, (progress, own) in enumerate(zip(members, unstack(learner), strict=True)):
                if progress.over:
                    iterations.append(None)
                    continue
                rollout = jax.tree.map(lambda x, index=index: x[:, index], experience._replace(carry=()))
                told = {name: values[index] for name, values in metrics.items()}
                iteration = progress.after(rollout, own, told, arena.stream)
                progress.over = progress.over or not iteration.sound
                iterations.append(replace(iteration, last=progress.over))
            yield iterations


def begin_members(
    configs: Sequence[Config], start_from: Agent | None = None, **make_options: Any
) -> tuple[Arena, Learner, list[Progress]]:
    """The environments of all members, the learners stacked, and the progress of each."""
    first, columns, each = configs[0], Columns(len(configs)), configs[0].num_envs
    seeds = [streams(config.seed) for config in configs]
    with contextlib.ExitStack() as failing:
        envs = failing.enter_context(environments(first, len(configs) * each, **make_options))
        learners = [new_learner(config, envs, own) for config, own in zip(configs, seeds, strict=True)]
        learners = [warm_started(learner, start_from, first, envs) for learner in learners]
        first_seeds = [seed for own in seeds for seed in environment_seeds(own.environments, each)]
        stream = open_stream(learners[0], first, envs, first_seeds)
        learner = stack([with_offset_of(learner, stream) for learner in learners])
        actor = actor_of(learners[0].policy, learners[0].observations, columns)
        arena = Arena(stream, actor, stack([own.actions for own in seeds]), first.horizon)
        failing.pop_all()  # from now on the arena closes them
    parts = [columns.of(index, each) for index in range(len(configs))]
    return arena, learner, [Progress(config, part=part) for config, part in zip(configs, parts, strict=True)]


def check_compatible(configs: Sequence[Config]) -> None:
    """Raises UserError unless the configurations can be one ensemble."""
    first = configs[0]
    if first.population is not None:
        raise UserError("cross-entropy is already an ensemble of actors: run its seeds one by one")
    if own_num_envs(first.env) is not None:
        raise UserError("several seeds need environments of their own: pass an id, a class or a function")
    if first.vectorization_mode == "vector_entry_point":
        raise UserError(
            "vector_entry_point takes one seed for all environments: run the seeds one by one, or use `sync`"
        )
    if any(ensemble_key(config) != ensemble_key(first) for config in configs):
        raise UserError("members of an ensemble may differ only in the seed and in the algorithm's numbers")


def stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one tree, with the members' axis in front of every array."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


@jax.jit
def unstack(tree: Any) -> list[Any]:
    """The inverse of `stack`, in one call."""
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(operator.itemgetter(index), tree) for index in range(count)]


def finite_members(metrics: dict[str, np.ndarray]) -> np.ndarray:
    """Which members' metrics are all finite, [members]."""
    return np.all([np.isfinite(values) for values in metrics.values()], axis=0)


@jax.jit
def select_finite(finite: Array | np.ndarray, after: Learner, before: Learner) -> Learner:
    """Each member after its update where that is finite, before it elsewhere."""

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(finite.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, after, before)
