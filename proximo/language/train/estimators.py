"""From scored responses to advantages: by a critic, token by token (PPO), or against a group (GRPO).

An estimator is all that tells the two methods apart; `sampling` trains with either. Each has

    begin()                          what it carries from one batch to the next, as two parts of the learner:
                                     `kl`, which says what a nat from the reference costs, and `scores`
    price(kl)                        that price, in units of reward; None where nothing is paid
    adapted(kl, nats, episodes)      `kl` after a batch of so many responses whose KL was `nats` in the mean,
                                     and what to log of it
    scored(score, judged, lengths, scores)
                                     the scores as they count, and `scores` with these counted in
    (batch, signals)                 the batch with advantages, and with targets for critics; and facts of it
    value_loss(values, part)         what critics add to the loss of a part, and their metrics
    kl_in, warmup                    where a nat is paid for; iterations at first in which the actor is held

The members of GRPO's family differ in how a response is judged (`GroupAdvantage`), and in what counts alike
in the mean (`loss.token_weights`):

    GRPO      --advantage standardised  --aggregation sequences
    Dr. GRPO  --advantage centred       --aggregation length  --beta 0
    DAPO      --advantage standardised  --aggregation tokens  --objective asymmetric-clip:0.2,0.28
              --truncated mask  --skip-equal-groups  --beta 0
    RLOO      --advantage leave-one-out --aggregation length  --kl-in reward

We depart from DAPO in one thing: groups that are all equal are left out, not sampled again until the batch is
full.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import (
    GroupAdvantage,
    KLController,
    Moments,
    Scalar,
    differ,
    empty_moments,
    explained_variance,
    masked_sum,
    merge,
    moments_of,
    select,
    standard_deviation,
    whiten,
)
from proximo.core.arrays import traceable
from proximo.language.train.critics import critic_of_row, own_value, where_they_agree
from proximo.language.train.experience import returns_of
from proximo.language.train.options import CriticOptions, GRPOOptions, PPOOptions
from proximo.language.train.responses import Batch

Metrics = dict[str, Array]


class Signals(NamedTuple):
    """What responses are judged by.

    score   [B], units of reward; 0 where nothing judged a response
    judged  [B], whether anything did
    kl      [B, T], log pi - log pi_ref of each token, in nats; 0 where there is no token
    values  [B, C, T + 1], what each of C critics says before each token, and after the last place
    price   units of reward for a nat, where it is paid in the reward; else 0
    """

    score: Float[Array, "B"]
    judged: Bool[Array, "B"]
    kl: Float[Array, "B T"]
    values: Float[Array, "B C T1"]
    price: Scalar


@traceable
@dataclass(frozen=True, kw_only=True)
class CriticEstimator:
    """A critic, or two that disagree: generalised advantages of tokens, whitened (Ziegler et al. 2019).

    Fields are as of `PPOOptions` and its parts; `bootstrap` as of `returns_of`.
    """

    critic: CriticOptions
    kl: KLController
    kl_in: Literal["reward", "loss"]
    whiten_rewards: bool
    scale_scores: bool
    bootstrap: bool

    @property
    def warmup(self) -> int:
        return self.critic.critic_warmup

    def begin(self) -> tuple[KLController, Moments]:
        return jax.tree.map(jnp.float32, self.kl), empty_moments(())

    def price(self, kl: KLController) -> Scalar:
        return kl.beta

    def adapted(self, kl: KLController, nats: Scalar, episodes: int) -> tuple[KLController, Metrics]:
        told = {"objective/kl_coefficient": jnp.asarray(kl.beta, jnp.float32)}
        return kl.adapted(nats, float(episodes)), told

    def scored(
        self, score: Float[Array, "B"], judged: Bool[Array, "B"], lengths: Int[Array, "B"], scores: Moments
    ) -> tuple[Float[Array, "B"], Moments]:
        scores = merge(scores, moments_of(score[None], judged[None].astype(score.dtype)))
        return (score / standard_deviation(scores) if self.scale_scores else score), scores

    def __call__(self, batch: Batch, signals: Signals) -> tuple[Batch, Metrics]:
        options, values, counts = self.critic, signals.values, batch.mask
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
            whiten_rewards=self.whiten_rewards,
            counts=counts,
            bootstrap=self.bootstrap,
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
        """Of two critics each learns from its own responses, which count as if they were half of the
        minibatch's tokens, and the losses are added (AsyPPO)."""
        options, value = self.critic, own_value(part.critic, values)
        loss = masked_sum(options.value_loss(value, part.value, part.target) * part.weight, part.mask)
        moved = jnp.abs(value - part.value) > getattr(options.value_loss, "epsilon", jnp.inf)
        clipped = masked_sum(moved * part.share, part.mask)
        metrics = {"loss/value_avg": loss, "val/clipfrac_avg": clipped}
        return values.shape[1] * options.value_coefficient * loss, metrics


