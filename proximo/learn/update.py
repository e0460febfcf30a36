"""The update: from one rollout to a better policy, in one compiled call (Schulman 2017, algorithm 1)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from proximo.core import (
    AdaptiveKLPenalty,
    Objective,
    adapted_rate,
    explained_variance,
    gae,
    whiten,
    with_numbers,
)
from proximo.core.arrays import global_norm
from proximo.core.types import Rollout
from proximo.learn.actor_steps import Problem, mean_kl
from proximo.learn.batches import Batch, flatten_time, shuffled_minibatches, take
from proximo.learn.loss import actor_objective, clip_range, loss
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic, Distribution, per_state

EARLY_STOP_FACTOR = 1.5  # a minibatch's estimate is noisy: stop at 1.5 times the target, as Spinning Up


class Learner(NamedTuple):
    """Everything that learning changes, as one tree of arrays."""

    policy: ActorCritic
    optimiser: Any
    actor_memory: Any  # what the actor's own step carries on; () where it has none
    kl_coefficient: Array  # beta of an adaptive KL penalty
    learning_rate: Array  # where it adapts to the KL; options have it elsewhere
    observations: ObservationNormaliser
    rewards: RewardNormaliser
    key: Array  # the stream of shuffles
    steps: Array  # environment steps learned from


class State(NamedTuple):
    """What a minibatch step changes."""

    policy: Any  # the policy's arrays
    optimiser: Any
    learning_rate: Array
    stopped: Array  # the target KL was passed


def optimiser(options: UpdateOptions) -> optax.GradientTransformation:
    """Adam; the gradient is clipped and the step size applied where they are known, in the update."""
    return optax.scale_by_adam(eps=options.adam_epsilon)


def clipped(gradients: Any, most: float | Array) -> tuple[Any, Array]:
    """The gradients scaled down to a global norm of at most `most`, and the norm they had.

    As `optax.clip_by_global_norm`, with a dot product per array: on a CPU XLA compiles a sum of squares
    to a chain of small kernels, and small networks spend much of their time on starting kernels.
    """
    squares = [jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradients)]
    norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    factor = jnp.minimum(1.0, most / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda leaf: leaf * factor, gradients), norm


def normalised(
    learner: Learner, rollout: Rollout, options: UpdateOptions
) -> tuple[Rollout, RewardNormaliser]:
    """The rollout as the networks see it, and the reward statistics that have counted it in."""
    rewards, reward = learner.rewards, rollout.reward
    if options.normalise_rewards:
        rewards = rewards.after(rollout, options.gamma)
        reward = rewards(reward)
    final_obs = None if rollout.final_obs is None else learner.observations(rollout.final_obs)
    return rollout._replace(
        obs=learner.observations(rollout.obs), reward=reward, final_obs=final_obs
    ), rewards


def advantages(
    policy: ActorCritic, rollout: Rollout, options: UpdateOptions
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Generalised advantages and the critic's values, both [T, N], under the policy as it is now.

    rollout  as the networks see it, with scaled rewards
    """
    value = policy.value(rollout.obs)
    ended = rollout.terminated | rollout.truncated
    next_value = value[1:]
    if rollout.final_obs is not None:
        next_value = jnp.where(ended, policy.value(rollout.final_obs), next_value)
    discount = options.gamma * (1.0 - rollout.terminated)
    advantage = gae(rollout.reward, value[:-1], next_value, discount, 1.0 - ended, options.gae_lambda)
    return advantage, value[:-1]


def whole_batch(policy: ActorCritic, rollout: Rollout, options: UpdateOptions) -> tuple[Batch, Distribution]:
    """Everything the loss needs of a rollout, [T, N, ...], and what the policy said of it."""
    distribution, _ = policy(rollout.obs[:-1])
    advantage, value = advantages(policy, rollout, options)
    batch = Batch(
        obs=rollout.obs[:-1],
        action=rollout.action,
        log_prob=distribution.log_prob(rollout.action),
        distribution=per_state(distribution, rollout.mask.shape),
        value=value,
        advantage=advantage,
        target=advantage + value,
        mask=rollout.mask,
    )
    return for_the_actor(batch, options), distribution


