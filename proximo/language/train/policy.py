"""A language model as actor, with critics: one on its trunk, one on its own, or two that disagree."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import Scalar, masked_mean
from proximo.language.model.heads import number
from proximo.language.model.layers import Linear
from proximo.language.model.likelihood import score_tokens
from proximo.language.model.transformer import Transformer
from proximo.language.train.responses import Responses, segments_of


class Critic(eqx.Module):
    """Hidden state -> value, units of reward."""

    score: Linear  # [D, 1], the head
    trunk: Transformer | None = None  # what it reads with; None where it reads the actor's hidden states

    def everywhere(self, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
        """The value at each place, of hidden states."""
        return number(self.score, hidden)


class Policy(eqx.Module):
    """The actor and its critics."""

    model: Transformer  # the language model
    critics: tuple[Critic, ...] = ()  # whose mean is the value; none of them in GRPO


def new_policy(model: Transformer, *critics: Critic) -> Policy:
    """An actor with these critics; by default one on its own trunk that predicts 0 everywhere."""
    return Policy(model, critics or (Critic(zero_head(model)),))


def own_critic(trunk: Transformer, score: Linear | None = None) -> Critic:
    """A critic with its own trunk, which may be smaller than the actor's.

    score  the head, such as a reward model's; by default one that predicts 0 everywhere
    """
    return Critic(zero_head(trunk) if score is None else score, trunk)


def zero_head(model: Transformer) -> Linear:
    """A critic's head that predicts 0 everywhere."""
    return Linear(jnp.zeros((model.config.size, 1)), jnp.zeros(1))


class PolicyOutputs(NamedTuple):
    """Log-probabilities, entropies and values of responses."""

    log_prob: Float[Array, "B T"]  # of their tokens, in nats
    entropy: Float[Array, "B T"]  # in nats
    values: Float[Array, "B C T1"]  # of each critic, before each token, and after the last position


def evaluate_responses(
    policy: Policy,
    responses: Responses,
    width: int,
    temperature: Scalar = 1.0,
    checkpoint: bool = False,
) -> PolicyOutputs:
    """Log-probabilities, entropies and values of the responses, in one pass if the trunk is shared.

    width        W, the columns that prompts take
    temperature  that the responses were sampled with
    """
    segments = segments_of(responses, width)
    hidden = policy.model.hidden(responses.ids, segments, checkpoint=checkpoint)
    scores = score_tokens(policy.model, hidden[:, width - 1 : -1], responses.ids[:, width:], temperature)

    def value_of(critic: Critic) -> Float[Array, "B T1"]:
        own = critic.trunk
        read = hidden if own is None else own.hidden(responses.ids, segments, checkpoint=checkpoint)
        return critic.everywhere(read[:, width - 1 :])

    rows, length = scores.log_prob.shape
    nothing = jnp.zeros((rows, 0, length + 1))
    values = [value_of(critic) for critic in policy.critics]
    return PolicyOutputs(scores.log_prob, scores.entropy, jnp.stack(values, axis=1) if values else nothing)


def critic_of_row(rows: int, critics: int) -> Int[Array, "B"]:
    """The number of the critic that is trained on each response.

    Critics alternate, so responses to the same prompt, which stand side by side, are divided evenly (Liu et
    al. 2025, AsyPPO, arXiv 2510.01656). Each critic sees all prompts, and no response is seen by two.
    """
    return jnp.arange(rows) % critics


def own_value(critic: Int[Array, "B"], values: Float[Array, "B C T1"]) -> Float[Array, "B T"]:
    """The value before each token, by the critic that is trained on the response."""
    own = critic[:, None] == jnp.arange(values.shape[1])  # not an index: rows stay on their devices
    return jnp.sum(jnp.where(own[:, :, None], values[:, :, :-1], 0.0), axis=1)


def where_they_agree(
    values: Float[Array, "B C T1"], counts: Float[Array, "B T"], masking: float, filtering: float
) -> tuple[Float[Array, "B T"], Float[Array, "B T"], dict[str, Array]]:
    """Which tokens to keep by the critics' disagreement, the standard deviation of their values (AsyPPO).

    counts     1 for the tokens that count
    masking    share of tokens, where critics agree most, whose advantage is set to 0
    filtering  share of tokens, where critics agree least, without entropy bonus

    Returns 1 for tokens that keep their advantage, 1 for tokens with entropy bonus, and a metric.
    """
    gap = jnp.std(values[:, :, :-1], axis=1)
    agreed, disputed = lowest(gap, counts, masking), lowest(-gap, counts, filtering)
    return 1.0 - agreed, 1.0 - disputed, {"val/critics_std": masked_mean(gap, counts)}


def lowest(x: Float[Array, "B T"], mask: Float[Array, "B T"], share: float) -> Float[Array, "B T"]:
    """1 for the tokens whose x is among the lowest share of those in the mask, 0 for the others.

    Equal values are in or out together, and out in doubt: if all are equal, none is low.

    share  from 0 to below 1
    """
    low_first = jnp.sort(jnp.where(mask > 0, x, jnp.inf).ravel())
    many = jnp.floor(share * jnp.sum(mask)).astype(jnp.int32)
    return mask * (x < low_first[many])