def critic_estimator(options: PPOOptions) -> CriticEstimator:
    """PPO's estimator."""
    return CriticEstimator(
        critic=options.critic,
        kl=options.kl,
        kl_in=options.kl_in,
        whiten_rewards=options.whiten_rewards,
        scale_scores=options.scale_scores,
        bootstrap=options.rewards.truncated == "bootstrap",
    )


@traceable
@dataclass(frozen=True, kw_only=True)
class GroupEstimator:
    """A response is judged against its group's other responses (Shao et al. 2024, DeepSeekMath).

    Fields are as of `GRPOOptions` and its parts; `beta` is None for 0, and then no KL is computed.
    """

    advantage: GroupAdvantage
    beta: float | None
    kl_in: Literal["reward", "loss"]
    skip_equal_groups: bool
    soft_overlong: int
    samples: int
    response_length: int
    warmup: ClassVar[int] = 0

    def begin(self) -> tuple[None, None]:
        return None, None

    def price(self, kl: None) -> Scalar | None:
        return self.beta

    def adapted(self, kl: None, nats: Scalar, episodes: int) -> tuple[None, Metrics]:
        return None, {}

    def scored(
        self, score: Float[Array, "B"], judged: Bool[Array, "B"], lengths: Int[Array, "B"], scores: None
    ) -> tuple[Float[Array, "B"], None]:
        return score - overlong_penalty(lengths, self.response_length, self.soft_overlong), None

    def __call__(self, batch: Batch, signals: Signals) -> tuple[Batch, Metrics]:
        paid = signals.score - signals.price * jnp.sum(signals.kl, axis=1)
        groups, score, judged = (x.reshape(-1, self.samples) for x in (paid, signals.score, signals.judged))
        spread = differ(score, judged)  # of the scores alone: their KLs always differ a little
        mask, advantage = batch.mask, self.advantage(groups, judged).reshape(-1, 1)
        if self.skip_equal_groups:
            mask = mask * jnp.repeat(spread[:, 0], self.samples)[:, None]
        advantage = select(jnp.broadcast_to(advantage, mask.shape), mask)
        facts = {"objective/equal_groups": 1.0 - jnp.mean(spread.astype(jnp.float32))}
        return batch._replace(mask=mask, advantage=advantage), facts

    def value_loss(self, values: Float[Array, "B C T1"], part: Batch) -> tuple[Array, Metrics]:
        return jnp.zeros(()), {}


Estimator = CriticEstimator | GroupEstimator


def group_estimator(options: GRPOOptions) -> GroupEstimator:
    """GRPO's estimator."""
    return GroupEstimator(
        advantage=options.advantage,
        beta=options.beta or None,
        kl_in=options.kl_in,
        skip_equal_groups=options.skip_equal_groups,
        soft_overlong=options.soft_overlong,
        samples=options.sampling.samples,
        response_length=options.sampling.response_length,
    )


def overlong_penalty(lengths: Array, longest: int, margin: int) -> Float[Array, "B"]:
    """What a response pays for its length, from 0 to 1.

    DAPO, eq. 13: 0 up to longest - margin tokens, then in proportion, 1 at the limit. `margin` 0: nothing.
    """
    if margin == 0:
        return jnp.zeros(lengths.shape)
    return jnp.clip((lengths - (longest - margin)) / margin, 0.0, 1.0)
