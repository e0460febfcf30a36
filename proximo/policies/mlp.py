"""Fully connected networks over batches of any shape `[..., features]`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import Scalar
from proximo.errors import UserError

EPSILON = 1e-5  # of layer normalisation
EXPANSION = 4  # of a residual block
Activation = Literal["tanh", "relu", "elu", "gelu", "silu"]
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}

Initialiser = Literal["orthogonal", "lecun"]


def initial_weight(key: Array, shape: tuple[int, int], gain: float, initialiser: Initialiser) -> Array:
    """A weight matrix [inputs, outputs]: orthogonal times `gain`, or LeCun normal times `gain`."""
    if initialiser == "orthogonal":
        return _orthogonal(key, shape, gain)
    return gain * jax.nn.initializers.lecun_normal()(key, shape)


@partial(jax.jit, static_argnames="shape")
def _orthogonal(key: Array, shape: tuple[int, int], gain: Scalar) -> Array:
    """One program to compile: operation by operation they would be three for each shape."""
    return jax.nn.initializers.orthogonal(gain)(key, shape)


class Dense(eqx.Module):
    """x W + b, with weight [inputs, outputs] and bias [outputs], which starts at zero."""

    weight: Array
    bias: Array

    def __init__(self, key: Array, inputs: int, outputs: int, gain: float, initialiser: Initialiser) -> None:
        self.weight = initial_weight(key, (inputs, outputs), gain, initialiser)
        self.bias = jnp.zeros(outputs)

    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        return product(inputs, self.weight) + self.bias


def product(inputs: Float[Array, "... inputs"], weight: Float[Array, "inputs outputs"]) -> Array:
    """inputs @ weight. All axes but the last are joined: XLA's gradients on a CPU are slower with several."""
    if inputs.ndim <= 2:
        return inputs @ weight
    rows = inputs.reshape(-1, inputs.shape[-1])
    return (rows @ weight).reshape(*inputs.shape[:-1], weight.shape[1])


class MLP(eqx.Module):
    """Dense layers, each followed by the activation. With no widths it is the identity."""

    layers: tuple[Dense, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        inputs: int,
        widths: Sequence[int],
        *,
        gain: float,
        activation: Activation,
        initialiser: Initialiser,
    ) -> None:
        sizes = (inputs, *widths)
        keys = jax.random.split(key, max(len(widths), 1))
        self.layers = tuple(
            Dense(layer_key, size_in, size_out, gain, initialiser)
            for layer_key, size_in, size_out in zip(keys, sizes[:-1], sizes[1:], strict=False)
        )
        self.activation = activation

    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        for layer in self.layers:
            inputs = ACTIVATIONS[self.activation](layer(inputs))
        return inputs


class LayerNorm(eqx.Module):
    """(x - mean) / sqrt(variance + 1e-5) over the last axis, times a scale, plus a shift (Ba 2016)."""

    scale: Array
    shift: Array

    def __init__(self, size: int) -> None:
        self.scale, self.shift = jnp.ones(size), jnp.zeros(size)

    def __call__(self, inputs: Float[Array, "... size"]) -> Float[Array, "... size"]:
        centred = inputs - jnp.mean(inputs, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPSILON) * self.scale + self.shift


class NormedMLP(eqx.Module):
    """An `MLP` with layer normalisation between each dense layer and its activation."""

    mlp: MLP
    norms: tuple[LayerNorm, ...]

    def __init__(self, key: Array, inputs: int, widths: Sequence[int], **options: Any) -> None:
        self.mlp = MLP(key, inputs, widths, **options)
        self.norms = tuple(map(LayerNorm, widths))

    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        for layer, norm in zip(self.mlp.layers, self.norms, strict=True):
            inputs = ACTIVATIONS[self.mlp.activation](norm(layer(inputs)))
        return inputs


class ResidualBlock(eqx.Module):
    """x + narrow(activation(wide(norm(x)))), where wide is 4 times as wide."""

    norm: LayerNorm
    wide: Dense
    narrow: Dense

    def __init__(self, key: Array, size: int, gain: float, initialiser: Initialiser) -> None:
        wide_key, narrow_key = jax.random.split(key)
        self.norm = LayerNorm(size)
        self.wide = Dense(wide_key, size, EXPANSION * size, gain, initialiser)
        self.narrow = Dense(narrow_key, EXPANSION * size, size, gain, initialiser)

    def __call__(self, inputs: Float[Array, "... size"], activation: Activation) -> Float[Array, "... size"]:
        return inputs + self.narrow(ACTIVATIONS[activation](self.wide(self.norm(inputs))))


class SimBa(eqx.Module):
    """A dense layer, a residual block for each width, and layer normalisation (Lee 2024, SimBa, figure 4).

    The paper normalises observations by running statistics first, as is done here for every network, and its
    activation is relu. All widths are equal. With no widths it is the identity.
    """

    enter: tuple[Dense, ...]
    blocks: tuple[ResidualBlock, ...]
    norm: tuple[LayerNorm, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        inputs: int,
        widths: Sequence[int],
        *,
        gain: float,
        activation: Activation,
        initialiser: Initialiser,
    ) -> None:
        if len(set(widths)) > 1:
            raise UserError(
                "simba adds what each block makes to what it was given: hidden widths must be equal, not "
                f"{' '.join(map(str, widths))}: take {' '.join([str(widths[0])] * len(widths))}"
            )
        enter_key, *keys = jax.random.split(key, len(widths) + 1)
        first = widths[:1]
        self.enter = tuple(Dense(enter_key, inputs, size, 1.0, initialiser) for size in first)
        self.blocks = tuple(
            ResidualBlock(block_key, size, gain, initialiser)
            for block_key, size in zip(keys, widths, strict=True)
        )
        self.norm = tuple(map(LayerNorm, first))
        self.activation = activation

    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        for layer in self.enter:
            inputs = layer(inputs)
        for block in self.blocks:
            inputs = block(inputs, self.activation)
        for norm in self.norm:
            inputs = norm(inputs)
        return inputs


Layers = Literal["plain", "layer-norm", "simba"]
Network = MLP | NormedMLP | SimBa
NETWORKS: dict[Layers, type[Network]] = {"plain": MLP, "layer-norm": NormedMLP, "simba": SimBa}
