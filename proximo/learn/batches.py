"""From a rollout to what the loss sees: one flat batch, cut into shuffled minibatches."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int


class Batch(NamedTuple):
    """What one minibatch step needs of every transition; first as [T, N, ...], then flat [T*N, ...].

    `value` is the critic's before the update; `target` is what it should have been.
    """

    obs: Array
    action: Array
    log_prob: Float[Array, "..."]
    value: Float[Array, "..."]
    advantage: Float[Array, "..."]
    target: Float[Array, "..."]
    mask: Float[Array, "..."]


def flatten_time(batch: Batch) -> Batch:
    """[T, N, ...] -> [T*N, ...] for every part."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def shuffled_minibatches(key: Array, batch_size: int, minibatch_size: int) -> Int[Array, "minibatches M"]:
    """Indices of one epoch: every sample once, in random order, cut into minibatches of equal size."""
    return jax.random.permutation(key, batch_size).reshape(-1, minibatch_size)


def take(batch: Batch, index: Int[Array, " M"]) -> Batch:
    """The samples at `index` of a flat batch."""
    return jax.tree.map(lambda x: x[index], batch)
