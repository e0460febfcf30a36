"""A language model as actor and critic."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import Scalar
from proximo.language.model.likelihood import likelihood
from proximo.language.model.transformer import Transformer
from proximo.language.train.critics import Critic, shared_critic
from proximo.language.train.responses import Responses, segments_of


class Policy(eqx.Module):
    """The actor and its critics."""

    model: Transformer  # the language model
    critics: tuple[Critic, ...] = ()  # whose mean is the value; none of them in GRPO


def new_policy(model: Transformer, *critics: Critic) -> Policy:
    """An actor with these critics; unless any is given, one on its own trunk that says 0 everywhere."""
    return Policy(model, critics or (shared_critic(model),))


class Said(NamedTuple):
    """What a policy says of responses."""

    log_prob: Float[Array, "B T"]  # of their tokens, in nats
    entropy: Float[Array, "B T"]  # in nats
    values: Float[Array, "B C T1"]  # of each critic, before each token, and after the last place


def said(
    policy: Policy,
    responses: Responses,
    width: int,
    temperature: Scalar = 1.0,
    checkpoint: bool = False,
) -> Said:
    """Log-probabilities, entropies and values of the responses, in one pass where the trunk is shared.

    width        W, the columns that prompts take
    temperature  that the responses were sampled with
    """
    segments = segments_of(responses, width)
    hidden = policy.model.hidden(responses.ids, segments, checkpoint=checkpoint)
    log_prob, entropy = likelihood(
        policy.model, hidden[:, width - 1 : -1], responses.ids[:, width:], temperature
    )

    def value_of(critic: Critic) -> Float[Array, "B T1"]:
        own = critic.trunk
        read = hidden if own is None else own.hidden(responses.ids, segments, checkpoint=checkpoint)
        return critic.everywhere(read[:, width - 1 :])

    if not policy.critics:
        return Said(log_prob, entropy, jnp.zeros((len(log_prob), 0, log_prob.shape[1] + 1)))
    return Said(log_prob, entropy, jnp.stack([value_of(critic) for critic in policy.critics], axis=1))


def reference_log_probs(
    model: Transformer, responses: Responses, width: int, temperature: Scalar = 1.0
) -> Float[Array, "B T"]:
    """Log-probabilities of the response tokens under a model that does not learn."""
    hidden = model.hidden(responses.ids, segments_of(responses, width))
    log_prob, _ = likelihood(model, hidden[:, width - 1 : -1], responses.ids[:, width:], temperature)
    return jax.lax.stop_gradient(log_prob)
