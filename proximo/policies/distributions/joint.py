"""Several distributions side by side, for actions of several parts."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from proximo.policies.distributions.distribution import Distribution, Head


class Joint(eqx.Module):
    """Independent parts: an action is a dict; log-probabilities, entropies and KLs add up.

    parts  distributions
    names  of the parts, the keys of an action
    flags  how many flags of legal values each part has; 0 for real numbers
    """

    parts: tuple[Distribution, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    flags: tuple[int, ...] = eqx.field(static=True)

    def sample(self, noise: dict[str, Any]) -> dict[str, Any]:
        return {name: part.sample(noise[name]) for name, part in self._named()}

    def mode(self) -> dict[str, Any]:
        return {name: part.mode() for name, part in self._named()}

    def log_prob(self, action: dict[str, Any]) -> Array:
        return total(part.log_prob(action[name]) for name, part in self._named())

    def entropy(self) -> Array:
        return total(part.entropy() for part in self.parts)

    def kl(self, other: "Joint") -> Array:
        """KL(self || other), exact, [...]."""
        return total(ours.kl(theirs) for ours, theirs in zip(self.parts, other.parts, strict=True))

    def masked(self, legal: Bool[Array, "... M"]) -> "Joint":
        """Legal values alone: the flags of each part that has any, one part after another."""
        own = jnp.split(legal, np.cumsum(self.flags)[:-1], axis=-1)
        parts = zip(self.parts, own, self.flags, strict=True)
        return Joint(
            tuple(part.masked(mask) if count else part for part, mask, count in parts), self.names, self.flags
        )

    def _named(self) -> list[tuple[str, Distribution]]:
        return list(zip(self.names, self.parts, strict=True))


def total(numbers: Iterable[Array]) -> Array:
    """Their sum, [...]."""
    first, *others = numbers
    for number in others:
        first = first + number
    return first


class JointHead(eqx.Module):
    """Cuts a network's outputs into those of several heads.

    flags  how many flags of legal values each head's distribution has
    """

    heads: tuple[Head, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    flags: tuple[int, ...] = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return sum(head.inputs for head in self.heads)

    def __call__(
        self, outputs: Float[Array, "... inputs"], features: Float[Array, "... F"] | None = None
    ) -> Joint:
        cuts = jnp.split(outputs, np.cumsum([head.inputs for head in self.heads])[:-1], axis=-1)
        parts = tuple(head(cut, features) for head, cut in zip(self.heads, cuts, strict=True))
        return Joint(parts, self.names, self.flags)

    def noise(self, key: Array, shape: tuple[int, ...]) -> dict[str, Any]:
        keys = jax.random.split(key, len(self.heads))
        return {
            name: head.noise(one, shape) for name, head, one in zip(self.names, self.heads, keys, strict=True)
        }
