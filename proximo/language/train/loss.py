"""The policy's loss over response tokens, and its metrics."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core import Scalar, clip_fraction, k1, k2, k3, masked_sum, select
from proximo.language.train.options import Aggregation, KLEstimate, RatioOf, TokenObjective
from proximo.language.train.responses import Batch

LARGEST = 20.0  # of a log ratio, in nats; e^20 says only "far"


def token_weights(mask: Float[Array, "B T"], aggregation: Aggregation, longest: int) -> Float[Array, "B T"]:
    """The weight of each token in the mean over a whole minibatch.

    tokens     1 / (all valid tokens)                 every token counts alike (DAPO, arXiv 2503.14476)
    sequences  1 / (sequences, times this one's length)
                                                      every sequence counts alike (GRPO, arXiv 2402.03300)
    length     1 / (B longest)                        a constant: long answers are not diluted (Dr. GRPO,
                                                      arXiv 2503.20783)

    A sequence without tokens that count is left out; only `length`, a constant, still counts it in B.

    longest  maximum response length in tokens. T may be smaller, since it is cut to what a batch needs
    """
    if aggregation == "tokens":
        return mask / jnp.maximum(jnp.sum(mask), 1.0)
    if aggregation == "sequences":
        lengths = jnp.sum(mask, axis=1, keepdims=True)
        return mask / jnp.maximum(lengths, 1.0) / jnp.maximum(jnp.sum(lengths > 0), 1)
    return mask / (len(mask) * longest)


def prepare_minibatch(batch: Batch, aggregation: Aggregation, longest: int) -> tuple[Batch, Bool[Array, ""]]:
    """A minibatch with its tokens' weights in the loss and in the metrics, and whether any token counts.

    Arguments as of `token_weights`.
    """
    weight, share = (token_weights(batch.mask, by, longest) for by in (aggregation, "tokens"))
    return batch._replace(weight=weight, share=share), jnp.any(batch.mask > 0)


def log_ratio_of(
    log_prob: Float[Array, "B T"], old_log_prob: Float[Array, "B T"], mask: Float[Array, "B T"], of: RatioOf
) -> Float[Array, "B T"]:
    """log pi(token) - log pi_old(token), or its mean over each sequence, the same for all its batch.

    The mean over a sequence is the log of GSPO's ratio (Zheng et al. 2025, arXiv 2507.18071, eq. 7), the
    length-th root of the sequences' likelihood ratio. Its gradient is that of GSPO-token (their eq. 14): it
    goes to each token separately, so advantages may differ within a sequence, as a critic's do. If they do
    not differ, it equals the gradient of the mean. Limited to +-20.
    """
    log_ratio = select(jnp.clip(log_prob - old_log_prob, -LARGEST, LARGEST), mask)
    if of == "token":
        return log_ratio
    lengths = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1.0)
    mean = jax.lax.stop_gradient(jnp.sum(log_ratio, axis=1, keepdims=True) / lengths)
    return mask * (mean + log_ratio - jax.lax.stop_gradient(log_ratio))


def policy_loss(
    log_prob: Float[Array, "B T"],
    entropy: Float[Array, "B T"],
    batch: Batch,
    objective: TokenObjective,
    *,
    ratio_of: RatioOf = "token",
    entropy_coefficient: Scalar | None = None,
    kl_coefficient: Scalar | None = None,
    kl_estimate: KLEstimate = "k2",
) -> tuple[Array, dict[str, Array]]:
    """The policy's part of the loss, and its metrics; both add up over the parts of a batch.

    - sum of weight (objective + entropy_coefficient bonus entropy - kl_coefficient kl)

    log_prob, entropy  of the policy now, [B, T], in nats
    kl_coefficient     per nat, if the KL penalty is in the loss; None if it is in the reward
    kl_estimate        estimator of KL(policy || reference) in the loss. The gradient of k2's mean is that of
                       the KL; k1's has mean 0 on fresh samples; k3's, the default of GRPO, is that of the
                       reversed KL
    """
    log_ratio = log_ratio_of(log_prob, batch.log_prob, batch.mask, ratio_of)
    gain = objective(log_ratio, batch.advantage)
    if entropy_coefficient is not None:
        bonus = 1.0 if batch.bonus is None else batch.bonus
        gain = gain + entropy_coefficient * bonus * entropy
    if kl_coefficient is not None:
        away = jnp.clip(batch.reference_log_prob - log_prob, -LARGEST, LARGEST)
        gain = gain - kl_coefficient * {"k1": k1, "k2": k2, "k3": k3}[kl_estimate](away)
    loss = -masked_sum(gain * batch.weight, batch.mask)
    low, high = clip_range(objective)
    by_token = log_ratio_of(log_prob, batch.log_prob, batch.mask, "token")
    columns = {
        "policy/approxkl_avg": k3(by_token),  # in nats a token, whatever the objective compares
        "policy/clipfrac_avg": clip_fraction(log_ratio, low, high),
        "policy/entropy_avg": entropy,
        "val/ratio": jnp.exp(log_ratio),
    }
    metrics = {name: masked_sum(x * batch.share, batch.mask) for name, x in columns.items()}
    return loss, metrics | {"loss/policy_avg": loss}


def clip_range(objective: TokenObjective) -> tuple[Scalar, Scalar]:
    """How far the ratio may fall below and rise above 1 before the objective counts it as clipped."""
    return getattr(objective, "bounds", (jnp.inf, jnp.inf))
