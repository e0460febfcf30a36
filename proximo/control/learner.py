"""The learner before its first rollout, of a checkpoint, and as its schedules have it."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.control.config import Config
from proximo.control.seen import codec_asked
from proximo.control.streams import Streams
from proximo.core import AdaptiveKLPenalty, Objective, with_numbers
from proximo.envs import HostEnvs
from proximo.errors import UserError
from proximo.learn.descend import adam
from proximo.learn.normalise import observation_normaliser, reward_normaliser, with_offset
from proximo.learn.update import Learner
from proximo.policies import ScheduledGaussianHead, new_policy
from proximo.runs.named import named_arrays, restore_tree


def new_learner(config: Config, envs: HostEnvs, seeds: Streams) -> Learner:
    """The learner before its first rollout."""
    envs.settle()
    codec = codec_asked(config.network, envs.spaces)
    active = codec.normalised & config.update.normalise_observations
    seen = codec.seen
    parts = [*seen.parts, *codec.private.parts]
    step = config.update.actor_step
    apart = config.network.separate_critic or config.population is not None
    if parts and config.network.own_network is None and not step.joint and not apart:
        raise UserError(
            f"{type(step).__name__} moves the actor alone, and what reads {' and '.join(parts)} is shared by "
            "actor and critic: pass --separate-critic or --flatten, or leave --actor-step (or its preset) out"
        )
    policy = new_policy(
        seeds.initialisation, seen.numbers, envs.action.kind, config.network, seen.parts, codec.private
    )
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


def restore_learner(learner: Learner, saved: Mapping[str, np.ndarray]) -> Learner:
    """A new learner with the arrays of a snapshot. Raises UserError if they are of another configuration."""
    saved = with_objective(with_offset(saved, learner.observations.active), learner.objective)
    return restore_tree(learner, saved, "the checkpoint")


def with_objective(arrays: Mapping[str, np.ndarray], objective: Objective) -> dict[str, np.ndarray]:
    """Saved arrays as this version has them: version 0.1 kept no number of an objective but its beta."""
    if "kl_coefficient" not in arrays:
        return dict(arrays)
    if isinstance(objective, AdaptiveKLPenalty):
        objective = with_numbers(objective, beta=float(arrays["kl_coefficient"]))
        objective = jax.tree.map(jnp.float32, objective)
    return {**arrays, **{f"objective.{name}": array for name, array in named_arrays(objective).items()}}


def scheduled(learner: Learner, remaining: float | Array) -> Learner:
    """The learner with what follows a schedule, not the gradient, where the schedule has it.

    remaining  the share of training that is left; one for each member of an ensemble
    """
    if not isinstance(learner.policy.head, ScheduledGaussianHead):
        return learner
    head = learner.policy.head.annealed(remaining)
    return learner._replace(policy=eqx.tree_at(lambda policy: policy.head, learner.policy, head))
