"""The parts of a minibatch of responses: those of like length go together, cut to what they need."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from proximo.language.train.responses import Batch
from proximo.learn.descend import Gradient


def sort_by_length(
    order: Int[Array, "K minibatches rows"], lengths: Int[Array, "B"]
) -> Int[Array, "K minibatches rows"]:
    """The same minibatches, the rows of each from the shortest response to the longest."""
    return jnp.take_along_axis(order, jnp.argsort(lengths[order], axis=-1), axis=-1)


def cut_to_length(gradient: Gradient) -> Gradient:
    """The same gradient, of a part's columns up to the longest response in it.

    That is, to all columns, to half or to a quarter of them: computations are compiled for a shape each.
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
