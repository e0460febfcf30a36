"""The optimiser of language models: options, learning rate schedule, precision, and micro-batch size."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import Scalar
from proximo.core.arrays import traceable
from proximo.core.ranges import at_least, between
from proximo.learn.descend import Adam, descend
from proximo.learn.mesh import data_parallel
from proximo.options import also

HEAD = "score"  # the field of a critic and of a reward model that gives one number
CPU_TOKENS = 1024  # that go through a model at once: what is kept of so many for the gradient fits the caches
BETA = between(0, 0.999999)  # 1 would divide by the correction for bias, which is then 0


@traceable
@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """The optimiser and its learning rate."""

    learning_rate: Annotated[float, between(0, 10), also("--lr")] = 1e-5
    """Peak learning rate of Adam."""
    schedule: Annotated[Literal["constant", "linear", "cosine"], also("--lr-scheduler-type")] = "linear"
    """Learning rate schedule; linear and cosine fall to 0."""
    warmup: Annotated[float, between(0, 1), also("--warmup-ratio")] = 0.0
    """Share of the run during which the learning rate rises from 0."""
    weight_decay: Annotated[float, between(0, 1)] = 0.0
    """Weight decay (AdamW), on all weights but biases and norms."""
    adam_beta1: Annotated[float, BETA] = 0.9
    """Adam's beta 1."""
    adam_beta2: Annotated[float, BETA] = 0.999
    """Adam's beta 2."""
    adam_epsilon: Annotated[float, between(1e-12, 1)] = 1e-5  # 0 would be 0 / 0 for tokens not yet seen
    """Adam's epsilon, added before bias correction. PPO and GRPO use 1e-5 (Ziegler et al. 2019), the others
    1e-8."""
    max_grad_norm: Annotated[float, at_least(1e-12, infinite=True)] = 1.0
    """Maximum global norm of the gradient."""
    precision: Annotated[Literal["float32", "bfloat16"], also("--torch-dtype", "--dtype")] = "float32"
    """Precision of forward and backward passes; weights and optimiser state stay float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory for a third more computation."""


class Learner(NamedTuple):
    """Everything that training changes."""

    weights: Any  # the trained arrays; None where an array is frozen
    moments: Any  # Adam's
    kl: Any = None  # the estimator's state; None if it has none
    scores: Any = None


def learning_rate_at(options: Optimisation, remaining: Scalar) -> Float[Array, ""]:
    """The learning rate when a share `remaining` of the run is left; `done` is 1 - remaining.

    constant  1
    linear    1 - done
    cosine    (1 + cos(pi done)) / 2

    times the warm-up factor and the peak rate. With a warm-up, `done` counts from its end.
    """
    done, warmup = 1.0 - jnp.asarray(remaining, jnp.float32), jnp.asarray(options.warmup, jnp.float32)
    rising = jnp.where(warmup > 0, jnp.minimum(done / jnp.maximum(warmup, 1e-9), 1.0), 1.0)
    past = jnp.clip((done - warmup) / jnp.maximum(1.0 - warmup, 1e-9), 0.0, 1.0)
    falling = {
        "constant": jnp.ones_like(past),
        "linear": 1.0 - past,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * past)),
    }[options.schedule]
    return options.learning_rate * rising * falling


def remaining_at(number: int, total: int) -> float:
    """The share of the run that is left at the middle of iteration `number`, where the schedule is read.

    At its beginning, a warm-up has a rate of 0, so the first step, or the only one, would do nothing.
    """
    return 1.0 - (number + 0.5) / total


def static_options(options: Optimisation) -> Optimisation:
    """The options as a step takes them: a weight decay of 0 becomes None."""
    decay: Any = options.weight_decay or None
    return replace(options, weight_decay=decay)


def step_of_adam(options: Optimisation) -> Callable[..., tuple[Any, Adam, Float[Array, ""]]]:
    """`descend` with these options."""
    return partial(
        descend,
        max_grad_norm=options.max_grad_norm,
        epsilon=options.adam_epsilon,
        beta1=options.adam_beta1,
        beta2=options.adam_beta2,
        weight_decay=options.weight_decay,
    )


def in_precision(tree: Any, options: Optimisation) -> Any:
    """The weights in the precision of forward and backward passes; the gradient comes back in float32.

    Heads with one output (`HEAD`) stay float32: they are cheap, and their precision matters.
    """
    if options.precision == "float32":
        return tree

    def cast(path: Any, x: Any) -> Any:
        head = any(getattr(key, "name", None) == HEAD for key in path)
        return x if head or not eqx.is_inexact_array(x) else x.astype(jnp.bfloat16)

    return jax.tree_util.tree_map_with_path(cast, tree)


def rows_of_part(rows: int, width: int, tokens: int | None) -> int:
    """Rows per forward pass, a divisor of the batch's rows.

    rows    of the batch
    width   tokens in each
    tokens  maximum per pass, but at least one row. By default all; on a single CPU about CPU_TOKENS
    """
    divisors = [part for part in range(1, rows + 1) if rows % part == 0]
    if tokens is not None:
        return max(part for part in divisors if part == 1 or part * width <= tokens)
    if jax.default_backend() != "cpu" or data_parallel() > 1:
        return rows
    return min(divisors, key=lambda part: abs(math.log(part * width / CPU_TOKENS)))
