"""Networks for images: batches [..., height, width, channels] of bytes or numbers, to vectors of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from proximo.core.ranges import at_least
from proximo.errors import UserError
from proximo.policies.convolve import convolution
from proximo.policies.mlp import Dense, Initialiser, initial_weight

GAIN = 2**0.5
RESIDUAL_GAIN = 1.0  # what goes round adds up: Glorot's, as train-procgen has it
LARGEST_BYTE = 255.0


class Convolution(eqx.Module):
    """A convolution over [B, H, W, C], with weight [height, width, inputs, outputs] and bias [outputs]."""

    weight: Array
    bias: Array
    stride: int = eqx.field(static=True)
    padding: str = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        padding: str,
        initialiser: Initialiser,
        gain: float = GAIN,
    ) -> None:
        flat = initial_weight(key, (size * size * inputs, outputs), gain, initialiser)
        self.weight = flat.reshape(size, size, inputs, outputs)
        self.bias = jnp.zeros(outputs)
        self.stride, self.padding = stride, padding

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B h w c"]:
        return convolution(images, self.weight, self.stride, self.padding) + self.bias


class Plain(eqx.Module):
    """Convolutions, each followed by a ReLU."""

    layers: tuple[Convolution, ...]

    def __init__(
        self,
        key: Array,
        inputs: int,
        layers: Sequence[tuple[int, int, int]],
        padding: str,
        initialiser: Initialiser,
    ) -> None:
        channels = (inputs, *(outputs for outputs, _, _ in layers))
        self.layers = tuple(
            Convolution(one, before, outputs, size, stride, padding, initialiser)
            for one, before, (outputs, size, stride) in zip(
                jax.random.split(key, len(layers)), channels, layers, strict=False
            )
        )

    @property
    def channels(self) -> int:
        """Of what it makes."""
        return self.layers[-1].bias.shape[0]

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B h w c"]:
        for layer in self.layers:
            images = jax.nn.relu(layer(images))
        return images


class Residual(eqx.Module):
    """Two convolutions beside the identity (He 2016)."""

    first: Convolution
    second: Convolution

    def __init__(self, key: Array, channels: int, initialiser: Initialiser) -> None:
        first, second = jax.random.split(key)
        self.first = Convolution(first, channels, channels, 3, 1, "SAME", initialiser, RESIDUAL_GAIN)
        self.second = Convolution(second, channels, channels, 3, 1, "SAME", initialiser, RESIDUAL_GAIN)

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return images + self.second(jax.nn.relu(self.first(jax.nn.relu(images))))


class Residuals(eqx.Module):
    """The convolutions of IMPALA (Espeholt 2018, figure 3, right): three times smaller, twice residual."""

    entries: tuple[Convolution, ...]
    blocks: tuple[tuple[Residual, Residual], ...]

    def __init__(self, key: Array, inputs: int, channels: Sequence[int], initialiser: Initialiser) -> None:
        keys = jax.random.split(key, 3 * len(channels))
        self.entries = tuple(
            Convolution(one, before, outputs, 3, 1, "SAME", initialiser, RESIDUAL_GAIN)
            for one, before, outputs in zip(keys[::3], (inputs, *channels), channels, strict=False)
        )
        self.blocks = tuple(
            (Residual(first, size, initialiser), Residual(second, size, initialiser))
            for first, second, size in zip(keys[1::3], keys[2::3], channels, strict=True)
        )

    @property
    def channels(self) -> int:
        """Of what it makes."""
        return self.entries[-1].bias.shape[0]

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B h w c"]:
        for entry, blocks in zip(self.entries, self.blocks, strict=True):
            images = jax.lax.reduce_window(
                entry(images), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
            )
            for block in blocks:
                images = block(images)
        return jax.nn.relu(images)


class ImageNetwork(eqx.Module):
    """Convolutions and a dense layer with a ReLU: images [..., H, W, C] to features [..., F].

    Bytes are brought to 0..1.
    """

    maps: Plain | Residuals
    output: Dense

    def __init__(
        self,
        key: Array,
        maps: Plain | Residuals,
        shape: tuple[int, int, int],
        features: int,
        initialiser: Initialiser,
    ) -> None:
        flat = prod(jax.eval_shape(maps, jnp.zeros((1, *shape))).shape)
        self.maps, self.output = maps, Dense(key, flat, features, GAIN, initialiser)

    def __call__(
        self, images: Shaped[Array, "*batch H W C"], modulation: Float[Array, "*batch 2*c"] | None = None
    ) -> Float[Array, "*batch F"]:
        """Features of images.

        modulation  a scale, less 1, and a shift for each channel of the maps (Perez 2018); None for neither
        """
        flat = images.reshape(-1, *images.shape[-3:])
        numbers = flat.astype(jnp.result_type(float))
        maps = self.maps(numbers / LARGEST_BYTE if images.dtype == jnp.uint8 else numbers)
        if modulation is not None:
            scale, shift = jnp.split(modulation.reshape(flat.shape[0], 1, 1, -1), 2, axis=-1)
            maps = jax.nn.relu((1.0 + scale) * maps + shift)
        made = jax.nn.relu(self.output(maps.reshape(flat.shape[0], -1)))
        return made.reshape(*images.shape[:-3], made.shape[-1])


@dataclass(frozen=True)
class Nature:
    """Three convolutions and a dense layer (Mnih 2015): for frames of 36 pixels and more."""

    features: Annotated[int, at_least(1)] = 512

    def network(self, key: Array, shape: tuple[int, int, int], initialiser: Initialiser) -> ImageNetwork:
        return _plain(key, shape, ((32, 8, 4), (64, 4, 2), (64, 3, 1)), self.features, initialiser)


@dataclass(frozen=True)
class A3c:
    """Two convolutions and a dense layer (Mnih 2016): the paper's network for Atari, a third of `nature`."""

    features: Annotated[int, at_least(1)] = 256

    def network(self, key: Array, shape: tuple[int, int, int], initialiser: Initialiser) -> ImageNetwork:
        return _plain(key, shape, ((16, 8, 4), (32, 4, 2)), self.features, initialiser)


