"""From scored responses to advantages: from a critic, per token (PPO), or relative to a group (GRPO).

The estimator is the only difference between the two methods; `sampling` trains with either. Each has

    begin()                          its initial state, two parts of the learner: `kl` (KL coefficient) and
                                     `scores` (statistics of scores)
    price(kl)                        the KL coefficient, reward per nat; None if there is no KL penalty
    adapt_price(kl, nats, episodes)  `kl` after a batch of this many responses with mean KL `nats`, and
                                     metrics to log
    adjust_scores(score, judged, lengths, scores)
                                     the scores to train on, and `scores` updated with them
    (batch, signals)                 the batch with advantages and critics' targets, and metrics
    value_loss(values, part)         the critics' part of the loss, and their metrics
    warmup                           number of first iterations in which the actor is not trained

The variants of GRPO differ in the advantage (`GroupAdvantage`) and in the average of the loss
(`loss.token_weights`):

    GRPO      --advantage standardised  --aggregation sequences
    Dr. GRPO  --advantage centred       --aggregation length  --beta 0
    DAPO      --advantage standardised  --aggregation tokens  --objective asymmetric-clip:0.2,0.28
              --truncated mask  --skip-equal-groups  --beta 0
    RLOO      --advantage leave-one-out --aggregation length  --kl-in reward

One difference from DAPO: groups with equal scores are left out. DAPO samples again until the batch is full.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import (
    KLController,
    Moments,
    Scalar,
    empty_moments,
    explained_variance,
    has_spread,
    masked_sum,
    merge,
    moments_of,
    select,
    standard_deviation,
    whiten,
)
from proximo.language.train.experience import returns_of
from proximo.language.train.options import GRPOOptions, PPOOptions
from proximo.language.train.policy import critic_of_row, own_value, where_they_agree
from proximo.language.train.responses import Batch

Metrics = dict[str, Array]


class Signals(NamedTuple):
    """Scores, KL and values of a batch of responses."""

    score: Float[Array, "B"]  # units of reward; 0 for a response without a score
    judged: Bool[Array, "B"]  # whether it has a score
    kl: Float[Array, "B T"]  # log pi - log pi_ref of each token, in nats; 0 where there is no token
    values: Float[Array, "B C T1"]  # of each of C critics before each token, and after the last position
    price: Scalar  # KL coefficient if the penalty is in the reward; else 0


@dataclass(frozen=True)
class CriticEstimator:
    """One critic or two: generalised advantages of tokens, whitened (Ziegler et al. 2019)."""

    options: PPOOptions

    @property
    def warmup(self) -> int:
        return self.options.critic.critic_warmup

    def begin(self) -> tuple[KLController, Moments]:
        return jax.tree.map(jnp.float32, self.options.kl), empty_moments(())

    def price(self, kl: KLController) -> Scalar:
        return kl.beta

    def adapt_price(self, kl: KLController, nats: Scalar, episodes: int) -> tuple[KLController, Metrics]:
        told = {"objective/kl_coefficient": jnp.asarray(kl.beta, jnp.float32)}
        return kl.adapted(nats, float(episodes)), told

    def adjust_scores(
        self, score: Float[Array, "B"], judged: Bool[Array, "B"], lengths: Int[Array, "B"], scores: Moments
    ) -> tuple[Float[Array, "B"], Moments]:
        scores = merge(scores, moments_of(score[None], judged[None].astype(score.dtype)))
        return (score / standard_deviation(scores) if self.options.scale_scores else score), scores

    def __call__(self, batch: Batch, signals: Signals) -> tuple[Batch, Metrics]:
        options, values, counts = self.options.critic, signals.values, batch.mask
        value = jnp.mean(values, axis=1)
        returns = returns_of(
            signals.score,
            signals.kl,
            value,
            batch.responses.lengths,
            batch.responses.finished,
            beta=signals.price,
            gamma=options.gamma,
            lam=options.gae_lambda,
            critic_lam=options.critic_lambda,
            length_lam=options.length_lambda,
            whiten_rewards=self.options.whiten_rewards,
            counts=counts,
            bootstrap=self.options.rewards.truncated == "bootstrap",
        )
        advantage, bonus = whiten(returns.advantage, counts), None
        facts = {"val/explained_var": explained_variance(value[:, :-1], returns.target, counts)}
        if values.shape[1] > 1:
            shares = options.advantage_masking, options.entropy_filtering
            keeps, bonus, gap = where_they_agree(values, counts, *shares)
            advantage, facts = advantage * keeps, facts | gap
        critic = critic_of_row(*values.shape[:2])
        own = own_value(critic, values)
        batch = batch._replace(value=own, target=returns.target, critic=critic)
        return batch._replace(advantage=advantage, bonus=bonus), facts

    def value_loss(self, values: Float[Array, "B C T1"], part: Batch) -> tuple[Array, Metrics]:
        """The value loss. Each of two critics is trained on its own responses, which count as half of the
        minibatch's tokens, and the losses are added (AsyPPO)."""
        options, value = self.options.critic, own_value(part.critic, values)
        loss = masked_sum(options.value_loss(value, part.value, part.target) * part.weight, part.mask)
        moved = jnp.abs(value - part.value) > getattr(options.value_loss, "epsilon", jnp.inf)
        clipped = masked_sum(moved * part.share, part.mask)
        metrics = {"loss/value_avg": loss, "val/clipfrac_avg": clipped}
        return values.shape[1] * options.value_coefficient * loss, metrics


