"""From gradients to weights: sums over parts of a minibatch, a bound on their norm, one step of Adam."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import Scalar
from proximo.core.arrays import global_norm

Gradient = Callable[[Any, Any], tuple[Any, dict[str, Array]]]
"""(weights, part) -> the gradient of a part's share of the loss, and its share of each metric."""


class Adam(NamedTuple):
    """What Adam remembers of the gradients so far.

    count  steps taken
    mu     running mean of the gradients, a tree as the weights
    nu     running mean of their squares
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # Optax's name too, and a tuple's method
    mu: Any
    nu: Any


def adam(weights: Any) -> Adam:
    """Before the first step."""
    return Adam(jnp.zeros((), jnp.int32), *(jax.tree.map(jnp.zeros_like, weights) for _ in range(2)))


def descend(
    weights: Any,
    memory: Adam,
    gradients: Any,
    learning_rate: Scalar,
    moving: bool | Bool[Array, ""] = True,
    *,
    max_grad_norm: Scalar,
    epsilon: Scalar,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    weight_decay: Scalar | None = None,
) -> tuple[Any, Adam, Float[Array, ""]]:
    """One step of Adam down a gradient whose global norm is bounded first.

        w - rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon)

    As at the end of section 2 of Kingma and Ba 2015, in OpenAI's baselines and in the code of Ziegler et al.
    2019 (both TensorFlow's): epsilon is compared with the root of v before v is corrected for bias. PyTorch
    and Optax add it to the corrected root. That is the same later on, but there the first steps of small
    gradients are up to 1 / sqrt(1 - beta2) = 32 times as large: about six times where policies of language
    models begin (Huang et al. 2024, "The N implementation details of RLHF with PPO").

    moving         whether to take it; a gradient that is not finite moves nothing either, and its norm tells
    max_grad_norm  the gradients are scaled down to this global norm
    epsilon        in units of the gradient
    weight_decay   share of a matrix that a step of size 1 takes away beside it (AdamW); biases have none

    Returns weights and memory after it, and the norm that the gradients had. Raises nothing.
    """
    norm = global_norm(gradients)
    factor = jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    sound = jnp.isfinite(norm)
    gradients = jax.tree.map(lambda g: jnp.where(sound, g * factor, 0.0), gradients)
    # A step that is not taken is one of size 0: to choose between trees would be to write all arrays again.
    taken = (sound & moving).astype(norm.dtype)
    count = memory.count + taken.astype(memory.count.dtype)
    mu = jax.tree.map(lambda m, g: m + taken * (1.0 - beta1) * (g - m), memory.mu, gradients)
    nu = jax.tree.map(lambda v, g: v + taken * (1.0 - beta2) * (jnp.square(g) - v), memory.nu, gradients)
    steps = jnp.maximum(count, 1)
    correction = taken * learning_rate * jnp.sqrt(1.0 - beta2**steps) / (1.0 - beta1**steps)

    def moved(weight: Array, m: Array, v: Array) -> Array:
        step = correction * m / (jnp.sqrt(v) + epsilon)
        if weight_decay is not None and weight.ndim >= 2:
            step = step + taken * learning_rate * weight_decay * weight
        return weight - step

    return jax.tree.map(moved, weights, mu, nu), Adam(count, mu, nu), norm


def summed_gradients(gradient: Gradient, weights: Any, parts: Any) -> tuple[Any, dict[str, Array]]:
    """Gradients and metrics of a loss that is a sum over parts of a minibatch.

    gradient  of a part's share; shares add up, since they are divided by counts of the whole minibatch
    parts     a tree of arrays whose first axis is the part's number; one at a time is in memory

    A mean of the parts' means would weigh a sample by the number of its neighbours that count.
    """
    first = jax.tree.map(lambda x: x[0], parts)
    if jax.tree.leaves(parts)[0].shape[0] == 1:
        return gradient(weights, first)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(weights, part)), None

    shapes = jax.eval_shape(gradient, weights, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total: tuple[Any, dict[str, Array]] = jax.lax.scan(add, zeros, parts)[0]
    return total


def in_parts(batch: Any, rows: int) -> Any:
    """A batch [B, ...] as [B / rows, rows, ...]."""
    return jax.tree.map(lambda x: x.reshape(len(x) // rows, rows, *x.shape[1:]), batch)
