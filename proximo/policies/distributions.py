"""Distributions over actions, and the heads that make them from a network's output.

A distribution is sampled as `sample(noise)`, a deterministic function of noise drawn beforehand, so a
whole rollout's noise costs one call. Log-probabilities and entropies are summed over the components of
an action: they keep the batch shape `[...]`.
"""

from functools import singledispatch
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import bernoulli_kl, categorical_kl, diagonal_gaussian_kl
from proximo.core.types import Binary, Categories, Continuous

IMPOSSIBLE = -1e9  # a logit no sample reaches; finite, so that 0 * logit is 0 and not NaN
LOG_TWO_PI = 1.8378770664093453
LOG_STD_BOUNDS = (-10.0, 4.0)  # one huge optimiser step must not make exp(log std) zero or infinite


class Distribution(Protocol):
    """What the algorithm asks of a distribution over actions."""

    def sample(self, noise: Array) -> Array: ...
    def mode(self) -> Array: ...
    def log_prob(self, action: Array) -> Array: ...
    def entropy(self) -> Array: ...
    def kl(self, other: Any) -> Array: ...


def per_state(distribution: Any, shape: tuple[int, ...]) -> Any:
    """The same distribution with the batch's axes in front of every array, to be cut as the batch is.

    A Gaussian's log standard deviation is one vector for all states.
    """
    lacks = lambda leaf: leaf.ndim <= len(shape)  # noqa: E731
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)) if lacks(leaf) else leaf, distribution
    )


class Categorical(eqx.Module):
    """Independent choices: component k takes one of the categories with finite logits.

    logits  [..., K, M], unnormalised; categories that do not exist carry `IMPOSSIBLE`
    action  int32 [..., K], or [...] when `scalar` (then K = 1)
    noise   [..., K, M], standard Gumbel (the largest of logit + Gumbel noise is an exact sample)
    """

    logits: Array
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


class DiagonalGaussian(eqx.Module):
    """Independent normal components.

    mean, log_std  [..., A]
    action         float32 [..., A]
    noise          [..., A], standard normal
    """

    mean: Array
    log_std: Array

    def sample(self, noise: Array) -> Array:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Array:
        return self.mean

    def log_prob(self, action: Array) -> Array:
        standardised = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * (standardised**2 + LOG_TWO_PI) + self.log_std, axis=-1)

    def entropy(self) -> Array:
        per_component = jnp.broadcast_to(self.log_std + 0.5 * (1.0 + LOG_TWO_PI), self.mean.shape)
        return jnp.sum(per_component, axis=-1)

    def kl(self, other: "DiagonalGaussian") -> Array:
        """KL(self || other), exact, [...]."""
        ours, theirs = (jnp.broadcast_to(d.log_std, d.mean.shape) for d in (self, other))
        return diagonal_gaussian_kl(self.mean, ours, other.mean, theirs)


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


class CategoricalHead(eqx.Module):
    """Turns `inputs` numbers into a `Categorical`; pads components of unequal size with `IMPOSSIBLE`."""

    sizes: tuple[int, ...] = eqx.field(static=True)
    scalar: bool = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return len(self.sizes) * max(self.sizes)

    def __call__(self, outputs: Float[Array, "... inputs"]) -> Categorical:
        logits = outputs.reshape(*outputs.shape[:-1], len(self.sizes), max(self.sizes))
        exists = jnp.arange(max(self.sizes)) < jnp.asarray(self.sizes)[:, None]
        return Categorical(jnp.where(exists, logits, IMPOSSIBLE), self.scalar)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.gumbel(key, (*shape, len(self.sizes), max(self.sizes)))


class GaussianHead(eqx.Module):
    """Turns a network's output, the mean, into a `DiagonalGaussian`.

    `log_std` [A] is a parameter that does not depend on the state (Schulman 2017, section 6.1).
    """

    log_std: Array

    @property
    def inputs(self) -> int:
        return self.log_std.shape[0]

    def __call__(self, outputs: Float[Array, "... A"]) -> DiagonalGaussian:
        return DiagonalGaussian(outputs, jnp.clip(self.log_std, *LOG_STD_BOUNDS))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, self.inputs))


class ScheduledGaussianHead(eqx.Module):
    """A `GaussianHead` whose log standard deviation follows a line over the training and is not learned.

    Schulman 2017, table 4 (Roboschool): from -0.7 to -1.6.
    """

    log_std: Array
    first: float = eqx.field(static=True)
    last: float = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return self.log_std.shape[0]

    def __call__(self, outputs: Float[Array, "... A"]) -> DiagonalGaussian:
        return DiagonalGaussian(outputs, jax.lax.stop_gradient(self.log_std))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, self.inputs))

    def annealed(self, remaining: float | Array) -> "ScheduledGaussianHead":
        """With the value for a share `remaining`, 1 to 0, of the training that is left; or for several."""
        value = self.last + (self.first - self.last) * jnp.asarray(remaining, self.log_std.dtype)
        log_std = jnp.broadcast_to(value[..., None], self.log_std.shape)
        return eqx.tree_at(lambda head: head.log_std, self, log_std)


class BernoulliHead(eqx.Module):
    """Turns `inputs` numbers into a `Bernoulli`."""

    inputs: int = eqx.field(static=True)

    def __call__(self, outputs: Float[Array, "... B"]) -> Bernoulli:
        return Bernoulli(outputs)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.logistic(key, (*shape, self.inputs))


Head = CategoricalHead | GaussianHead | ScheduledGaussianHead | BernoulliHead


@singledispatch
def make_head(kind: Any, log_std: float, final_log_std: float | None = None) -> Any:
    """The head for a kind of action.

    log_std        initial log standard deviation of a Gaussian
    final_log_std  its final value on a linear schedule; None lets it be learned

    Later kinds join with `make_head.register`.
    """
    raise TypeError(f"no distribution for actions of kind {type(kind).__name__}")


@make_head.register
def _(kind: Categories, log_std: float, final_log_std: float | None = None) -> CategoricalHead:
    return CategoricalHead(kind.sizes, kind.scalar)


@make_head.register
def _(
    kind: Continuous, log_std: float, final_log_std: float | None = None
) -> GaussianHead | ScheduledGaussianHead:
    start = jnp.full(kind.size, log_std, jnp.result_type(float))  # not weakly typed: one compilation
    return (
        GaussianHead(start) if final_log_std is None else ScheduledGaussianHead(start, log_std, final_log_std)
    )


@make_head.register
def _(kind: Binary, log_std: float, final_log_std: float | None = None) -> BernoulliHead:
    return BernoulliHead(kind.size)
