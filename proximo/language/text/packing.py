"""From texts of any length to arrays of few shapes: packed rows, pairs, padded batches, shuffled indices.

Every new shape compiles a step again. So rows of one length hold several texts, and prompts are padded to a
few lengths (`bucket`). The records of a step depend only on its number.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.language.text.data import Ids, Preference, TrainingText


class Packed(NamedTuple):
    """Texts side by side in rows; attention stays inside each text.

    ids        [rows, length] int32; 0 for padding
    segments   [rows, length] int32, 1, 2, ... along a row for its texts; 0 for padding
    positions  [rows, length] int32, from 0 in every text
    learn      [rows, length] bool, tokens that count in the loss; never the first of a text, since the
               token before it belongs to another text
    """

    ids: Ids
    segments: Ids
    positions: Ids
    learn: np.ndarray


def pack(texts: Sequence[TrainingText], length: int) -> Packed:
    """Packs texts into few rows: the longest first, each into the fullest row that it fits.

    Best fit decreasing: at most 11/9 of the fewest possible rows, and 4 more (Johnson 1973). Lengths 5, 4,
    3, 2, 2 in rows of 8 give (5, 3) and (4, 2, 2).

    length   tokens per row

    Raises ValueError for a text without tokens, or longer than a row.
    """
    rows = _best_fit([len(text.ids) for text in texts], length)
    packed = Packed(*(np.zeros((len(rows), length), kind) for kind in (np.int32, np.int32, np.int32, bool)))
    for row, members in enumerate(rows):
        start = 0
        for segment, member in enumerate(members, 1):
            text = texts[member]
            place = row, slice(start, start + len(text.ids))
            packed.ids[place] = text.ids
            packed.segments[place] = segment
            packed.positions[place] = np.arange(len(text.ids))
            packed.learn[place] = text.learn
            packed.learn[row, start] = False
            start += len(text.ids)
    return packed


class Pairs(NamedTuple):
    """Prompts with the preferred answer (0 on the second axis) and the other one (1), padded on the right.

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

    longest  maximum tokens of an answer with its prompt
    tokens   tokens of both answers, each with its prompt, [count]
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
        texts = [np.append(p.prompt_ids, ids) for p in pairs for ids in (p.chosen_ids, p.rejected_ids)]
        width = bucket(max(len(text) for text in texts), largest=self.longest)
        ids, lengths = pad_right(texts, width, 0)
        ids, lengths = ids.reshape(-1, 2, width), lengths.reshape(-1, 2, 1)
        starts = np.array([len(pair.prompt_ids) for pair in pairs])[:, None, None]
        here = np.arange(width) < lengths
        margin = np.array([pair.margin for pair in pairs], np.float32)
        arrays = ids, here.astype(np.int32), here & (np.arange(width) >= starts), margin
        return Pairs(*(jnp.asarray(array) for array in (*arrays, np.zeros(ids.shape[:2], np.float32))))


def pad_left(sequences: Sequence[Sequence[int] | Ids], width: int, pad_id: int) -> tuple[Ids, Ids]:
    """Prompts, which end where their responses begin: ids [B, width] and lengths [B], int32.

    Raises ValueError for one that is longer than the width.
    """
    ids, lengths = pad_right([sequence[::-1] for sequence in sequences], width, pad_id)
    return ids[:, ::-1], lengths


def pad_right(sequences: Sequence[Sequence[int] | Ids], width: int, pad_id: int) -> tuple[Ids, Ids]:
    """Responses, and texts to score: ids [B, width] and lengths [B], int32.

    Raises ValueError for one that is longer than the width.
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    if lengths.max(initial=0) > width:
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit {width}")
    ids = np.full((len(sequences), width), pad_id, np.int32)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    return ids, lengths


def bucket(length: int, smallest: int = 32, largest: int | None = None) -> int:
    """The width to pad to: the least of 1, 2, 3, 4, 6, 8, 12, ... that holds `length` tokens.

    Two widths per doubling: less than a third of a row is padding, and prompts of 32 to 4096 tokens make
    no more than 15 shapes. 100 tokens are padded to 128, 65 to 96.

    smallest  no width is less: short prompts share one
    largest   no width is greater, such as the room for prompts; it becomes a width itself

    Raises ValueError where `length` exceeds `largest`.
    """
    if largest is not None and length > largest:
        raise ValueError(f"{length} tokens do not fit {largest}")
    needed = max(length, smallest, 1)
    power = 1 << (needed - 1).bit_length()
    width = power * 3 // 4 if needed <= power * 3 // 4 else power
    return width if largest is None else min(width, largest)


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """The records of one step. Every epoch is a new random order of all records; steps may span two epochs.

    They depend only on the step's number, so a resumed run continues exactly where it was. With 3
    records and steps of 2, steps 0, 1, 2 take two epochs: (a b) (c | b) (c a).

    seed        chooses the orders
    step        from 0
    batch_size  records per step; may exceed their count
    count       records there are
    returns     [batch_size] int64, each from 0 to count - 1

    Raises ValueError for a count or size below 1, or a step below 0.
    """
    if count < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"no batch of {batch_size} from {count} records at step {step}")
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(places[0] // count, places[-1] // count + 1)
    orders = np.concatenate([epoch_permutation(seed, epoch, count) for epoch in epochs])
    return orders[places - epochs[0] * count]


@lru_cache(maxsize=4)
def epoch_permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """A random order of `count` items, [count] int64; it depends only on seed and epoch."""
    # Philox's raw bits are the same in every version of NumPy; `Generator.permutation` may change.
    bits = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(count)
    order = np.argsort(bits, kind="stable")
    order.flags.writeable = False  # it is remembered
    return order


def _best_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """The texts of each row."""
    if sizes and not 1 <= min(sizes) <= max(sizes) <= length:
        raise ValueError(f"texts of {min(sizes)} to {max(sizes)} tokens do not fit rows of {length}")
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # tokens left -> rows with so many, never an empty list
    spaces: list[int] = []  # its keys, sorted
    for member in sorted(range(len(sizes)), key=lambda member: -sizes[member]):
        place = bisect_left(spaces, sizes[member])
        if place == len(spaces):
            rows.append([member])
            row, space = len(rows) - 1, length
        else:
            space = spaces[place]
            row = open_rows[space].pop()
            rows[row].append(member)
            if not open_rows[space]:
                del open_rows[space], spaces[place]
        left = space - sizes[member]
        if left not in open_rows:
            open_rows[left] = []
            insort(spaces, left)
        open_rows[left].append(row)
    return rows
