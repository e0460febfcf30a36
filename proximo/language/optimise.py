"""From gradients to weights: Adam with decoupled weight decay, schedules, and gradients summed over parts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from proximo.core import Scalar
from proximo.core.arrays import global_norm
from proximo.errors import UserError
from proximo.language.sharding import data_parallel

HEAD = "score"  # the field of a critic and of a reward model that gives one number
CPU_TOKENS = 1024  # that go through a model at once: what is kept of so many for the gradient fits the caches


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How weights follow gradients."""

    learning_rate: float = 1e-5
    """Adam's step size, at its highest."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls to 0 over the run."""
    warmup: float = 0.0
    """Share of the run over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Share of a matrix that a step of size 1 takes away (AdamW); biases and norms have none."""
    adam_beta1: float = 0.9
    """How much of Adam's mean of gradients is kept at a step."""
    adam_beta2: float = 0.999
    """How much of Adam's mean of squared gradients is kept at a step."""
    adam_epsilon: float = 1e-5
    """Added to the root of the mean square, before that is corrected for bias. 1e-5 is PPO's (Ziegler et al.
    2019); labels are learned from with 1e-8, as everywhere."""
    max_grad_norm: float = 1.0
    """The gradient's global norm is held below this."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What forward and backward passes compute in; weights and moments stay float32."""
    gradient_checkpointing: bool = False
    """Keep only the layers' inputs and compute the rest again: less memory, a third more work."""

    def checked(self) -> "Optimisation":
        """Itself; raises UserError for numbers that cannot be."""
        for name, low, high in (
            ("learning_rate", 0.0, 10.0),
            ("warmup", 0.0, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("adam_beta1", 0.0, 0.999999),  # 1 would divide by the correction for bias, which is then 0
            ("adam_beta2", 0.0, 0.999999),
            ("adam_epsilon", 1e-12, 1.0),  # 0 would be 0 / 0 for the embeddings of tokens not yet seen
            ("max_grad_norm", 1e-12, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}: it must lie between {low:g} and {high:g}")
        return self


def learning_rate_at(options: Optimisation, done: Scalar) -> Float[Array, ""]:
    """The learning rate after a share `done`, 0 to 1, of the run.

    constant  1
    linear    1 - done
    cosine    (1 + cos(pi done)) / 2

    times the warm-up's share, and the highest rate. With a warm-up, `done` counts from its end.
    """
    rising = jnp.minimum(done / options.warmup, 1.0) if options.warmup > 0 else 1.0
    past = jnp.clip((done - options.warmup) / max(1.0 - options.warmup, 1e-9), 0.0, 1.0)
    falling = {
        "constant": jnp.ones_like(past),
        "linear": 1.0 - past,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * past)),
    }[options.schedule]
    return options.learning_rate * rising * falling


rate_at = jax.jit(learning_rate_at, static_argnums=0)
"""`learning_rate_at` in one call, outside of a compiled one."""


def adam(options: Optimisation) -> optax.GradientTransformation:
    """Adam's direction; the norm is clipped before it and the step size applied after it, in `descended`.

        sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon)

    As at the end of section 2 of Kingma and Ba 2015, and in the code of Ziegler et al. 2019 (TensorFlow's):
    epsilon is compared with the root of v before v is corrected for bias. PyTorch and Optax add it to the
    corrected root. That is the same later on, but the first steps of small gradients are up to
    1 / sqrt(1 - beta2) = 32 times as large: about six times where policies of language models begin (Huang
    et al. 2024, "The N implementation details of RLHF with PPO").
    """
    decay1, decay2 = options.adam_beta1, options.adam_beta2

    def direction(gradients: Any, state: Any, weights: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: decay1 * m + (1.0 - decay1) * g, state.mu, gradients)
        square = jax.tree.map(lambda v, g: decay2 * v + (1.0 - decay2) * jnp.square(g), state.nu, gradients)
        corrected = jnp.sqrt(1.0 - decay2**count) / (1.0 - decay1**count)
        step = jax.tree.map(lambda m, v: corrected * m / (jnp.sqrt(v) + options.adam_epsilon), mean, square)
        return step, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam(decay1, decay2).init, direction)


def descended(
    weights: Any, moments: Any, gradients: Any, rate: Scalar, options: Optimisation
) -> tuple[Any, Any, Float[Array, ""]]:
    """One step down: the weights and Adam's moments after it, and the gradient's norm before it was clipped.

    A gradient that is not finite changes nothing; its norm tells.
    """
    norm = global_norm(gradients)
    factor = jnp.minimum(1.0, options.max_grad_norm / jnp.maximum(norm, 1e-12))
    changes, after = adam(options).update(jax.tree.map(lambda g: g * factor, gradients), moments)

    def step(weight: Array, change: Array) -> Array:
        if options.weight_decay and weight.ndim >= 2:
            change = change + options.weight_decay * weight
        return weight - rate * change

    sound = jnp.isfinite(norm)
    moved = (jax.tree.map(step, weights, changes), after)
    weights, moments = jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, (weights, moments))
    return weights, moments, norm


def in_precision(tree: Any, options: Optimisation) -> Any:
    """The weights as the passes compute with them; the gradient comes back in float32.

    Heads for one number (`HEAD`) stay float32: they cost nothing, and their digits count.
    """
    if options.precision == "float32":
        return tree

    def cast(path: Any, x: Any) -> Any:
        head = any(getattr(key, "name", None) == HEAD for key in path)
        return x if head or not eqx.is_inexact_array(x) else x.astype(jnp.bfloat16)

    return jax.tree_util.tree_map_with_path(cast, tree)


Gradient = Callable[[Any, Any], tuple[Any, dict[str, Array]]]
"""(weights, part) -> the gradient of a part's share of the loss, and its share of each metric."""


def summed_gradients(gradient: Gradient, weights: Any, parts: Any) -> tuple[Any, dict[str, Array]]:
    """Gradients and metrics of a loss that is a sum over parts of a batch.

    gradient  of a part's share; shares add up, since they are divided by counts of the whole batch
    parts     a tree of arrays whose first axis is the part's number; one at a time is in memory

    A mean of the parts' means would weigh a token by the length of its neighbours.
    """
    one = jax.tree.leaves(parts)[0].shape[0] == 1
    if one:
        return gradient(weights, jax.tree.map(lambda x: x[0], parts))

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(weights, part)), None

    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(gradient, weights, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total: tuple[Any, dict[str, Array]] = jax.lax.scan(add, zeros, parts)[0]
    return total


def in_parts(batch: Any, rows: int) -> Any:
    """A batch [B, ...] as [B / rows, rows, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), batch)


def rows_of_part(rows: int, width: int, tokens: int | None) -> int:
    """How many rows of a batch go through the model at once: they divide it.

    rows    of the batch
    width   tokens in each
    tokens  most at once, if a single row fits. Unless said that is all of them, but on a single CPU about
            CPU_TOKENS
    """
    divisors = [part for part in range(1, rows + 1) if rows % part == 0]
    if tokens is not None:
        return max(part for part in divisors if part == 1 or part * width <= tokens)
    if jax.default_backend() != "cpu" or data_parallel() > 1:
        return rows
    return min(divisors, key=lambda part: abs(math.log(part * width / CPU_TOKENS)))
