"""Responses to prompts as arrays: what a model reads of them, and what an update needs."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import Scalar


class Responses(NamedTuple):
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


def segments_of(responses: Responses, width: Scalar) -> Int[Array, "B L"]:
    """1 where a token is one of the prompt or the response, 0 for padding. `width` is W."""
    place = jnp.arange(responses.ids.shape[1])
    first, end = width - responses.prompts, width + responses.lengths
    return ((place >= first[:, None]) & (place < end[:, None])).astype(jnp.int32)


def response_mask(lengths: Int[Array, "B"], length: int) -> Float[Array, "B T"]:
    """1 for the tokens of the responses."""
    return (jnp.arange(length) < lengths[:, None]).astype(jnp.float32)


class Batch(NamedTuple):
    """What an update needs of an iteration's responses, [B, T] each unless said otherwise.

    log_prob            of the tokens when they were sampled, in nats
    reference_log_prob  of the reference, in nats
    mask                1 for a token that is learned from
    advantage           as the objective sees it
    bonus               1 where entropy is rewarded; everywhere unless given
    value, target       what the critic that learns from a response said before each token, and should say;
                        None without a critic
    critic              [B], its number
    weight              share of each token in the loss of its minibatch; None where there is no minibatch
    share               the same in its metrics, where every token counts alike
    """

    responses: Responses
    log_prob: Float[Array, "B T"]
    reference_log_prob: Float[Array, "B T"]
    mask: Float[Array, "B T"]
    advantage: Any = None
    bonus: Any = None
    value: Any = None
    target: Any = None
    critic: Any = None
    weight: Any = None
    share: Any = None

    @property
    def width(self) -> int:
        """W, the columns that prompts take."""
        return self.responses.ids.shape[1] - self.mask.shape[1]
