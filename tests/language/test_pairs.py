"""Pairs of answers as rows, and what is said of them in parts."""

import jax.numpy as jnp
import numpy as np

from proximo.language.text.data import Preference
from proximo.language.text.packing import PairRows
from proximo.language.train.labelled import scatter_rows


def pair(prompt, chosen, rejected, margin=0.0):
    return Preference(*(np.array(ids, np.int32) for ids in (prompt, chosen, rejected)), margin)


ONE, OTHER = pair([5, 6], [7], [8, 9, 9], margin=0.5), pair([4], [3], [2])


def test_a_batch_by_hand():
    """Three rows of two pairs; 32 columns is the least width."""
    rows = PairRows([ONE, OTHER], 64)
    batch = rows.batch(np.array([0, 1, 0]))
    assert batch.ids.shape == (3, 2, 32)
    np.testing.assert_array_equal(batch.ids[0, :, :6], [[5, 6, 7, 0, 0, 0], [5, 6, 8, 9, 9, 0]])
    np.testing.assert_array_equal(batch.segments[0, :, :6], [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(batch.answer[0, :, :6], [[0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(batch.segments.sum(axis=(1, 2)), [3 + 5, 2 + 2, 3 + 5])
    np.testing.assert_array_equal(batch.margin, [0.5, 0.0, 0.5])
    np.testing.assert_array_equal(rows.tokens, [3 + 5, 2 + 2])


def test_a_batch_is_no_wider_than_the_longest_row():
    assert PairRows([ONE], 5).batch(np.array([0])).ids.shape == (1, 2, 5)


def test_parts_add_up_to_the_batch():
    values = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    parts = [scatter_rows({"x": values[i : i + 1]}, jnp.array([i]), 3)["x"] for i in range(3)]
    np.testing.assert_array_equal(sum(parts), values)
