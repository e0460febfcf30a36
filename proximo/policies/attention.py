"""A gated transformer that remembers the last rows of an episode."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core.ranges import at_least
from proximo.errors import UserError
from proximo.policies.mlp import Dense, Initialiser

EPSILON = 1e-5  # of layer normalisation
GATE_BIAS = 2.0  # a gate begins nearly closed, so the layer begins as the identity (Parisotto 2020)
HIDDEN = -1e9  # what may not be attended to


class Window(NamedTuple):
    """What a transformer remembers.

    rows  [N, W, layers, D], what each layer read in the last W rows, the newest last
    age   int [N], how many of them are of the episode under way
    """

    rows: Float[Array, "N W layers D"]
    age: Int[Array, " N"]


class Gate(eqx.Module):
    """What goes past a layer, and what it says, as a GRU joins them (GTrXL, Parisotto 2020, section 3.2)."""

    said: Dense
    passed: Dense
    new: Dense

    def __init__(self, key: Array, size: int, initialiser: Initialiser) -> None:
        keys = jax.random.split(key, 3)
        self.said = Dense(keys[0], size, 3 * size, 1.0, initialiser)
        self.passed = Dense(keys[1], size, 2 * size, 1.0, initialiser)
        self.new = Dense(keys[2], size, size, 1.0, initialiser)

    def __call__(self, x: Float[Array, "*rows D"], y: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        reset, take, new = jnp.split(self.said(y), 3, axis=-1)
        own_reset, own_take = jnp.split(self.passed(x), 2, axis=-1)
        take = jax.nn.sigmoid(take + own_take - GATE_BIAS)
        new = jnp.tanh(new + self.new(jax.nn.sigmoid(reset + own_reset) * x))
        return (1.0 - take) * x + take * new


class Layer(eqx.Module):
    """Attention over rows, then two dense layers for each row; each behind a norm and before a gate."""

    norms: tuple[Array, Array]
    query: Dense
    key_value: Dense
    output: Dense
    distance: Float[Array, "heads W1"]
    gates: tuple[Gate, Gate]
    wide: Dense
    narrow: Dense

    def __init__(self, key: Array, size: int, heads: int, window: int, initialiser: Initialiser) -> None:
        keys = jax.random.split(key, 7)
        self.norms = jnp.ones(size), jnp.ones(size)
        self.query = Dense(keys[0], size, size, 1.0, initialiser)
        self.key_value = Dense(keys[1], size, 2 * size, 1.0, initialiser)
        self.output = Dense(keys[2], size, size, 1.0, initialiser)
        self.distance = jnp.zeros((heads, window + 1))
        self.gates = Gate(keys[3], size, initialiser), Gate(keys[4], size, initialiser)
        self.wide = Dense(keys[5], size, 4 * size, 2**0.5, initialiser)
        self.narrow = Dense(keys[6], 4 * size, size, 1.0, initialiser)

    def __call__(
        self,
        rows: Float[Array, "N L D"],
        before: Float[Array, "N W D"],
        seen: Bool[Array, "N L W+L"],
        steps: Int[Array, "L W+L"],
    ) -> Float[Array, "N L D"]:
        """What it makes of rows.

        before  what it read in the rows before them
        seen    which of those before, and of these, each row may attend to
        steps   how many rows back each is
        """
        heads = self.distance.shape[0]
        own = normalised(rows, self.norms[0])
        everything = jnp.concatenate([normalised(before, self.norms[0]), own], axis=1)
        query = _by_head(self.query(own), heads)
        key, value = (_by_head(x, heads) for x in jnp.split(self.key_value(everything), 2, axis=-1))
        score = jnp.einsum("nlhd,nmhd->nhlm", query, key) * query.shape[-1] ** -0.5
        score = score + self.distance[:, jnp.clip(steps, 0, self.distance.shape[1] - 1)]
        weight = jax.nn.softmax(jnp.where(seen[:, None], score, HIDDEN))
        found = jnp.einsum("nhlm,nmhd->nlhd", weight, value).reshape(rows.shape)
        rows = self.gates[0](rows, jax.nn.relu(self.output(found)))
        inner = jax.nn.relu(self.wide(normalised(rows, self.norms[1])))
        return self.gates[1](rows, jax.nn.relu(self.narrow(inner)))


class GatedTransformer(eqx.Module):
    """GTrXL (Parisotto 2020) over a window: each row attends to itself and the `window` rows before it.

    A row of an earlier episode is not attended to. The rows of the window are remembered as each layer read
    them, and no gradient goes into what is remembered, as in Transformer-XL (Dai 2019). Where a row is, is
    told by a learned number for each distance and head.
    """

    enter: Dense
    layers: tuple[Layer, ...]
    window: int = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        inputs: int,
        size: int,
        *,
        layers: int,
        heads: int,
        window: int,
        initialiser: Initialiser,
    ) -> None:
        enter_key, *keys = jax.random.split(key, layers + 1)
        self.enter = Dense(enter_key, inputs, size, 1.0, initialiser)
        self.layers = tuple(Layer(one, size, heads, window, initialiser) for one in keys)
        self.window = window

    @property
    def size(self) -> int:
        return self.enter.bias.shape[0]

    def begin(self, count: int) -> Window:
        """The memory of `count` environments before their first observation."""
        rows = jnp.zeros((count, self.window, len(self.layers), self.size))
        return Window(rows, jnp.zeros(count, jnp.int32))

    def __call__(
        self, inputs: Float[Array, "*rows N F"], start: Bool[Array, "*rows N"] | None, carry: Window
    ) -> tuple[Float[Array, "*rows N D"], Window]:
        """What it makes of one row, or of rows one after another, and its memory after them.

        start  whether memory is forgotten before the row; None for nowhere
        """
        if inputs.ndim == 2:
            output, carry = self(inputs[None], None if start is None else start[None], carry)
            return output[0], carry
        length, count = inputs.shape[:2]
        start = jnp.zeros((length, count), bool) if start is None else start
        seen, steps, age = self.sight(start.T, carry.age)
        rows, read = jnp.moveaxis(self.enter(inputs), 0, 1), []
        for index, layer in enumerate(self.layers):
            read.append(rows)
            rows = layer(rows, jax.lax.stop_gradient(carry.rows[:, :, index]), seen, steps)
        everything = jnp.concatenate([carry.rows, jnp.stack(read, axis=2)], axis=1)
        return jnp.moveaxis(rows, 0, 1), Window(everything[:, length:], age)

    def sight(
        self, start: Bool[Array, "N L"], age: Int[Array, " N"]
    ) -> tuple[Bool[Array, "N L W+L"], Int[Array, "L W+L"], Int[Array, " N"]]:
        """Which rows each row may attend to, how far back they are, and the age of the window after them."""
        length = start.shape[1]
        place = jnp.arange(-self.window, length)  # of rows remembered, and of these, which begin at 0
        steps = jnp.arange(length)[:, None] - place
        # The first row that is of the same episode: -age, until an episode starts here.
        first = jnp.where(start, jnp.arange(length), -age[:, None])
        first = first if length == 1 else jax.lax.cummax(first, axis=1)  # ONNX has none of whole numbers
        near = (steps >= 0) & (steps <= self.window)
        seen = near & (place >= first[..., None])
        return seen, steps, jnp.minimum(length - first[:, -1], self.window)


def normalised(x: Float[Array, "*rows D"], scale: Float[Array, " D"]) -> Float[Array, "*rows D"]:
    """Root mean square normalisation (Zhang 2019)."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + EPSILON) * scale


def _by_head(x: Float[Array, "N L D"], heads: int) -> Float[Array, "N L heads d"]:
    return x.reshape(*x.shape[:2], heads, -1)


@dataclass(frozen=True)
class Transformer:
    """Attention over the last rows of an episode, gated so that it begins as no attention.

    size    numbers for each row; `heads` divides it
    layers  each sees `window` rows further back than the one below
    heads   of attention
    window  rows before the present one that are remembered
    """

    size: Annotated[int, at_least(1)] = 64
    layers: Annotated[int, at_least(1)] = 1
    heads: Annotated[int, at_least(1)] = 4
    window: Annotated[int, at_least(1)] = 16

    def made(self, key: Array, inputs: int, initialiser: Initialiser) -> GatedTransformer:
        if self.size % self.heads:
            raise UserError(f"a transformer of size {self.size} has no {self.heads} equal heads: change one")
        return GatedTransformer(
            key,
            inputs,
            self.size,
            layers=self.layers,
            heads=self.heads,
            window=self.window,
            initialiser=initialiser,
        )
