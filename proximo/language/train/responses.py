"""Responses to prompts as arrays: the model's inputs, the batch of an update, and parts of it.

Those of like length go together, cut to what they need.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import Scalar
from proximo.learn.descend import Gradient


class Responses(NamedTuple):
    """Prompts, each followed by a response: the inputs of a model.

    Masks come from the lengths, never from the ids, so an end token may also be the padding token.
    """

    ids: Int[Array, "B L"]  # prompts padded on the left, responses on the right
    prompts: Int[Array, "B"]  # tokens of each prompt, at most W
    lengths: Int[Array, "B"]  # tokens of each response, at most T; its end token counts
    finished: Array  # [B], the response ended with its end token, not at the limit


def segments_of(responses: Responses, width: Scalar) -> Int[Array, "B L"]:
    """1 where a token is one of the prompt or the response, 0 for padding. `width` is W."""
    place = jnp.arange(responses.ids.shape[1])
    first, end = width - responses.prompts, width + responses.lengths
    return ((place >= first[:, None]) & (place < end[:, None])).astype(jnp.int32)


def response_mask(lengths: Int[Array, "B"], length: int) -> Float[Array, "B T"]:
    """1 for the tokens of the responses."""
    return (jnp.arange(length) < lengths[:, None]).astype(jnp.float32)


class Batch(NamedTuple):
    """The batch of an update, [B, T] each unless noted."""

    responses: Responses
    log_prob: Float[Array, "B T"]  # of the tokens when they were sampled, in nats
    reference_log_prob: Float[Array, "B T"]  # of the reference, in nats
    mask: Float[Array, "B T"]  # 1 for tokens that count
    advantage: Any = None  # as the objective sees it
    bonus: Any = None  # 1 for tokens with entropy bonus; by default all
    # the value before each token by the critic that is trained on the response, and its target; None
    # without a critic
    value: Any = None
    target: Any = None
    critic: Any = None  # [B], its number
    weight: Any = None  # weight of each token in the loss of its minibatch; None without minibatches
    share: Any = None  # the same in its metrics, where all tokens have equal weight

    @property
    def width(self) -> int:
        """W, the columns that prompts take."""
        return self.responses.ids.shape[1] - self.mask.shape[1]


def sort_by_length(
    order: Int[Array, "K minibatches rows"], lengths: Int[Array, "B"]
) -> Int[Array, "K minibatches rows"]:
    """The same minibatches, the rows of each from the shortest response to the longest."""
    return jnp.take_along_axis(order, jnp.argsort(lengths[order], axis=-1), axis=-1)


def cut_to_length(gradient: Gradient) -> Gradient:
    """The same gradient, computed on a part's columns up to its longest response.

    The columns are cut to all, a half or a quarter of them, since each shape is compiled separately.
    """

    def of_part(weights: Any, part: Batch) -> tuple[Any, dict[str, Array]]:
        all_columns = part.mask.shape[1]
        columns = sorted({max(-(-all_columns // share), 1) for share in (1, 2, 4)})
        needed = jnp.searchsorted(jnp.array(columns), jnp.max(part.responses.lengths))
        branches = [lambda weights, part, n=n: gradient(weights, cut_columns(part, n)) for n in columns]
        return jax.lax.switch(needed, branches, weights, part)  # type: ignore[no-any-return]

    return of_part


def cut_columns(batch: Batch, columns: int) -> Batch:
    """The same batch with only the first columns of its responses."""
    ids = batch.responses.ids[:, : batch.width + columns]
    shorter: Batch = jax.tree.map(lambda x: x[:, :columns] if x.ndim == 2 else x, batch)
    return shorter._replace(responses=batch.responses._replace(ids=ids))
