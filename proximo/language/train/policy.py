"""A language model as actor and critic."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import Scalar
from proximo.language.model.likelihood import likelihood
from proximo.language.model.transformer import Transformer
from proximo.language.train.critics import Critic, shared_critic


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
    """The actor and its critics.

    model    the language model
    critics  whose mean is the value; none of them in GRPO
    """

    model: Transformer
    critics: tuple[Critic, ...] = ()


def new_policy(model: Transformer, *critics: Critic) -> Policy:
    """An actor with these critics; unless any is given, one on its own trunk that says 0 everywhere."""
    return Policy(model, critics or (shared_critic(model),))


class Said(NamedTuple):
    """What a policy says of responses.

    log_prob  [B, T], of their tokens, in nats
    entropy   [B, T], in nats
    values    [B, C, T + 1], of each critic, before each token, and after the last place
    """

    log_prob: Float[Array, "B T"]
    entropy: Float[Array, "B T"]
    values: Float[Array, "B C T1"]


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

    def value_of(critic: Critic) -> Float[Array, "B T1"]:
        own = critic.trunk
        read = hidden if own is None else own.hidden(sequences.ids, segments, checkpoint=checkpoint)
        return critic.everywhere(read[:, width - 1 :])

    if not policy.critics:
        return Said(log_prob, entropy, jnp.zeros((len(log_prob), 0, log_prob.shape[1] + 1)))
    return Said(log_prob, entropy, jnp.stack([value_of(critic) for critic in policy.critics], axis=1))


def reference_log_probs(
    model: Transformer, sequences: Sequences, width: int, temperature: Scalar = 1.0
) -> Float[Array, "B T"]:
    """Log-probabilities of the response tokens under a model that does not learn."""
    hidden = model.hidden(sequences.ids, segments_of(sequences, width))
    log_prob, _ = likelihood(model, hidden[:, width - 1 : -1], sequences.ids[:, width:], temperature)
    return jax.lax.stop_gradient(log_prob)