@dataclass(frozen=True)
class GroupEstimator:
    """Advantages relative to the other responses of the group (Shao et al. 2024, DeepSeekMath)."""

    options: GRPOOptions
    warmup: ClassVar[int] = 0

    def begin(self) -> tuple[None, None]:
        return None, None

    def price(self, kl: None) -> Scalar | None:
        return self.options.beta

    def adapt_price(self, kl: None, nats: Scalar, episodes: int) -> tuple[None, Metrics]:
        return None, {}

    def adjust_scores(
        self, score: Float[Array, "B"], judged: Bool[Array, "B"], lengths: Int[Array, "B"], scores: None
    ) -> tuple[Float[Array, "B"], None]:
        longest, margin = self.options.sampling.response_length, self.options.soft_overlong
        return score - overlong_penalty(lengths, longest, margin), None

    def __call__(self, batch: Batch, signals: Signals) -> tuple[Batch, Metrics]:
        options, samples = self.options, self.options.sampling.samples
        paid = signals.score - signals.price * jnp.sum(signals.kl, axis=1)
        groups, score, judged = (x.reshape(-1, samples) for x in (paid, signals.score, signals.judged))
        spread = has_spread(score, judged)  # of the scores alone: their KLs always differ a little
        mask, advantage = batch.mask, options.advantage(groups, judged).reshape(-1, 1)
        if options.skip_equal_groups:
            mask = mask * jnp.repeat(spread[:, 0], samples)[:, None]
        advantage = select(jnp.broadcast_to(advantage, mask.shape), mask)
        facts = {"objective/equal_groups": 1.0 - jnp.mean(spread.astype(jnp.float32))}
        return batch._replace(mask=mask, advantage=advantage), facts

    def value_loss(self, values: Float[Array, "B C T1"], part: Batch) -> tuple[Array, Metrics]:
        return jnp.zeros(()), {}


Estimator = CriticEstimator | GroupEstimator


def estimator_of(options: PPOOptions | GRPOOptions) -> Estimator:
    """The estimator of a method."""
    return CriticEstimator(options) if isinstance(options, PPOOptions) else GroupEstimator(options)


def overlong_penalty(lengths: Array, longest: int, margin: int) -> Float[Array, "B"]:
    """The soft length penalty of a response, from 0 to 1 (DAPO, eq. 13).

    It is 0 up to longest - margin tokens, then rises linearly to 1 at the limit. With `margin` 0 it is 0.
    """
    if margin == 0:
        return jnp.zeros(lengths.shape)
    return jnp.clip((lengths - (longest - margin)) / margin, 0.0, 1.0)
