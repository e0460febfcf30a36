"""From experience to what the update learns from: normalised, with advantages and the critic's targets."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import gae, whiten
from proximo.core.types import Experience
from proximo.learn.batches import Batch, Cut, has_memory, merged
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.policies import Distribution, Output, Policy, per_state


class Predictions(NamedTuple):
    """What a policy computes of a whole experience.

    distribution  of every row, [T, N]
    value         [T, N, R]
    next_value    [T, N, R], of the row's true successor
    carry         [T/length, N, ...], the memory before each stretch of so many rows; () without memory
    """

    distribution: Distribution
    value: Float[Array, "T N R"]
    next_value: Float[Array, "T N R"]
    carry: Any


def normalised(
    experience: Experience,
    observations: ObservationNormaliser,
    rewards: RewardNormaliser,
    options: UpdateOptions,
) -> tuple[Experience, RewardNormaliser]:
    """The experience as the networks see it, and the reward statistics that have counted it in."""
    reward = experience.reward
    if options.clip_rewards:  # costs, in the streams behind, stay
        reward = jnp.concatenate([jnp.sign(reward[..., :1]), reward[..., 1:]], axis=-1)
        experience = experience._replace(reward=reward)
    if options.normalise_rewards:
        rewards = rewards.after(experience, options.gamma)
        reward = rewards(reward)
    final_obs = None if experience.final_obs is None else observations(experience.final_obs)
    seen = experience._replace(obs=observations(experience.obs), reward=reward, final_obs=final_obs)
    return seen, rewards


def predictions(policy: Policy, experience: Experience, length: int) -> Predictions:
    """What the policy computes of all rows, in one pass.

    experience  as the networks see it
    length      rows of the stretches whose first memory is wanted
    """
    if has_memory(experience):
        output, final, carry = in_stretches(policy, experience, length)
    else:
        output, carry = policy(experience.obs)
        final = None if experience.final_obs is None else policy(experience.final_obs)[0].value
    next_value = output.value[1:]
    if final is not None:
        next_value = jnp.where(experience.over[..., None], final, next_value)
    # A leaf without axes of the batch, such as a log standard deviation, is one for all states.
    rows = experience.start.shape
    distribution = jax.tree.map(
        lambda leaf: leaf[:-1] if leaf.shape[:2] == rows else leaf, output.distribution
    )
    return Predictions(distribution, output.value[:-1], next_value, carry)


def in_stretches(policy: Policy, experience: Experience, length: int) -> tuple[Output, Any, Any]:
    """What a policy with a memory computes of all rows, of `final_obs`, and its memory before stretches."""
    stretch = length if experience.final_obs is None else 1  # `final_obs` asks for the memory after its row

    def read(carry: Any, rows: Any) -> tuple[Any, tuple[Output, Any, Any]]:
        obs, start, final_obs = rows
        output, after = policy(obs, start, carry)
        output = output._replace(distribution=per_state(output.distribution, start.shape))
        final = None if final_obs is None else policy(final_obs, jnp.zeros_like(start), after)[0].value
        return after, (output, final, carry)

    seen = (experience.obs, experience.start)
    rows = (*jax.tree.map(lambda x: x[:-1], seen), experience.final_obs)
    stretches = jax.tree.map(lambda x: x.reshape(len(x) // stretch, stretch, *x.shape[1:]), rows)
    carry, (output, final, carries) = jax.lax.scan(read, experience.carry, stretches)
    _, (beyond, _, _) = read(carry, (*jax.tree.map(lambda x: x[-1:], seen), None))
    output = jax.tree.map(lambda *parts: jnp.concatenate(parts), merged(output), beyond)
    return output, merged(final), jax.tree.map(lambda x: x[:: length // stretch], carries)


def advantages(
    predicted: Predictions, experience: Experience, options: UpdateOptions
) -> Float[Array, "T N R"]:
    """Generalised advantages, of every reward stream that the critic knows.

    experience  with scaled rewards
    """
    reward = experience.reward[..., : predicted.value.shape[-1]]
    discount, same_episode = options.gamma * (1.0 - experience.terminated), 1.0 - experience.over
    of_streams = jax.vmap(gae, in_axes=(-1, -1, -1, None, None, None), out_axes=-1)
    found: Float[Array, "T N R"] = of_streams(
        reward, predicted.value, predicted.next_value, discount, same_episode, options.gae_lambda
    )
    return found


def whole_batch(
    policy: Policy, experience: Experience, options: UpdateOptions, cut: Cut
) -> tuple[Batch, Distribution]:
    """Everything the loss needs of experience, [T, N, ...], and what the policy said of it."""
    predicted = predictions(policy, experience, cut.length)
    advantage = advantages(predicted, experience, options)
    target = advantage + predicted.value
    log_prob = experience.log_prob
    if log_prob is None:
        log_prob = predicted.distribution.log_prob(experience.action)
    batch = Batch(
        obs=jax.tree.map(lambda x: x[:-1], experience.obs),
        start=experience.start[:-1] if has_memory(experience) else None,
        carry=predicted.carry,
        action=experience.action,
        log_prob=log_prob,
        distribution=per_state(predicted.distribution, experience.mask.shape),
        value=predicted.value,
        advantage=actor_advantages(advantage, target, experience.mask, options),
        target=target,
        mask=experience.mask,
    )
    return batch, predicted.distribution


def actor_advantages(
    advantage: Float[Array, "T N R"],
    target: Float[Array, "T N R"],
    mask: Float[Array, "T N"],
    options: UpdateOptions,
) -> Float[Array, "T N"]:
    """The advantages as the actor is to see them: those of the reward alone, stream 0."""
    seen = (advantage if options.baseline else target)[..., 0]
    return whiten(seen, mask) if options.advantage_normalisation == "batch" else seen
