"""From scored responses to PPO's training data: rewards per token, advantages, targets."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import Scalar, gae, masked_mean, select, whiten
from proximo.language.train.responses import Responses, response_mask


class Returns(NamedTuple):
    """Rewards, advantages and targets, [B, T] each, 0 for padding."""

    reward: Float[Array, "B T"]  # the score at the last token, minus the KL penalty of each
    advantage: Float[Array, "B T"]  # generalised, not yet whitened
    target: Float[Array, "B T"]  # of the critic


def token_rewards(
    score: Float[Array, "B"], kl: Float[Array, "B T"], lengths: Int[Array, "B"], beta: Scalar
) -> Float[Array, "B T"]:
    """The reward of each token.

    Ziegler et al. 2019, eq. 2:  r_t = [t is the last token] score - beta (log pi(t) - log pi_ref(t))

    score    of whole responses, units of reward
    kl       log pi - log pi_ref of the sampled tokens, in nats, without gradient (k1)
    lengths  tokens of each response; one of length 0 gets no reward
    beta     KL coefficient, units of reward per nat
    """
    last = jnp.arange(kl.shape[1]) == (lengths - 1)[:, None]
    return -beta * kl + jnp.where(last, score[:, None], 0.0)


def returns_of(
    score: Float[Array, "B"],
    kl: Float[Array, "B T"],
    value: Float[Array, "B T1"],
    lengths: Int[Array, "B"],
    finished: Bool[Array, "B"],
    *,
    beta: Scalar,
    gamma: float = 1.0,
    lam: float = 0.95,
    critic_lam: float | None = None,
    length_lam: float | None = None,
    whiten_rewards: bool = False,
    counts: Float[Array, "B T"] | None = None,
    bootstrap: bool = False,
) -> Returns:
    """Rewards, advantages and targets of a batch of responses.

    kl          as in `token_rewards`; after a response's end it is ignored, as is `value`
    value       before each token, and after the last position
    critic_lam  lambda of the critic's targets; by default `lam` (VAPO, arXiv 2504.05118: 1)
    length_lam  alpha of VAPO's lambda = 1 - 1 / (alpha length) for each response; None uses `lam`
    counts      1 for the tokens that rewards are whitened over; by default all response tokens
    bootstrap   whether the value is bootstrapped for responses that reached the maximum length
    """
    mask = response_mask(lengths, kl.shape[1])
    reward = select(token_rewards(score, kl, lengths, beta), mask)
    if whiten_rewards:
        reward = whitened_rewards(reward, mask if counts is None else counts)
    last = jnp.arange(mask.shape[1]) == (lengths - 1)[:, None]
    ended = (last & (finished[:, None] | (not bootstrap))).astype(jnp.float32)
    discount = gamma * (1.0 - ended)
    same_episode = mask * (1.0 - last)

    def advantage_with(lam: Scalar | Float[Array, "B"]) -> Float[Array, "B T"]:
        before, after = value[:, :-1].T, value[:, 1:].T
        return select(gae(reward.T, before, after, discount.T, same_episode.T, lam).T, mask)

    own = lam if length_lam is None else 1.0 - 1.0 / jnp.maximum(length_lam * lengths, 1.0)
    advantage = advantage_with(own)
    same = length_lam is None and critic_lam is None
    for_critic = advantage if same else advantage_with(lam if critic_lam is None else critic_lam)
    return Returns(reward, advantage, select(for_critic + value[:, :-1], mask))


def whitened_rewards(reward: Float[Array, "B T"], mask: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """Rewards with standard deviation 1 around the mean that they had.

    Unlike `core.whiten` it does not centre, and unlike `core.scale` it leaves the mean as it is (Ziegler et
    al. 2019's code, described by Huang et al. 2024). It also rescales the KL penalty.
    """
    centred = whiten(reward, mask) + masked_mean(reward, mask)
    alone = jnp.sum(mask) <= 1  # one token has no deviation: `whiten` leaves it as it is
    return select(jnp.where(alone, reward, centred), mask)


def response_facts(
    responses: Responses,
    log_prob: Float[Array, "B T"],
    sampled: Float[Array, "B T"],
    kl: Float[Array, "B"],
    mask: Float[Array, "B T"],
) -> dict[str, Array]:
    """Metrics of a batch of responses, with TRL's names.

    log_prob  of the tokens under the policy, in nats
    sampled   the same at sampling; the two agree to rounding
    kl        estimate of KL(policy || reference) of each response, in nats
    """
    finished = responses.finished.astype(jnp.float32)
    return {
        "objective/kl": jnp.mean(kl),
        "objective/kl_per_token": jnp.sum(kl) / jnp.maximum(jnp.sum(mask), 1.0),
        "objective/entropy": jnp.mean(-jnp.sum(log_prob * mask, axis=1)),
        "val/sampler_gap": masked_mean(jnp.abs(sampled - log_prob), mask),
        "val/length": jnp.mean(responses.lengths.astype(jnp.float32)),
        "val/finished": jnp.mean(finished),
        "val/num_eos_tokens": jnp.sum(finished),
    }
