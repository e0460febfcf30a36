"""Pairs of answers as batches: what reward models and DPO learn from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.language.text.data import Preference
from proximo.language.text.packing import bucket


class Pairs(NamedTuple):
    """Prompts with their better answer (0 on the second axis) and their worse one (1), padded on the right.

    ids       [B, 2, L]
    segments  [B, 2, L], 1 for a token, 0 for padding
    answer    [B, 2, L], the token is the answer's
    margin    [B], by how much the better one is better, units of reward
    weight    [B], share of each pair in the batch's mean; 0 where rows only fill it up
    place     [B], number of the row
    """

    ids: Int[Array, "B 2 L"]
    segments: Int[Array, "B 2 L"]
    answer: Bool[Array, "B 2 L"]
    margin: Float[Array, "B"]
    weight: Float[Array, "B"]
    place: Int[Array, "B"]


def batch_of(preferences: Sequence[Preference], rows: int, longest: int) -> Pairs:
    """Some pairs as a batch of `rows`; what is missing is empty and weighs nothing.

    longest  tokens that any row has at most
    """
    most = max(len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in preferences)
    shape = (rows, 2, bucket(most, largest=longest))
    ids, segments, answer = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    margin, weight = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    for row, preference in enumerate(preferences):
        start = len(preference.prompt_ids)
        for side, answer_ids in enumerate((preference.chosen_ids, preference.rejected_ids)):
            end = start + len(answer_ids)
            ids[row, side, :start], ids[row, side, start:end] = preference.prompt_ids, answer_ids
            segments[row, side, :end] = 1
            answer[row, side, start:end] = True
        margin[row], weight[row] = preference.margin, 1.0 / len(preferences)
    arrays = ids, segments, answer, margin, weight, np.arange(rows, dtype=np.int32)
    return Pairs(*(jnp.asarray(array) for array in arrays))


def batches_of(
    preferences: Sequence[Preference], rows: int, longest: int
) -> Iterator[tuple[Sequence[Preference], Pairs]]:
    """All pairs, in their order, as batches of `rows`: which they are, and the batch."""
    for start in range(0, len(preferences), rows):
        chunk = preferences[start : start + rows]
        yield chunk, batch_of(chunk, rows, longest)


def placed(values: Float[Array, "b ..."], place: Int[Array, "b"], rows: int) -> Float[Array, "B ..."]:
    """A part's values at their places in the whole batch, 0 elsewhere: the sum over parts is the batch's."""
    return jnp.zeros((rows, *values.shape[1:]), values.dtype).at[place].set(values)
