"""Independent switches."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core import bernoulli_kl
from proximo.policies.distributions.distribution import IMPOSSIBLE


class Bernoulli(eqx.Module):
    """Independent switches.

    logits  [..., B], log-odds of a one
    action  int32 [..., B]
    noise   [..., B], standard logistic
    """

    logits: Array

    def sample(self, noise: Array) -> Array:
        return (self.logits + noise > 0).astype(jnp.int32)

    def mode(self) -> Array:
        return (self.logits > 0).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        return jnp.sum(jax.nn.log_sigmoid(jnp.where(action == 1, self.logits, -self.logits)), axis=-1)

    def entropy(self) -> Array:
        probability = jax.nn.sigmoid(self.logits)
        return jnp.sum(jax.nn.softplus(self.logits) - probability * self.logits, axis=-1)

    def kl(self, other: "Bernoulli") -> Array:
        """KL(self || other), exact, [...]."""
        return bernoulli_kl(self.logits, other.logits)

    def masked(self, legal: Bool[Array, "... 2*B"]) -> "Bernoulli":
        """Switches that may be off and on, off alone, or on alone: two flags (off, on) for each."""
        off, on = legal[..., 0::2], legal[..., 1::2]
        return Bernoulli(jnp.where(on, jnp.where(off, self.logits, -IMPOSSIBLE), IMPOSSIBLE))


class BernoulliHead(eqx.Module):
    """Turns `inputs` numbers into a `Bernoulli`."""

    inputs: int = eqx.field(static=True)

    def __call__(
        self, outputs: Float[Array, "... B"], features: Float[Array, "... F"] | None = None
    ) -> Bernoulli:
        return Bernoulli(outputs)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.logistic(key, (*shape, self.inputs))
