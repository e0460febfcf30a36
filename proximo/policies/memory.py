"""Networks that remember: an LSTM and a GRU over rows of observations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core.ranges import at_least
from proximo.policies.mlp import Initialiser, initial_weight, product

Step = Callable[[Array, Array], tuple[Array, Array]]
"""(memory [N, ...], gates of a row [N, ...]) -> memory, output of the row [N, H]."""


class LSTM(eqx.Module):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), with a forget gate (Gers 2000).

        i, f, g, o = x W + h U + b;   c' = sigmoid(f) c + sigmoid(i) tanh(g);   h' = sigmoid(o) tanh(c')

    Its memory is one array, h beside c, since each argument of a compiled call costs a microsecond.
    """

    input_weight: Array
    hidden_weight: Array
    bias: Array

    def __init__(self, key: Array, inputs: int, size: int, initialiser: Initialiser) -> None:
        input_key, hidden_key = jax.random.split(key)
        self.input_weight = _gates(input_key, inputs, size, 4, initialiser)
        self.hidden_weight = _gates(hidden_key, size, size, 4, initialiser)
        self.bias = jnp.zeros(4 * size)

    @property
    def size(self) -> int:
        return self.hidden_weight.shape[0]

    def begin(self, count: int) -> Float[Array, "N 2*H"]:
        """The memory of `count` environments before their first observation."""
        return jnp.zeros((count, 2 * self.size))

    def __call__(
        self,
        inputs: Float[Array, "*rows N F"],
        start: Bool[Array, "*rows N"] | None,
        carry: Float[Array, "N 2*H"],
    ) -> tuple[Float[Array, "*rows N H"], Float[Array, "N 2*H"]]:
        """What it makes of one row, or of rows one after another, and its memory after them.

        start  whether memory is forgotten before the row; None for nowhere
        """

        def step(
            carry: Float[Array, "N 2*H"], gates: Float[Array, "N 4*H"]
        ) -> tuple[Float[Array, "N 2*H"], Float[Array, "N H"]]:
            hidden, cell = jnp.split(carry, 2, axis=-1)
            add, keep, new, show = jnp.split(gates + hidden @ self.hidden_weight, 4, axis=-1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(add) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(show) * jnp.tanh(cell)
            return jnp.concatenate([hidden, cell], axis=-1), hidden

        return through(step, product(inputs, self.input_weight) + self.bias, start, carry)


class GRU(eqx.Module):
    """Gated recurrent unit (Cho 2014), with the reset gate behind the product, as cuDNN has it.

    r, z = sigmoid(x W + h U + b);   n = tanh(x W_n + b_n + r (h U_n + c));   h' = (1 - z) n + z h
    """

    input_weight: Array
    hidden_weight: Array
    bias: Array
    hidden_bias: Array

    def __init__(self, key: Array, inputs: int, size: int, initialiser: Initialiser) -> None:
        input_key, hidden_key = jax.random.split(key)
        self.input_weight = _gates(input_key, inputs, size, 3, initialiser)
        self.hidden_weight = _gates(hidden_key, size, size, 3, initialiser)
        self.bias, self.hidden_bias = jnp.zeros(3 * size), jnp.zeros(size)

    @property
    def size(self) -> int:
        return self.hidden_weight.shape[0]

    def begin(self, count: int) -> Float[Array, "N H"]:
        """The memory of `count` environments before their first observation."""
        return jnp.zeros((count, self.size))

    def __call__(
        self,
        inputs: Float[Array, "*rows N F"],
        start: Bool[Array, "*rows N"] | None,
        carry: Float[Array, "N H"],
    ) -> tuple[Float[Array, "*rows N H"], Float[Array, "N H"]]:
        """As `LSTM` has it."""

        def step(
            hidden: Float[Array, "N H"], gates: Float[Array, "N 3*H"]
        ) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
            reset, keep, new = jnp.split(gates, 3, axis=-1)
            own_reset, own_keep, own_new = jnp.split(hidden @ self.hidden_weight, 3, axis=-1)
            keep = jax.nn.sigmoid(keep + own_keep)
            new = jnp.tanh(new + jax.nn.sigmoid(reset + own_reset) * (own_new + self.hidden_bias))
            hidden = (1.0 - keep) * new + keep * hidden
            return hidden, hidden

        return through(step, product(inputs, self.input_weight) + self.bias, start, carry)


def _gates(key: Array, inputs: int, size: int, count: int, initialiser: Initialiser) -> Array:
    """Weights [inputs, count * size], each gate's drawn by itself."""
    keys = jax.random.split(key, count)
    return jnp.concatenate([initial_weight(one, (inputs, size), 1.0, initialiser) for one in keys], axis=-1)


def through(step: Step, gates: Array, start: Array | None, carry: Array) -> tuple[Array, Array]:
    """A step of memory taken over one row [N, ...], or over rows [L, N, ...]; where `start` is, from 0."""

    def forgetting(carry: Array, row: tuple[Array, Array | None]) -> tuple[Array, Array]:
        gates, start = row
        return step(carry if start is None else jnp.where(start[..., None], 0.0, carry), gates)

    if gates.ndim == 2:
        carry, output = forgetting(carry, (gates, start))
    else:
        carry, output = jax.lax.scan(forgetting, carry, (gates, start))
    return output, carry


@dataclass(frozen=True)
class Lstm:
    """Long short-term memory: the usual choice where an observation does not tell everything.

    size  numbers that it remembers, twice
    """

    size: Annotated[int, at_least(1)] = 64

    def made(self, key: Array, inputs: int, initialiser: Initialiser) -> LSTM:
        return LSTM(key, inputs, self.size, initialiser)


@dataclass(frozen=True)
class Gru:
    """Gated recurrent unit: a quarter less to compute than an LSTM of the same size.

    size  numbers that it remembers
    """

    size: Annotated[int, at_least(1)] = 64

    def made(self, key: Array, inputs: int, initialiser: Initialiser) -> GRU:
        return GRU(key, inputs, self.size, initialiser)