def for_the_actor(batch: Batch, options: UpdateOptions) -> Batch:
    """With the advantages as the actor is to see them."""
    if not options.baseline:
        batch = batch._replace(advantage=batch.target)
    if options.advantage_normalisation == "batch":
        batch = batch._replace(advantage=whiten(batch.advantage, batch.mask))
    return batch


def descend(
    policy: ActorCritic, moments: Any, gradients: Any, learning_rate: Array, options: UpdateOptions
) -> tuple[ActorCritic, Any, Array]:
    """One step of Adam down a gradient that is clipped first; also the norm that it had."""
    gradients, norm = clipped(gradients, options.max_grad_norm)
    updates, moments = optimiser(options).update(gradients, moments)
    policy = jax.tree.map(lambda old, change: old - learning_rate * change, policy, updates)
    return policy, moments, norm


def minibatch_step(
    state: State, batch: Batch, objective: Objective, options: UpdateOptions
) -> tuple[State, dict[str, Array]]:
    """One gradient step; with a target KL, checked before the step, and none any more once it is passed."""

    def step(state: State) -> tuple[State, dict[str, Array]]:
        gradients, metrics = jax.grad(loss, has_aux=True)(state.policy, batch, objective, options)
        policy, moments, norm = descend(
            state.policy, state.optimiser, gradients, state.learning_rate, options
        )
        metrics |= {"train/grad_norm": norm, "train/updates": jnp.ones(())}
        moved = state._replace(policy=policy, optimiser=moments)
        if options.target_kl is None:
            return moved, metrics
        stopped = metrics["train/approx_kl"] > EARLY_STOP_FACTOR * options.target_kl
        kept = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), state, moved)
        return kept._replace(stopped=stopped), metrics

    if options.target_kl is None:
        return step(state)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, state)[1])
    return jax.lax.cond(state.stopped, lambda state: (state, nothing), step, state)


def epoch(
    state: State,
    key: Array,
    batch: Batch,
    rollout: Rollout,
    objective: Objective,
    options: UpdateOptions,
) -> tuple[State, dict[str, Array]]:
    """One pass over the batch in shuffled minibatches; metrics are [minibatches]."""
    stopped = state.stopped
    if options.advantages == "every-epoch":
        advantage, value = advantages(state.policy, rollout, options)
        batch = for_the_actor(batch._replace(advantage=advantage, target=advantage + value), options)
    flat = flatten_time(batch)
    minibatches = shuffled_minibatches(key, flat.mask.shape[0], options.minibatch_size)
    state, metrics = jax.lax.scan(
        lambda state, index: minibatch_step(state, take(flat, index), objective, options), state, minibatches
    )
    if options.learning_rate_kl is not None:
        rate = adapted_rate(state.learning_rate, mean_kl(state.policy, batch), options.learning_rate_kl)
        # Once stopped, the policy rests: the same KL again is no news.
        state = state._replace(learning_rate=jnp.where(stopped, state.learning_rate, rate))
    return state, metrics


def current_objective(learner: Learner, options: UpdateOptions, remaining: float | Array) -> Objective:
    """The objective as far as it is annealed, or adapted."""
    if isinstance(options.objective, AdaptiveKLPenalty):
        return with_numbers(options.objective, beta=learner.kl_coefficient)
    if not options.anneal_clip:
        return options.objective
    return options.objective.annealed(remaining)  # type: ignore[union-attr]  # `validated` asks for it


def current_learning_rate(learner: Learner, options: UpdateOptions, remaining: float | Array) -> Array:
    """Adam's step size as far as it is annealed, or adapted."""
    if options.learning_rate_kl is not None:
        return learner.learning_rate
    return jnp.asarray(options.learning_rate * (remaining if options.anneal else 1.0))


