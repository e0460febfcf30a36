"""The loss of one minibatch (Schulman 2017, eq. 9)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import (
    AsymmetricClip,
    Clip,
    DualClip,
    LogClip,
    Objective,
    QuadraticPenalty,
    clip_fraction,
    k3,
    masked_mean,
    masked_means,
    whiten,
)
from proximo.core.surrogates import LOG_RATIO_LIMIT
from proximo.learn.batches import Batch
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic, Distribution


def actor_objective(
    distribution: Distribution, batch: Batch, objective: Objective, options: UpdateOptions
) -> tuple[Float[Array, "..."], dict[str, Array]]:
    """What the actor maximises, per transition: surrogate and entropy bonus; and what to log of it."""
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    advantage = batch.advantage
    if options.advantage_normalisation == "minibatch":
        advantage = whiten(advantage, batch.mask)
    surrogate = objective(log_ratio, advantage, batch.distribution.kl(distribution))
    entropy = distribution.entropy()
    metrics = {
        "train/policy_gradient_loss": -surrogate,
        "train/entropy": entropy,
        "train/approx_kl": k3(jnp.minimum(log_ratio, LOG_RATIO_LIMIT)),  # huge, not infinite
        "train/clip_fraction": clip_fraction(log_ratio, *clip_range(objective)),
    }
    return surrogate + options.entropy_coefficient * entropy, metrics


def loss(
    policy: ActorCritic, batch: Batch, objective: Objective, options: UpdateOptions
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Eq. 9 with its sign turned, to be minimised, and what to log of it.

    The critic's part alone where the actor has a step of its own.
    """
    distribution, _ = policy(batch.obs)
    wanted, metrics = actor_objective(distribution, batch, objective, options)
    value_loss = options.value_loss(policy.value(batch.obs), batch.value, batch.target)
    total = options.value_coefficient * value_loss
    if options.actor_step.joint:
        total = total - wanted
    metrics |= {"train/loss": total, "train/value_loss": value_loss}
    return masked_mean(total, batch.mask), masked_means(metrics, batch.mask)


def clip_range(objective: Objective) -> tuple[Any, Any]:
    """How far below and above 1 the objective's range reaches; 0.2 for one without, to be compared."""
    match objective:
        case AsymmetricClip(low=low, high=high):
            return low, high
        case LogClip(epsilon=epsilon):
            return -jnp.expm1(-epsilon), jnp.expm1(epsilon)
        case Clip(epsilon=epsilon) | DualClip(epsilon=epsilon) | QuadraticPenalty(epsilon=epsilon):
            return epsilon, epsilon
    return 0.2, 0.2
