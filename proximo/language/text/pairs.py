"""Pairs of answers as rows of tokens: what reward models and DPO learn from."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.language.text.data import Preference
from proximo.language.text.packing import bucket


class Pairs(NamedTuple):
    """Prompts with their better answer (0 on the second axis) and their worse one (1), padded on the right.

    ids        [B, 2, L]
    segments   [B, 2, L], 1 for a token, 0 for padding
    answer     [B, 2, L], the token is the answer's
    margin     [B], by how much the better one is better, units of reward
    reference  [B, 2], log-probabilities of the answers under a reference, in nats; 0 without one
    """

    ids: Int[Array, "B 2 L"]
    segments: Int[Array, "B 2 L"]
    answer: Bool[Array, "B 2 L"]
    margin: Float[Array, "B"]
    reference: Float[Array, "B 2"]


class PairRows:
    """Pairs of answers as rows (see `labelled.Rows`).

    longest  tokens that an answer with its prompt has at most
    tokens   [count], of both answers, each with its prompt
    """

    def __init__(self, pairs: Sequence[Preference], longest: int) -> None:
        self.pairs, self.longest = pairs, longest
        self.tokens = np.array(
            [2 * len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in pairs], int
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, places: Int[np.ndarray, "B"]) -> Pairs:
        """The pairs at these places, no wider than the longest of them needs (`bucket`)."""
        pairs = [self.pairs[place] for place in places]
        most = max(len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs)
        shape = (len(pairs), 2, bucket(most, largest=self.longest))
        ids, segments, answer = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
        for row, pair in enumerate(pairs):
            start = len(pair.prompt_ids)
            for side, answer_ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
                end = start + len(answer_ids)
                ids[row, side, :start], ids[row, side, start:end] = pair.prompt_ids, answer_ids
                segments[row, side, :end] = 1
                answer[row, side, start:end] = True
        margin = np.array([pair.margin for pair in pairs], np.float32)
        arrays = ids, segments, answer, margin, np.zeros(shape[:2], np.float32)
        return Pairs(*(jnp.asarray(array) for array in arrays))
