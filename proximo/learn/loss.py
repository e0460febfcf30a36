"""The loss of one minibatch (Schulman 2017, eq. 9)."""

from typing import Any

from jaxtyping import Array, Float

from proximo.core import Objective, clip_fraction, k3, masked_mean, masked_means, whiten
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
    surrogate = objective(log_ratio, advantage)
    value_loss = options.value_loss(policy.value(batch.obs), batch.value, batch.target)
    entropy = distribution.entropy()
    total = -surrogate + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
    metrics = {
        "train/loss": total,
        "train/policy_gradient_loss": -surrogate,
        "train/value_loss": value_loss,
        "train/entropy": entropy,
        "train/approx_kl": k3(log_ratio),
        "train/clip_fraction": clip_fraction(log_ratio, clip_range(objective)),
    }
    return masked_mean(total, batch.mask), masked_means(metrics, batch.mask)


def clip_range(objective: Objective) -> Any:
    """The objective's own clip range; 0.2 for one without, so that clip fractions can be compared."""
    return getattr(objective, "epsilon", 0.2)
