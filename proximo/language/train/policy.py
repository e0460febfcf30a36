"""A language model as actor and critic."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import Scalar
from proximo.language.model.likelihood import score_tokens
from proximo.language.model.transformer import Transformer
from proximo.language.train.critics import Critic, zero_head
from proximo.language.train.responses import Responses, segments_of


class Policy(eqx.Module):
    """The actor and its critics."""

    model: Transformer  # the language model
    critics: tuple[Critic, ...] = ()  # whose mean is the value; none of them in GRPO


def new_policy(model: Transformer, *critics: Critic) -> Policy:
    """An actor with these critics; unless any is given, one on its own trunk that says 0 everywhere."""
    return Policy(model, critics or (Critic(zero_head(model)),))


class PolicyOutputs(NamedTuple):
    """What a policy says of responses."""

    log_prob: Float[Array, "B T"]  # of their tokens, in nats
    entropy: Float[Array, "B T"]  # in nats
    values: Float[Array, "B C T1"]  # of each critic, before each token, and after the last place


def evaluate_responses(
    policy: Policy,
    responses: Responses,
    width: int,
    temperature: Scalar = 1.0,
    checkpoint: bool = False,
) -> PolicyOutputs:
    """Log-probabilities, entropies and values of the responses, in one pass where the trunk is shared.

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