def _plain(
    key: Array,
    shape: tuple[int, int, int],
    layers: Sequence[tuple[int, int, int]],
    features: int,
    initialiser: Initialiser,
) -> ImageNetwork:
    height, width = shape[:2]
    for number, (_, size, stride) in enumerate(layers, 1):
        if min(height, width) < size:
            raise UserError(
                f"an image of {shape[0]} x {shape[1]} pixels is too small for this network: convolution "
                f"{number} has {size} x {size} weights, and {height} x {width} pixels reach it: use "
                "--image-network small"
            )
        height, width = (height - size) // stride + 1, (width - size) // stride + 1
    maps_key, key = jax.random.split(key)
    maps = Plain(maps_key, shape[-1], layers, "VALID", initialiser)
    return ImageNetwork(key, maps, shape, features, initialiser)


@dataclass(frozen=True)
class Small:
    """Two convolutions of 3x3 that keep the size, and a dense layer: for boards and small grids."""

    channels: Annotated[tuple[int, ...], at_least(1)] = (16, 32)
    features: Annotated[int, at_least(1)] = 128

    def network(self, key: Array, shape: tuple[int, int, int], initialiser: Initialiser) -> ImageNetwork:
        maps_key, key = jax.random.split(key)
        layers = [(outputs, 3, 1) for outputs in self.channels]
        maps = Plain(maps_key, shape[-1], layers, "SAME", initialiser)
        return ImageNetwork(key, maps, shape, self.features, initialiser)


@dataclass(frozen=True)
class Impala:
    """Fifteen convolutions with residual connections (Espeholt 2018): for Procgen and other rich images."""

    channels: Annotated[tuple[int, ...], at_least(1)] = (16, 32, 32)
    features: Annotated[int, at_least(1)] = 256

    def network(self, key: Array, shape: tuple[int, int, int], initialiser: Initialiser) -> ImageNetwork:
        maps_key, key = jax.random.split(key)
        maps = Residuals(maps_key, shape[-1], self.channels, initialiser)
        return ImageNetwork(key, maps, shape, self.features, initialiser)


ImageOptions = Nature | A3c | Small | Impala
SMALLEST_NATURE = 36  # pixels; fewer leave nothing after its three convolutions


def fitting(shape: tuple[int, int, int]) -> ImageOptions:
    """The network for images of a size where none was asked for."""
    return Nature() if min(shape[:2]) >= SMALLEST_NATURE else Small()
