"""The loss of one minibatch (Schulman 2017, eq. 9)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core import (
    Objective,
    clip_fraction,
    k3,
    weighted_sum,
    weighted_sums,
    whiten,
)
from proximo.core.surrogates import LOG_RATIO_LIMIT
from proximo.learn.batches import Batch
from proximo.learn.options import UpdateOptions
from proximo.policies import Distribution, Policy


def prepare_minibatch(batch: Batch, options: UpdateOptions) -> tuple[Batch, Bool[Array, ""]]:
    """A minibatch with what depends on all of it, and whether any of it counts.

    That is each transition's share of the mean, and advantages whitened here if the options say so. What is
    then computed of its parts adds up.
    """
    if options.advantage_normalisation == "minibatch":
        batch = batch._replace(advantage=whiten(batch.advantage, batch.mask))
    count = jnp.sum(batch.mask)
    return batch._replace(weight=batch.mask / jnp.maximum(count, 1.0)), count > 0


def actor_objective(
    distribution: Distribution, batch: Batch, objective: Objective, options: UpdateOptions
) -> tuple[Float[Array, "..."], dict[str, Array]]:
    """What the actor maximises, per transition: surrogate and entropy bonus; and the metrics to log."""
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    surrogate = objective(log_ratio, batch.advantage, batch.distribution.kl(distribution))
    entropy = distribution.entropy()
    metrics = {
        "train/policy_gradient_loss": -surrogate,
        "train/entropy": entropy,
        "train/approx_kl": k3(jnp.minimum(log_ratio, LOG_RATIO_LIMIT)),  # huge, not infinite
        "train/clip_fraction": clip_fraction(log_ratio, *clip_range(objective)),
    }
    return surrogate + options.entropy_coefficient * entropy, metrics


def loss(
    policy: Policy, part: Batch, objective: Objective, options: UpdateOptions
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Eq. 9 with its sign inverted, to be minimised, and the metrics to log.

    Only the critic's part if the actor has its own step.

    part  of what `prepare_minibatch` gave; its share of the loss and of each metric is returned
    """
    output, _ = policy(part.obs, part.start, part.carry)
    wanted, metrics = actor_objective(output.distribution, part, objective, options)
    value_loss = jnp.sum(options.value_loss(output.value, part.value, part.target), axis=-1)
    total = options.value_coefficient * value_loss
    if options.actor_step.joint:
        total = total - wanted
    metrics |= {"train/loss": total, "train/value_loss": value_loss}
    assert part.weight is not None
    return weighted_sum(total, part.weight), weighted_sums(metrics, part.weight)


def clip_range(objective: Objective) -> tuple[Any, Any]:
    """How far below and above 1 the objective's range reaches; 0.2 for one without, to be compared."""
    return getattr(objective, "bounds", (0.2, 0.2))