def actor_problem(
    batch: Batch, objective: Objective, learning_rate: Array, options: UpdateOptions
) -> Problem:
    """What an actor step of its own is to improve."""
    return Problem(
        batch=batch,
        objective=lambda said: actor_objective(said, batch, objective, options)[0],
        descend=partial(descend, options=options),
        learning_rate=learning_rate,
    )


def adapted_coefficient(
    objective: Objective, learner: Learner, policy: ActorCritic, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    """The KL penalty's beta for the next update, and what to log."""
    if not isinstance(objective, AdaptiveKLPenalty):
        return learner.kl_coefficient, {}
    kl = mean_kl(policy, batch)
    metrics = {"train/kl": kl, "train/kl_coefficient": jnp.asarray(objective.beta)}
    return jnp.asarray(objective.adapted(kl).beta), metrics


@jax.jit
def update(
    learner: Learner, rollout: Rollout, options: UpdateOptions, remaining: float | Array
) -> tuple[Learner, dict[str, Array]]:
    """One iteration of algorithm 1: K epochs of minibatch steps on the rollout's N x T samples.

    learner    as it was when the rollout was collected
    rollout    [T, N, ...], host or device arrays
    options    numbers in it are traced, so changing one does not compile again
    remaining  the fraction of training still to come, 1 at the start; drives the annealing

    Returns the learner after it, and metrics: means over all minibatch steps taken, on the device.
    """
    objective = current_objective(learner, options, remaining)
    learning_rate = current_learning_rate(learner, options, remaining)
    seen, rewards = normalised(learner, rollout, options)
    batch, distribution = whole_batch(learner.policy, seen, options)
    policy, actor_memory, actor_metrics = options.actor_step(
        learner.policy, learner.actor_memory, actor_problem(batch, objective, learning_rate, options)
    )
    key, shuffle_key = jax.random.split(learner.key)
    state, history = jax.lax.scan(
        lambda state, key: epoch(state, key, batch, seen, objective, options),
        State(policy, learner.optimiser, learning_rate, jnp.zeros((), bool)),
        jax.random.split(shuffle_key, options.epochs),
    )
    kl_coefficient, penalty_metrics = adapted_coefficient(objective, learner, state.policy, batch)
    learner = Learner(
        policy=state.policy,
        optimiser=state.optimiser,
        actor_memory=actor_memory,
        kl_coefficient=kl_coefficient,
        learning_rate=state.learning_rate,
        observations=learner.observations.after(rollout),
        rewards=rewards,
        key=key,
        steps=learner.steps + jnp.sum(rollout.mask).astype(learner.steps.dtype),
    )
    metrics = mean_over_updates(history) | {
        "train/learning_rate": learning_rate,
        "train/clip_range": jnp.asarray(clip_range(objective)[1]),
        "train/explained_variance": explained_variance(batch.value, batch.target, batch.mask),
        "train/parameter_norm": global_norm(state.policy),  # NaN in a weight shows here
        "train/kl_stopped": state.stopped.astype(jnp.float32),
    }
    return learner, metrics | actor_metrics | penalty_metrics | spread(distribution)


def mean_over_updates(history: dict[str, Array]) -> dict[str, Array]:
    """Means of [epochs, minibatches] metrics over the steps that were looked at."""
    looked_at = history.pop("train/updates")
    count = jnp.maximum(jnp.sum(looked_at), 1.0)
    return {name: jnp.sum(value) / count for name, value in history.items()} | {"train/updates": count}


def spread(distribution: Any) -> dict[str, Array]:
    """The mean standard deviation of a Gaussian policy; nothing for the others."""
    if not hasattr(distribution, "log_std"):
        return {}
    return {"train/std": jnp.mean(jnp.exp(distribution.log_std))}
