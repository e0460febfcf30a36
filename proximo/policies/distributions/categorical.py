"""Choices among categories: independent ones, dependent ones, and their masks."""

from math import prod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.core import categorical_kl
from proximo.policies.distributions.distribution import IMPOSSIBLE


class Categorical(eqx.Module):
    """Independent choices: component k takes one of the categories with finite logits.

    logits  [..., K, M], unnormalised; categories that do not exist carry `IMPOSSIBLE`
    sizes   of the K components, each at most M
    action  int32 [..., K], or [...] when `scalar` (then K = 1)
    noise   [..., K, M], standard Gumbel (the largest of logit + Gumbel noise is an exact sample)
    """

    logits: Array
    sizes: tuple[int, ...] = eqx.field(static=True)
    scalar: bool = eqx.field(static=True, default=False)

    def _pack(self, action: Array) -> Array:
        return action[..., 0] if self.scalar else action

    def sample(self, noise: Array) -> Array:
        return self._pack(jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32))

    def mode(self) -> Array:
        return self._pack(jnp.argmax(self.logits, axis=-1).astype(jnp.int32))

    def log_prob(self, action: Array) -> Array:
        index = action[..., None] if self.scalar else action
        chosen = jnp.take_along_axis(jax.nn.log_softmax(self.logits), index[..., None], axis=-1)
        return jnp.sum(chosen[..., 0], axis=-1)

    def entropy(self) -> Array:
        log_probabilities = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=(-2, -1))

    def kl(self, other: "Categorical") -> Array:
        """KL(self || other), exact, [...]."""
        return jnp.sum(categorical_kl(self.logits, other.logits), axis=-1)

    def masked(self, legal: Bool[Array, "... M"]) -> "Categorical":
        """Legal categories alone; M counts the categories of all components, one after another."""
        return Categorical(
            jnp.where(by_component(legal, self.sizes), self.logits, IMPOSSIBLE), self.sizes, self.scalar
        )


class DependentCategorical(eqx.Module):
    """K choices of which each may depend on the others: one choice among all their combinations.

    Its logits are sums of one logit a component, as for independent choices; a mask of combinations, legal
    or not, is what makes them dependent. Probabilities, entropy and KL are exact.

    logits  [..., C], of the C = prod(sizes) combinations, the last component counted first
    action  int32 [..., K]
    noise   [..., C], standard Gumbel
    """

    logits: Array
    sizes: tuple[int, ...] = eqx.field(static=True)

    def _unpack(self, index: Array) -> Array:
        combinations = np.indices(self.sizes, np.int32).reshape(len(self.sizes), -1).T
        return jnp.take(combinations, index, axis=0)

    def sample(self, noise: Array) -> Array:
        return self._unpack(jnp.argmax(self.logits + noise, axis=-1))

    def mode(self) -> Array:
        return self._unpack(jnp.argmax(self.logits, axis=-1))

    def log_prob(self, action: Int[Array, "... K"]) -> Array:
        index = jnp.ravel_multi_index(tuple(jnp.moveaxis(action, -1, 0)), self.sizes, mode="clip")
        return jnp.take_along_axis(jax.nn.log_softmax(self.logits), index[..., None], axis=-1)[..., 0]

    def entropy(self) -> Array:
        log_probabilities = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)

    def kl(self, other: "DependentCategorical") -> Array:
        """KL(self || other), exact, [...]."""
        return categorical_kl(self.logits, other.logits)

    def masked(self, legal: Bool[Array, "... C"]) -> "DependentCategorical":
        """Legal combinations alone, [..., C]."""
        return DependentCategorical(jnp.where(legal, self.logits, IMPOSSIBLE), self.sizes)


def by_component(flags: Bool[Array, "... sum"], sizes: tuple[int, ...]) -> Bool[Array, "... K M"]:
    """Flags of all categories, one component after another, as [..., K, M]; False where there is none."""
    exists, index = places(sizes)
    return jnp.take(flags, index, axis=-1) & exists


def places(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """[K, M]: whether component k has a category m, and its place among all of them."""
    exists = np.arange(max(sizes)) < np.asarray(sizes)[:, None]
    return exists, np.where(exists, np.cumsum([0, *sizes[:-1]])[:, None] + np.arange(max(sizes)), 0)


class CategoricalHead(eqx.Module):
    """Turns `inputs` numbers into a `Categorical`; pads components of unequal size with `IMPOSSIBLE`."""

    sizes: tuple[int, ...] = eqx.field(static=True)
    scalar: bool = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return len(self.sizes) * max(self.sizes)

    def __call__(
        self, outputs: Float[Array, "... inputs"], features: Float[Array, "... F"] | None = None
    ) -> Categorical:
        logits = outputs.reshape(*outputs.shape[:-1], len(self.sizes), max(self.sizes))
        exists, _ = places(self.sizes)
        return Categorical(jnp.where(exists, logits, IMPOSSIBLE), self.sizes, self.scalar)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.gumbel(key, (*shape, len(self.sizes), max(self.sizes)))


class DependentCategoricalHead(eqx.Module):
    """Turns sum(sizes) numbers, a logit for each category, into a `DependentCategorical`."""

    sizes: tuple[int, ...] = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return sum(self.sizes)

    def __call__(
        self, outputs: Float[Array, "... inputs"], features: Float[Array, "... F"] | None = None
    ) -> DependentCategorical:
        first, *others = jnp.split(outputs, np.cumsum(self.sizes)[:-1], axis=-1)
        for logits in others:  # [..., C so far] and [..., M] -> [..., C so far * M]
            first = (first[..., :, None] + logits[..., None, :]).reshape(*outputs.shape[:-1], -1)
        return DependentCategorical(first, self.sizes)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.gumbel(key, (*shape, prod(self.sizes)))
