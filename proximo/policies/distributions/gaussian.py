"""Normal distributions over real actions, by where their standard deviation comes from."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import diagonal_gaussian_kl
from proximo.policies.distributions.distribution import no_masks

LOG_TWO_PI = 1.8378770664093453
LOG_STD_BOUNDS = (-10.0, 4.0)  # one huge optimiser step must not make exp(log std) zero or infinite
VARIANCE_FLOOR = 1e-6  # where all features are 0


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

    masked = no_masks


class ExploringGaussian(eqx.Module):
    """Normal components whose noise is a function of the state (gSDE, Raffin 2021, eq. 6 and 7).

        action = mean + sum_f (noise_fa sigma_fa features_f),   variance_a = sum_f (sigma_fa features_f)^2

    As long as the noise is held, equal states get equal actions, so what is explored is smooth.

    mean    [..., A]
    scaled  [..., F, A], sigma times features
    action  float32 [..., A]
    noise   [..., F, A], standard normal
    """

    mean: Array
    scaled: Array

    @property
    def log_std(self) -> Array:
        return 0.5 * jnp.log(jnp.sum(self.scaled**2, axis=-2) + VARIANCE_FLOOR)

    @property
    def marginal(self) -> DiagonalGaussian:
        """What one action is drawn from, over all noise."""
        return DiagonalGaussian(self.mean, self.log_std)

    def sample(self, noise: Array) -> Array:
        return self.mean + jnp.sum(self.scaled * noise, axis=-2)

    def mode(self) -> Array:
        return self.mean

    def log_prob(self, action: Array) -> Array:
        return self.marginal.log_prob(action)

    def entropy(self) -> Array:
        return self.marginal.entropy()

    def kl(self, other: "ExploringGaussian") -> Array:
        """KL(self || other) of single actions, exact, [...]."""
        return self.marginal.kl(other.marginal)

    masked = no_masks


class GaussianHead(eqx.Module):
    """Turns a network's output, the mean, into a `DiagonalGaussian`.

    `log_std` [A] is a parameter that does not depend on the state (Schulman 2017, section 6.1).
    """

    log_std: Array

    @property
    def inputs(self) -> int:
        return self.log_std.shape[0]

    def __call__(
        self, outputs: Float[Array, "... A"], features: Float[Array, "... F"] | None = None
    ) -> DiagonalGaussian:
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

    def __call__(
        self, outputs: Float[Array, "... A"], features: Float[Array, "... F"] | None = None
    ) -> DiagonalGaussian:
        return DiagonalGaussian(outputs, jax.lax.stop_gradient(self.log_std))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, self.inputs))

    def annealed(self, remaining: float | Array) -> "ScheduledGaussianHead":
        """With the value for a share `remaining`, 1 to 0, of the training that is left; or for several."""
        value = self.last + (self.first - self.last) * jnp.asarray(remaining, self.log_std.dtype)
        log_std = jnp.broadcast_to(value[..., None], self.log_std.shape)
        return eqx.tree_at(lambda head: head.log_std, self, log_std)


class StateDependentGaussianHead(eqx.Module):
    """Turns 2A outputs of a network, means and log standard deviations, into a `DiagonalGaussian`.

    The log standard deviation of a state is `initial` plus what the network says.
    """

    size: int = eqx.field(static=True)
    initial: float = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return 2 * self.size

    def __call__(
        self, outputs: Float[Array, "... 2*A"], features: Float[Array, "... F"] | None = None
    ) -> DiagonalGaussian:
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return DiagonalGaussian(mean, jnp.clip(self.initial + log_std, *LOG_STD_BOUNDS))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, self.size))


class ExploringGaussianHead(eqx.Module):
    """Turns a network's output, the mean, and its features into an `ExploringGaussian`.

    `log_std` [F, A] is a parameter. As in Raffin 2021 no gradient goes through the features: what a state
    means is learned by the mean, not by the noise.

    interval  steps for which noise is held
    """

    log_std: Array
    interval: int = eqx.field(static=True)

    @property
    def inputs(self) -> int:
        return self.log_std.shape[1]

    def __call__(
        self, outputs: Float[Array, "... A"], features: Float[Array, "... F"] | None = None
    ) -> ExploringGaussian:
        if features is None:
            raise TypeError("state-dependent exploration needs the features that the last layer reads")
        std = jnp.exp(jnp.clip(self.log_std, *LOG_STD_BOUNDS))
        return ExploringGaussian(outputs, jax.lax.stop_gradient(features)[..., None] * std)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        if not shape:
            return jax.random.normal(key, self.log_std.shape)
        drawn = -(-shape[0] // self.interval)
        noise = jax.random.normal(key, (drawn, *shape[1:], *self.log_std.shape))
        return jnp.repeat(noise, self.interval, axis=0)[: shape[0]]
