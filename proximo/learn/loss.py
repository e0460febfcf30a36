"""The loss of one minibatch (Schulman 2017, eq. 9)."""

from typing import Any

from jaxtyping import Array, Float

from proximo.core import Objective, clip_fraction, k3, masked_mean, whiten
from proximo.learn.batches import Batch
from proximo.learn.options import UpdateOptions
from proximo.policies import ActorCritic


def loss(
    policy: ActorCritic, batch: Batch, objective: Objective, options: UpdateOptions
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Eq. 9 with its sign turned, to be minimised, and what to log of it."""
    distribution, _ = policy(batch.obs)
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    advantage = batch.advantage
    if options.advantage_normalisation == "minibatch":
        advantage = whiten(advantage, batch.mask)
    surrogate = masked_mean(objective(log_ratio, advantage), batch.mask)
    value_loss = masked_mean(
        options.value_loss(policy.value(batch.obs), batch.value, batch.target), batch.mask
    )
    entropy = masked_mean(distribution.entropy(), batch.mask)
    total = -surrogate + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
    metrics = {
        "train/loss": total,
        "train/policy_gradient_loss": -surrogate,
        "train/value_loss": value_loss,
        "train/entropy": entropy,
        "train/approx_kl": masked_mean(k3(log_ratio), batch.mask),
        "train/clip_fraction": masked_mean(clip_fraction(log_ratio, clip_range(objective)), batch.mask),
    }
    return total, metrics


def clip_range(objective: Objective) -> Any:
    """The objective's own clip range; 0.2 for one without, so that clip fractions can be compared."""
    return getattr(objective, "epsilon", 0.2)
