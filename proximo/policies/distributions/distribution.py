"""What the algorithm asks of a distribution over actions, and of the head that makes one."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

IMPOSSIBLE = -1e9  # a logit no sample reaches; finite, so that 0 * logit is 0 and not NaN


class Distribution(Protocol):
    """A distribution over actions, for each of [...] states.

    A distribution is sampled as `sample(noise)`, a deterministic function of noise drawn beforehand, so a
    whole rollout's noise costs one call. Log-probabilities and entropies are summed over the components of
    an action: they keep the batch shape `[...]`.

    masked  the same distribution with actions outside `legal` [..., M] impossible: one flag for each value
            of each component (`core.types.LEGAL`). What has no masks refuses with TypeError.
    """

    def sample(self, noise: Any) -> Any: ...
    def mode(self) -> Any: ...
    def log_prob(self, action: Any) -> Array: ...
    def entropy(self) -> Array: ...
    def kl(self, other: Any) -> Array: ...
    def masked(self, legal: Bool[Array, "... M"]) -> Any: ...


class Head(Protocol):
    """Turns `inputs` numbers of a network into a distribution.

    features  [..., F] are what the last layer of the network read, for a head whose noise depends on them
    noise     of the actions of `shape` states, time first: an array, or a tree of them
    """

    @property
    def inputs(self) -> int: ...
    def __call__(
        self, outputs: Float[Array, "... inputs"], features: Float[Array, "... F"] | None = None
    ) -> Any: ...
    def noise(self, key: Array, shape: tuple[int, ...]) -> Any: ...


def per_state(distribution: Any, shape: tuple[int, ...]) -> Any:
    """The same distribution with the batch's axes in front of every array, to be cut as the batch is.

    A Gaussian's log standard deviation is one vector for all states.
    """
    lacks = lambda leaf: leaf.ndim <= len(shape)  # noqa: E731
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)) if lacks(leaf) else leaf, distribution
    )


def no_masks(self: Any, legal: Any) -> Any:
    """Of a distribution over real numbers, none of which is illegal by itself."""
    raise TypeError(f"{type(self).__name__} has no masks: only choices and switches can be illegal")
