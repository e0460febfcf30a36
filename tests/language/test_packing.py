"""From texts of any length to arrays of few shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proximo.language.text.data import TrainingText
from proximo.language.text.packing import batch_indices, bucket, epoch_permutation, pack, pad_left, pad_right

LENGTH = 12


def text(*ids, learn=None):
    return TrainingText(np.array(ids, np.int32), np.array(learn or [True] * len(ids)))


def test_the_longest_first_into_the_fullest_row_that_it_fits():
    # 5 opens a row with 3 left, 4 another with 4 left; 3 fills the first; 2 and 2 fill the second.
    packed = pack([text(*[size] * size) for size in (2, 5, 3, 4)] + [text(9, 9)], 8)
    assert packed.ids.tolist() == [[5, 5, 5, 5, 5, 3, 3, 3], [4, 4, 4, 4, 2, 2, 9, 9]]
    assert packed.segments.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 2, 2, 3, 3]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 0, 1, 0, 1]]


def test_best_fit_is_not_first_fit():
    # Rows after 6 and 5: 2 and 3 left. 3 goes to the second although it is later, 2 to the first.
    packed = pack([text(*[6] * 6), text(*[5] * 5), text(3, 3, 3), text(2, 2)], 8)
    assert packed.ids[:, -1].tolist() == [2, 3]
    # 2 fits both when 3 does not come: the fuller row is taken, the first.
    assert pack([text(*[6] * 6), text(*[5] * 5), text(2, 2)], 8).segments[:, -1].tolist() == [2, 0]


def test_rows_with_equal_room_are_all_used():
    packed = pack([text(*[size] * size) for size in (6, 6, 2, 2)], 8)
    assert packed.segments[:, -1].tolist() == [2, 2]


def test_what_stands_nowhere_is_zero():
    packed = pack([text(7, 8)], 4)
    assert packed.ids.tolist() == [[7, 8, 0, 0]]
    assert packed.segments.tolist() == [[1, 1, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 0, 0]]
    assert packed.learn.tolist() == [[False, True, False, False]]
    assert [x.dtype for x in packed] == [np.int32, np.int32, np.int32, bool]


def test_the_first_token_of_a_text_is_predicted_by_nothing():
    # In a row of texts its predecessor is the end of another text, so it carries no loss.
    assert pack([text(1, 2, 3), text(4, 5)], 5).learn.tolist() == [[False, True, True, False, True]]


@pytest.mark.parametrize("sizes", [[9], [0], [3, 0]])
def test_what_does_not_fit_is_not_cut(sizes):
    with pytest.raises(ValueError, match="do not fit rows of 8"):
        pack([text(*range(size)) for size in sizes], 8)


def test_nothing_packs_into_no_rows():
    assert pack([], 8).ids.shape == (0, 8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=LENGTH), max_size=40), st.randoms())
def test_every_token_stands_exactly_once(lists, random):
    learns = [[random.random() < 0.5 for _ in ids] for ids in lists]
    packed = pack([text(*ids, learn=learn) for ids, learn in zip(lists, learns, strict=True)], LENGTH)
    found = []
    for ids, segments, positions, learn in zip(*packed, strict=True):
        count = segments.max()
        used = segments > 0
        # Texts stand from the left without gaps, and are numbered 1, 2, ... along the row.
        assert np.all(np.diff(used.astype(int)) <= 0) and np.all(np.diff(segments[used]) >= 0)
        assert sorted({*segments[used]}) == list(range(1, count + 1))
        assert not ids[~used].any() and not positions[~used].any() and not learn[~used].any()
        for segment in range(1, count + 1):
            here = segments == segment
            assert positions[here].tolist() == list(range(here.sum()))
            found.append((ids[here].tolist(), learn[here].tolist()))
    given_texts = [(ids, [False, *learn[1:]]) for ids, learn in zip(lists, learns, strict=True)]
    assert sorted(found) == sorted(given_texts)


@given(st.lists(st.integers(1, LENGTH), min_size=1, max_size=40))
def test_rows_are_well_filled(sizes):
    rows = len(pack([text(*range(1, size + 1)) for size in sizes], LENGTH).ids)
    # No fewer rows than tokens need; and any two rows could not be one, so that they are over half full.
    assert -(-sum(sizes) // LENGTH) <= rows <= 2 * sum(sizes) / LENGTH + 1


def test_prompts_end_together_and_responses_begin_together():
    ids, lengths = pad_left([[1, 2], [3], np.array([4, 5, 6])], 4, pad_id=9)
    assert ids.tolist() == [[9, 9, 1, 2], [9, 9, 9, 3], [9, 4, 5, 6]]
    assert lengths.tolist() == [2, 1, 3]
    assert ids.dtype == lengths.dtype == np.int32
    ids, lengths = pad_right([[1, 2], [], [4, 5, 6, 7]], 4, pad_id=9)
    assert ids.tolist() == [[1, 2, 9, 9], [9, 9, 9, 9], [4, 5, 6, 7]]
    assert lengths.tolist() == [2, 0, 4]


@pytest.mark.parametrize("padded", [pad_left, pad_right])
def test_padding_cuts_nothing(padded):
    with pytest.raises(ValueError, match="5 tokens does not fit 4"):
        padded([[1], [1] * 5], 4, pad_id=0)


def test_few_widths():
    # Powers of two, and three quarters of them.
    widths = sorted({bucket(length) for length in range(1, 4097)})
    assert widths == [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096]
    assert [bucket(length, smallest=1) for length in (1, 2, 3, 4, 5, 7, 9, 13)] == [1, 2, 3, 4, 6, 8, 12, 16]


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_a_width_holds_its_prompts_with_little_to_spare(length, smallest):
    width = bucket(length, smallest)
    assert width >= length
    assert width == bucket(smallest, smallest) or (width - length) / width < 1 / 3
    assert bucket(width, smallest) == width


def test_the_room_for_prompts_is_the_last_width():
    assert [bucket(length, largest=100) for length in (96, 97, 100)] == [96, 100, 100]
    with pytest.raises(ValueError, match="101 tokens do not fit 100"):
        bucket(101, largest=100)


def test_every_epoch_has_every_record_once():
    # 3 steps of 4 are 2 epochs of 6: the middle step takes two of each.
    steps = np.concatenate([batch_indices(7, step, 4, 6) for step in range(3)])
    assert sorted(steps[:6]) == sorted(steps[6:]) == list(range(6))
    assert steps[:6].tolist() != steps[6:].tolist()


@given(st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_the_stream_does_not_depend_on_how_it_is_cut(seed, step, size, other, count):
    # Record k of the stream is the same whatever the batch: a run can go on from its step alone.
    start = step * size
    stream = np.concatenate(
        [batch_indices(seed, s, other, count) for s in range((start + size) // other + 1)]
    )
    assert batch_indices(seed, step, size, count).tolist() == stream[start : start + size].tolist()


def test_orders_are_the_same_forever():
    # Written down once: no version of NumPy may change the order of a run that is resumed with it.
    first = [0, 2, 1, 5, 4, 3, 6, 7]
    assert batch_indices(0, 0, 8, 8).tolist() == first
    assert batch_indices(1, 0, 8, 8).tolist() != first
    assert batch_indices(0, 1, 8, 8).tolist() != first
    assert sorted(batch_indices(-1, 0, 8, 8)) == list(range(8))  # any integer is a seed


def test_an_order_cannot_be_spoilt_for_others():
    with pytest.raises(ValueError, match="read-only"):
        epoch_permutation(0, 0, 3)[0] = 1
    batch_indices(0, 0, 3, 3)[0] = 5
    assert sorted(batch_indices(0, 0, 3, 3)) == [0, 1, 2]


def test_all_orders_are_about_as_frequent():
    # 6 orders of 3 records in 3000 epochs: 500 each, with a standard deviation of sqrt(500 * 5/6) = 20.
    orders = [tuple(batch_indices(3, epoch, 3, 3)) for epoch in range(3000)]
    counts = [orders.count(order) for order in {*orders}]
    assert len(counts) == 6
    assert all(abs(count - 500) < 100 for count in counts)


@pytest.mark.parametrize(("step", "size", "count"), [(-1, 2, 3), (0, 0, 3), (0, 2, 0)])
def test_no_batch_from_nothing(step, size, count):
    with pytest.raises(ValueError, match="no batch"):
        batch_indices(0, step, size, count)
