"""Fully connected networks over batches of any shape `[..., features]`."""

from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        return jax.nn.initializers.orthogonal(gain)(key, shape)
    return gain * jax.nn.initializers.lecun_normal()(key, shape)


class Dense(eqx.Module):
    """x W + b, with weight [inputs, outputs] and bias [outputs], which starts at zero."""

    weight: Array
    bias: Array

    def __init__(self, key: Array, inputs: int, outputs: int, gain: float, initialiser: Initialiser) -> None:
        self.weight = initial_weight(key, (inputs, outputs), gain, initialiser)
        self.bias = jnp.zeros(outputs)

    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        return inputs @ self.weight + self.bias


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
