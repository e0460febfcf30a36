"""From experience to what the update learns from: normalised, with advantages and the critic's targets."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import gae, whiten
from proximo.core.types import Experience
from proximo.learn.batches import Batch
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic, Distribution, per_state


def normalised(
    experience: Experience,
    observations: ObservationNormaliser,
    rewards: RewardNormaliser,
    options: UpdateOptions,
) -> tuple[Experience, RewardNormaliser]:
    """The experience as the networks see it, and the reward statistics that have counted it in."""
    reward = experience.reward
    if options.normalise_rewards:
        rewards = rewards.after(experience, options.gamma)
        reward = rewards(reward)
    final_obs = None if experience.final_obs is None else observations(experience.final_obs)
    return experience._replace(obs=observations(experience.obs), reward=reward, final_obs=final_obs), rewards


def advantages(
    policy: ActorCritic, experience: Experience, options: UpdateOptions
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Generalised advantages and the critic's values, both [T, N], under the policy as it is now.

    experience  as the networks see it, with scaled rewards
    """
    value = policy.value(experience.obs)
    next_value = value[1:]
    if experience.final_obs is not None:
        next_value = jnp.where(experience.over, policy.value(experience.final_obs), next_value)
    discount = options.gamma * (1.0 - experience.terminated)
    advantage = gae(
        experience.reward, value[:-1], next_value, discount, 1.0 - experience.over, options.gae_lambda
    )
    return advantage, value[:-1]


def whole_batch(
    policy: ActorCritic, experience: Experience, options: UpdateOptions
) -> tuple[Batch, Distribution]:
    """Everything the loss needs of experience, [T, N, ...], and what the policy said of it."""
    distribution, _ = policy(experience.obs[:-1])
    advantage, value = advantages(policy, experience, options)
    batch = Batch(
        obs=experience.obs[:-1],
        action=experience.action,
        log_prob=distribution.log_prob(experience.action),
        distribution=per_state(distribution, experience.mask.shape),
        value=value,
        advantage=advantage,
        target=advantage + value,
        mask=experience.mask,
    )
    return for_the_actor(batch, options), distribution


def for_the_actor(batch: Batch, options: UpdateOptions) -> Batch:
    """With the advantages as the actor is to see them."""
    if not options.baseline:
        batch = batch._replace(advantage=batch.target)
    if options.advantage_normalisation == "batch":
        batch = batch._replace(advantage=whiten(batch.advantage, batch.mask))
    return batch
