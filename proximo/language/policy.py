"""A language model as actor and critic."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import Scalar
from proximo.language.heads import number
from proximo.language.layers import Linear
from proximo.language.likelihood import likelihood
from proximo.language.model import Transformer


class Sequences(NamedTuple):
    """Prompts, each followed by a response: what the model reads.

    ids       [B, W + T], prompts padded on the left, responses on the right
    prompts   [B], tokens of each prompt, at most W
    lengths   [B], tokens of each response, at most T; its end token counts
    finished  [B], the response ended with its end token, not at the limit

    Masks come from the lengths, never from the ids: an end token may serve as padding too.
    """

    ids: Int[Array, "B L"]
    prompts: Int[Array, "B"]
    lengths: Int[Array, "B"]
    finished: Array


def segments_of(sequences: Sequences, width: Scalar) -> Int[Array, "B L"]:
    """1 where a token is one of the prompt or the response, 0 for padding. `width` is W."""
    place = jnp.arange(sequences.ids.shape[1])
    first, end = width - sequences.prompts, width + sequences.lengths
    return ((place >= first[:, None]) & (place < end[:, None])).astype(jnp.int32)


def response_mask(lengths: Int[Array, "B"], length: int) -> Float[Array, "B T"]:
    """1 for the tokens of the responses."""
    return (jnp.arange(length) < lengths[:, None]).astype(jnp.float32)


class Policy(eqx.Module):
    """The actor, and a critic that reads its hidden states or those of a trunk of its own.

    model   the language model
    value   hidden state -> value, units of reward; None without a critic (GRPO)
    critic  the critic's own trunk; None where it shares the actor's
    """

    model: Transformer
    value: Linear | None
    critic: Transformer | None = None


def new_policy(model: Transformer, critic: Transformer | None = None, value: Linear | None = None) -> Policy:
    """An actor with a critic whose head says 0 everywhere, or is that of a reward model."""
    size = (model if critic is None else critic).config.size
    head = Linear(jnp.zeros((size, 1)), jnp.zeros(1)) if value is None else value
    return Policy(model, head, critic)


class Said(NamedTuple):
    """What a policy says of responses.

    log_prob  [B, T], of their tokens, in nats
    entropy   [B, T], in nats
    value     [B, T + 1], before each token, and after the last place; 0 everywhere without a critic
    """

    log_prob: Float[Array, "B T"]
    entropy: Float[Array, "B T"]
    value: Float[Array, "B T1"]


def said(
    policy: Policy,
    sequences: Sequences,
    width: int,
    temperature: Scalar = 1.0,
    checkpoint: bool = False,
) -> Said:
    """Log-probabilities, entropies and values of the responses, in one pass where the trunk is shared.

    width        W, the columns that prompts take
    temperature  that the responses were sampled with
    """
    segments = segments_of(sequences, width)
    hidden = policy.model.hidden(sequences.ids, segments, checkpoint=checkpoint)
    log_prob, entropy = likelihood(
        policy.model, hidden[:, width - 1 : -1], sequences.ids[:, width:], temperature
    )
    if policy.value is None:
        return Said(log_prob, entropy, jnp.zeros((len(log_prob), log_prob.shape[1] + 1)))
    if policy.critic is not None:
        hidden = policy.critic.hidden(sequences.ids, segments, checkpoint=checkpoint)
    return Said(log_prob, entropy, number(policy.value, hidden[:, width - 1 :]))


def reference_log_probs(
    model: Transformer, sequences: Sequences, width: int, temperature: Scalar = 1.0
) -> Float[Array, "B T"]:
    """Log-probabilities of the response tokens under a model that does not learn."""
    hidden = model.hidden(sequences.ids, segments_of(sequences, width))
    log_prob, _ = likelihood(model, hidden[:, width - 1 : -1], sequences.ids[:, width:], temperature)
    return jax.lax.stop_gradient(log_prob)
