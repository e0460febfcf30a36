"""From a rollout to what the loss sees: rows of single steps or of sequences, in shuffled minibatches."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Batch(NamedTuple):
    """What one minibatch step needs of every transition, [T, N, ...]; a `Cut` makes minibatches of it.

    distribution, value  what the policy and the critic said before the update
    target               what the critic should have said
    mask                 1 for a transition that counts
    weight               its share of the minibatch's mean (`loss.prepared`); None where there is no minibatch
    """

    obs: Array
    action: Array
    log_prob: Float[Array, "..."]
    distribution: Any
    value: Float[Array, "..."]
    advantage: Float[Array, "..."]
    target: Float[Array, "..."]
    mask: Float[Array, "..."]
    weight: Float[Array, "..."] | None = None


LARGEST_PACKED = 2**14


def permutation(key: Array, size: int) -> Int[Array, " size"]:
    """The numbers 0 to size-1 in random order.

    Small batches sort ONE array: a number's random bits, with the number itself in the lowest bits.
    That is eight times as fast on a CPU as sorting numbers by random keys, which was a sixth of the
    update. Two numbers that draw the same bits stay in order: of 2048 numbers one pair, on average.
    """
    if size > LARGEST_PACKED:
        return jax.random.permutation(key, size)
    low = jnp.uint32((1 << (size - 1).bit_length()) - 1)
    packed = (jax.random.bits(key, (size,)) & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(packed) & low).astype(jnp.int32)


@dataclass(frozen=True)
class Steps:
    """Minibatches of single transitions, which a policy without memory learns from."""

    minibatch_size: int

    def rows(self, batch: Any) -> Any:
        """[T, N, ...] -> [T*N, ...] for every part: what an order counts."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def order(self, key: Array, samples: int) -> Int[Array, "minibatches M"]:
        """Rows of each minibatch of one epoch: every sample once, in random order."""
        return permutation(key, samples).reshape(-1, self.minibatch_size)

    def as_seen(self, rows: Any) -> Any:
        """Rows as the policy takes them: [M, ...]."""
        return rows


@dataclass(frozen=True)
class Sequences:
    """Minibatches of stretches of `length` steps, whose order within is kept: what a memory learns from.

    A minibatch has as many samples as with `Steps`, in fewer rows. `length` divides the horizon and
    `minibatch_size`.
    """

    minibatch_size: int
    length: int

    def rows(self, batch: Any) -> Any:
        """[T, N, ...] -> [T/length * N, length, ...] for every part: what an order counts."""

        def cut(x: Array) -> Array:
            stretches = x.reshape(-1, self.length, *x.shape[1:])
            return jnp.swapaxes(stretches, 1, 2).reshape(-1, self.length, *x.shape[2:])

        return jax.tree.map(cut, batch)

    def order(self, key: Array, samples: int) -> Int[Array, "minibatches rows"]:
        """Rows of each minibatch of one epoch: every stretch once, in random order."""
        return permutation(key, samples // self.length).reshape(-1, self.minibatch_size // self.length)

    def as_seen(self, rows: Any) -> Any:
        """Rows as the policy takes them, time first: [length, rows, ...]."""
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows)


Cut = Steps | Sequences


def take(rows: Any, index: Int[Array, " M"]) -> Any:
    """The rows at `index` of a tree of arrays."""
    return jax.tree.map(lambda x: x[index], rows)
