"""From a rollout to what the update learns from: normalised, with advantages and the critic's targets."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import gae, whiten
from proximo.core.types import Rollout
from proximo.learn.batches import Batch
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic, Distribution, per_state


def normalised(
    rollout: Rollout, observations: ObservationNormaliser, rewards: RewardNormaliser, options: UpdateOptions
) -> tuple[Rollout, RewardNormaliser]:
    """The rollout as the networks see it, and the reward statistics that have counted it in."""
    reward = rollout.reward
    if options.normalise_rewards:
        rewards = rewards.after(rollout, options.gamma)
        reward = rewards(reward)
    final_obs = None if rollout.final_obs is None else observations(rollout.final_obs)
    return rollout._replace(obs=observations(rollout.obs), reward=reward, final_obs=final_obs), rewards


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
