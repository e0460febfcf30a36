"""The update: from one rollout to a better policy, in one compiled call (Schulman 2017, algorithm 1)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from proximo.core import (
    Objective,
    explained_variance,
    gae,
    whiten,
)
from proximo.core.types import Rollout
from proximo.learn.batches import Batch, flatten_time, shuffled_minibatches, take
from proximo.learn.loss import clip_range, loss
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic, Distribution

EARLY_STOP_FACTOR = 1.5  # a minibatch's estimate is noisy: stop at 1.5 times the target, as Spinning Up


class Learner(NamedTuple):
    """Everything that learning changes, as one tree of arrays."""

    policy: ActorCritic
    optimiser: Any
    observations: ObservationNormaliser
    rewards: RewardNormaliser
    key: Array  # the stream of shuffles
    steps: Array  # environment steps learned from


class State(NamedTuple):
    """What a minibatch step changes."""

    policy: Any  # the policy's arrays
    optimiser: Any
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
        value=value,
        advantage=advantage,
        target=advantage + value,
        mask=rollout.mask,
    )
    return batch, distribution


def minibatch_step(
    state: State, batch: Batch, objective: Objective, learning_rate: Array, options: UpdateOptions
) -> tuple[State, dict[str, Array]]:
    """One gradient step; with a target KL, checked before the step, and none any more once it is passed."""

    def step(state: State) -> tuple[State, dict[str, Array]]:
        gradients, metrics = jax.grad(loss, has_aux=True)(state.policy, batch, objective, options)
        gradients, norm = clipped(gradients, options.max_grad_norm)
        metrics |= {"train/grad_norm": norm, "train/updates": jnp.ones(())}
        updates, moved = optimiser(options).update(gradients, state.optimiser)
        policy = jax.tree.map(lambda old, change: old - learning_rate * change, state.policy, updates)
        if options.target_kl is None:
            return State(policy, moved, state.stopped), metrics
        stopped = metrics["train/approx_kl"] > EARLY_STOP_FACTOR * options.target_kl
        kept = jax.tree.map(
            lambda old, new: jnp.where(stopped, old, new), state, State(policy, moved, stopped)
        )
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
    learning_rate: Array,
    options: UpdateOptions,
) -> tuple[State, dict[str, Array]]:
    """One pass over the batch in shuffled minibatches; metrics are [minibatches]."""
    if options.advantages == "every-epoch":
        advantage, value = advantages(state.policy, rollout, options)
        batch = batch._replace(advantage=advantage, target=advantage + value)
    if options.advantage_normalisation == "batch":
        batch = batch._replace(advantage=whiten(batch.advantage, batch.mask))
    flat = flatten_time(batch)
    minibatches = shuffled_minibatches(key, flat.mask.shape[0], options.minibatch_size)
    return jax.lax.scan(
        lambda state, index: minibatch_step(state, take(flat, index), objective, learning_rate, options),
        state,
        minibatches,
    )


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
    objective = options.objective.annealed(remaining) if options.anneal_clip else options.objective
    learning_rate = jnp.asarray(options.learning_rate * (remaining if options.anneal else 1.0))
    seen, rewards = normalised(learner, rollout, options)
    batch, distribution = whole_batch(learner.policy, seen, options)

    key, shuffle_key = jax.random.split(learner.key)
    state, history = jax.lax.scan(
        lambda state, key: epoch(state, key, batch, seen, objective, learning_rate, options),
        State(learner.policy, learner.optimiser, jnp.zeros((), bool)),
        jax.random.split(shuffle_key, options.epochs),
    )
    learner = Learner(
        policy=state.policy,
        optimiser=state.optimiser,
        observations=learner.observations.after(rollout),
        rewards=rewards,
        key=key,
        steps=learner.steps + jnp.sum(rollout.mask).astype(learner.steps.dtype),
    )
    metrics = mean_over_updates(history) | {
        "train/learning_rate": learning_rate,
        "train/clip_range": jnp.asarray(clip_range(objective)),
        "train/explained_variance": explained_variance(batch.value, batch.target, batch.mask),
        "train/parameter_norm": optax.global_norm(state.policy),  # NaN in a weight shows here
        "train/kl_stopped": state.stopped.astype(jnp.float32),
    }
    return learner, metrics | spread(distribution)


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
