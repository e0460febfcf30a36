"""A step of TRPO on a policy of two numbers: the exact KL, its ellipse, both gradients, the line search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import (
    LineSearch,
    Unclipped,
    fisher_product,
    line_search,
    masked_mean,
    natural_gradient,
    whiten,
)
from proximo.experiments.figures.rounded import rounded
from proximo.policies import DiagonalGaussian

DELTAS = (0.001, 0.003, 0.01, 0.03, 0.08, 0.15, 0.3)  # nats
SAMPLES = 64
SHRINK = 0.8  # of the line search, each time it refuses
ANGLES = 73
MEANS, LOG_STDS = jnp.linspace(-0.3, 0.45, 31), jnp.linspace(-0.65, 0.65, 31)


@dataclass(frozen=True)
class Step:
    """A policy of two parameters, mean and log standard deviation, and how it is moved.

    evaluate  parameters [2] -> (surrogate, KL)
    product   v -> F v
    plain     the gradient, as long as `natural` in the quadratic approximation of the KL
    natural   the natural gradient's step
    found     where the line search ended
    """

    old: Array
    evaluate: Callable[[Any], tuple[Any, Any]]
    product: Callable[[Any], Any]
    plain: Array
    natural: Array
    found: LineSearch


def gaussian(parameters: Float[Array, "2"]) -> DiagonalGaussian:
    """The policy that a mean and a log standard deviation describe."""
    return DiagonalGaussian(parameters[:1], parameters[1:])


def step(max_kl: Any) -> Step:
    """One step of TRPO on a Gaussian that is paid for actions near 0.5.

    max_kl  the largest KL(old || new) of the step, in nats
    """
    old = jnp.array([0.0, jnp.log(0.25)])
    noise = jax.scipy.stats.norm.ppf((jnp.arange(SAMPLES) + 0.5) / SAMPLES)[:, None]
    action = gaussian(old).sample(noise)
    mask = jnp.ones(SAMPLES)
    advantage = whiten(-jnp.square(action[:, 0] - 0.5), mask)

    def surrogate(parameters: Any) -> Any:
        log_ratio = gaussian(parameters).log_prob(action) - gaussian(old).log_prob(action)
        return masked_mean(Unclipped()(log_ratio, advantage), mask)

    def kl(parameters: Any) -> Any:
        return gaussian(old).kl(gaussian(parameters))

    product = fisher_product(kl, old, damping=0.0)
    gradient = jax.grad(surrogate)(old)
    natural = natural_gradient(gradient, product, max_kl, iterations=2)
    plain = gradient * jnp.sqrt(2.0 * max_kl / (gradient @ product(gradient)))

    def evaluate(parameters: Any) -> tuple[Any, Any]:
        return surrogate(parameters), kl(parameters)

    return Step(old, evaluate, product, plain, natural, line_search(evaluate, old, natural, max_kl))


def edge(found: Step, max_kl: Any) -> tuple[Float[Array, "angles 2"], Float[Array, "angles 2"]]:
    """Where the exact KL, and its quadratic approximation, reach the limit, in every direction."""
    angles = jnp.linspace(0.0, 2.0 * jnp.pi, ANGLES)
    directions = jnp.stack([jnp.cos(angles) * 0.25, jnp.sin(angles)], axis=-1)
    quadratic = jax.vmap(lambda v: jnp.sqrt(2.0 * max_kl / (v @ found.product(v))))(directions)

    def exact(v: Float[Array, "2"]) -> Any:
        def halved(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            low, high = ends
            middle = 0.5 * (low + high)
            beyond = found.evaluate(found.old + middle * v)[1] > max_kl
            return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

        return jax.lax.fori_loop(0, 40, halved, (jnp.zeros(()), jnp.full((), 8.0)))[0]

    radius = jax.vmap(exact)(directions)
    return found.old + radius[:, None] * directions, found.old + quadratic[:, None] * directions


@jax.jit
def row(max_kl: Any) -> dict[str, Any]:
    """A step with this limit: its places, the edges of its region, surrogate and KL where it ends."""
    found = step(max_kl)
    exact, quadratic = edge(found, max_kl)
    places = {
        "plain": found.old + found.plain,
        "natural": found.old + found.natural,
        "accepted": found.found.parameters,
    }
    heights = {name: found.evaluate(place) for name, place in places.items()}
    return {
        "max_kl": max_kl,
        "exact": exact,
        "quadratic": quadratic,
        "backtracks": found.found.backtracks,
        **places,
        "surrogate": {name: gain for name, (gain, _) in heights.items()},
        "kl": {name: kl for name, (_, kl) in heights.items()},
    }


def trust_region() -> dict[str, Any]:
    """The numbers of the figure."""
    rows = [jax.tree.map(rounded, row(jnp.asarray(max_kl))) for max_kl in DELTAS]
    first = step(DELTAS[0])
    log_stds = LOG_STDS + first.old[1]
    grid = jnp.stack(jnp.meshgrid(MEANS, log_stds[::-1]), axis=-1).reshape(-1, 2)
    surrogate, _ = jax.jit(jax.vmap(first.evaluate))(grid)
    return {
        "old": rounded(first.old),
        "shrink": SHRINK,
        "steps": rows,
        "mean": rounded(MEANS),
        "log_std": rounded(log_stds),
        "surrogate": rounded(surrogate),
    }
