"""From experience to what the loss sees: rows of single steps or of sequences, in shuffled minibatches."""

from dataclasses import dataclass
from math import gcd
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import permutation
from proximo.core.types import Experience
from proximo.policies import Output, Policy


class Batch(NamedTuple):
    """What one minibatch step needs of every transition, [T, N, ...]; a `Cut` makes minibatches of it.

    start                whether memory is forgotten before the observation; None without memory
    carry                memory before each stretch, [T/length, N, ...]; () without memory
    log_prob             of the action under the policy that chose it
    distribution, value  what the policy and the critic said before the update; value is [..., R]
    advantage            of the actor's objective
    target               what the critic should have said, [..., R]
    mask                 1 for a transition that counts
    weight               its share of the minibatch's mean (`prepare_minibatch`); None where there is none
    """

    obs: Any
    start: Bool[Array, "..."] | None
    carry: Any
    action: Any
    log_prob: Float[Array, "..."]
    distribution: Any
    value: Float[Array, "... R"]
    advantage: Float[Array, "..."]
    target: Float[Array, "... R"]
    mask: Float[Array, "..."]
    weight: Float[Array, "..."] | None = None

    def read_by(self, policy: Policy) -> Output:
        """What a policy computes of a whole batch, [T, N, ...], in one pass."""
        return policy(self.obs, self.start, jax.tree.map(lambda x: x[0], self.carry))[0]


@dataclass(frozen=True)
class Steps:
    """Minibatches of single transitions, which a policy without memory learns from."""

    minibatch_size: int
    length: ClassVar[int] = 1

    def rows(self, batch: Batch) -> Batch:
        """[T, N, ...] -> [T*N, ...] for every part: what an order counts."""
        return merged(batch)

    def order(self, key: Array, samples: int) -> Int[Array, "minibatches M"]:
        """Rows of each minibatch of one epoch: every sample once, in random order."""
        return permutation(key, samples).reshape(-1, self.minibatch_size)

    def as_seen(self, rows: Batch) -> Batch:
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

    def rows(self, batch: Batch) -> Batch:
        """[T, N, ...] -> [T/length * N, length, ...] for every part: what an order counts.

        Of a carry, which has no axis of time within a stretch, [T/length * N, ...].
        """

        def cut(x: Array) -> Array:
            count, envs = x.shape[0] // self.length, x.shape[1]
            stretches = x.reshape(count, self.length, *x.shape[1:])
            return jnp.swapaxes(stretches, 1, 2).reshape(count * envs, self.length, *x.shape[2:])

        return jax.tree.map(cut, batch._replace(carry=()))._replace(carry=merged(batch.carry))

    def order(self, key: Array, samples: int) -> Int[Array, "minibatches rows"]:
        """Rows of each minibatch of one epoch: every stretch once, in random order."""
        return permutation(key, samples // self.length).reshape(-1, self.minibatch_size // self.length)

    def as_seen(self, rows: Batch) -> Batch:
        """Rows as the policy takes them, time first: [length, rows, ...]."""
        time_first = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows._replace(carry=()))
        return time_first._replace(carry=rows.carry)


Cut = Steps | Sequences
STRETCH = 16  # steps; on a CPU longer ones cost more, shorter ones forget how memory came to be
LONGEST_STRETCH = 32  # where a minibatch has at least ROWS of them
ROWS = 8


def has_memory(experience: Experience) -> bool:
    """Whether the policy that the experience is of remembers anything."""
    return bool(jax.tree.leaves(experience.carry))


def cut_of(experience: Experience, minibatch_size: int) -> Cut:
    """How experience is cut into minibatches: into stretches where the policy has a memory."""
    if not has_memory(experience):
        return Steps(minibatch_size)
    return Sequences(minibatch_size, stretch_of(len(experience.mask), minibatch_size))


def stretch_of(horizon: int, minibatch_size: int) -> int:
    """Steps of the sequences that a memory learns from: the longest that divides both."""
    most = min(LONGEST_STRETCH, max(STRETCH, minibatch_size // ROWS))
    common = gcd(horizon, minibatch_size)
    return max(length for length in range(1, most + 1) if common % length == 0)


SHORT = 8  # steps; what is learned from shorter sequences is hardly memory


def memory_advice(num_envs: int, horizon: int, minibatch_size: int) -> list[str]:
    """What keeps a memory from being learned, one line per finding, with the nearest sizes that do not."""
    length = stretch_of(horizon, minibatch_size)
    if length >= SHORT:
        return []
    near = max(STRETCH, round(horizon / STRETCH) * STRETCH)
    sizes = [size for size in range(STRETCH, near * num_envs + 1, STRETCH) if near * num_envs % size == 0]
    size = min(sizes, key=lambda size: abs(size - minibatch_size))
    return [
        f"the policy's memory learns from sequences of {length} steps, the longest that divides horizon "
        f"({horizon}) and minibatch_size ({minibatch_size}): the nearest with sequences of {STRETCH} are "
        f"horizon {near} and minibatch_size {size}"
    ]


def merged(tree: Any) -> Any:
    """[A, B, ...] -> [A * B, ...] for every array of a tree."""
    # Without -1: the vector of an observation that is all parts has no entries.
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def take(rows: Any, index: Int[Array, " M"]) -> Any:
    """The rows at `index` of a tree of arrays."""
    return jax.tree.map(lambda x: x[index], rows)
