"""Convolutions as matrix products: on a CPU XLA's own are slow, above all in a compiled loop as an update is.

docs/pixels.md says what makes the products fast, and how much is gained.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

IMAGES, KERNEL = "NHWC", "HWIO"
CHUNK = 2**18  # numbers of the images that are taken at a time: their patches stay in a core's cache
Geometry = tuple[int, str]  # stride and padding


def plain_convolution(
    images: Float[Array, "B H W C"], weight: Float[Array, "k l C O"], stride: int, padding: str
) -> Float[Array, "B h w O"]:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        images, weight, (stride, stride), padding, dimension_numbers=(IMAGES, KERNEL, IMAGES)
    )


def convolution(
    images: Float[Array, "B H W C"], weight: Float[Array, "k k C O"], stride: int, padding: str
) -> Float[Array, "B h w O"]:
    """The same numbers, by what is fast on the device: matrix products on a CPU.

    A graph for batches of any size, which is for other programs, has the plain one.
    """
    if jax.default_backend() != "cpu" or not isinstance(images.shape[0], int):
        return plain_convolution(images, weight, stride, padding)
    return as_products(images, weight, (stride, padding))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def as_products(
    images: Float[Array, "B H W C"], weight: Float[Array, "k k C O"], geometry: Geometry
) -> Float[Array, "B h w O"]:
    """A convolution as products of patches; those of a few images (`CHUNK`) are in memory at a time.

    y = P W;   dW = (dy^T P)^T;   dP = dy W^T:   in this form all three have both factors in rows, which is
    where XLA has a fast product. Patches are made again for the gradient, instead of kept.
    """
    return _forward(images, weight, geometry)[0]


def _forward(images: Array, weight: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    step = Step.of(images.shape, weight.shape, geometry)
    matrix = step.matrix(weight)

    def chunk(images: Array) -> Array:
        patches, shape = step.patches(images)
        return (patches @ matrix).reshape(*shape, -1)

    return _over_chunks(chunk, images), (images, weight)


def _backward(geometry: Geometry, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    images, weight = kept
    step = Step.of(images.shape, weight.shape, geometry)
    matrix = step.matrix(weight)
    transposed = _transposed(matrix)

    def add(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        images, slope = chunk
        patches, _ = step.patches(images)
        rows = _settled(slope.reshape(-1, slope.shape[-1]))
        return total + _transposed(rows) @ patches, step.images(rows @ transposed, images.shape)

    size = chunk_of(images)
    whole, rest = len(images) // size, len(images) % size
    total = jnp.zeros(matrix.shape[::-1], weight.dtype)
    found: list[Array] = []
    if whole:
        parts = tuple(x[: whole * size].reshape(whole, size, *x.shape[1:]) for x in (images, slope))
        total, of_images = jax.lax.scan(add, total, parts)
        found.append(of_images.reshape(whole * size, *images.shape[1:]))
    if rest:
        total, of_images = add(total, (images[whole * size :], slope[whole * size :]))
        found.append(of_images)
    of_images = found[0] if len(found) == 1 else jnp.concatenate(found)
    return of_images, step.weight(_transposed(total), weight.shape)


as_products.defvjp(_forward, _backward)


def chunk_of(images: Array) -> int:
    """How many images are taken at a time: a power of two."""
    return 1 << (max(1, CHUNK // prod(images.shape[1:])).bit_length() - 1)


def _over_chunks(function: Callable[[Array], Array], images: Array) -> Array:
    """A function of images, taken of a few at a time."""
    size = chunk_of(images)
    whole, rest = len(images) // size, len(images) % size
    if not whole:
        return function(images)
    parts = images[: whole * size].reshape(whole, size, *images.shape[1:])
    found = jax.lax.map(function, parts) if whole > 1 else function(parts[0])[None]
    found = found.reshape(whole * size, *found.shape[2:])
    return found if not rest else jnp.concatenate([found, function(images[whole * size :])])


class Step(NamedTuple):
    """How a kernel goes over images.

    Where the stride divides the kernel, a square of stride x stride pixels becomes one cell with as many more
    channels: the kernel is as many times smaller, and goes from cell to cell.

    cell      pixels of a cell's edge
    kernel    the kernel's edge, in cells
    stride    between patches, in cells
    pads      rows and columns of zeros (negative: of pixels that no patch reaches) before and behind
    """

    cell: int
    kernel: int
    stride: int
    pads: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, images: tuple[int, ...], weight: tuple[int, ...], geometry: Geometry) -> "Step":
        """For arrays of these shapes."""
        (stride, padding), edge = geometry, weight[0]
        pads = []
        for size in images[1:3]:
            count = -(-size // stride) if padding == "SAME" else (size - edge) // stride + 1
            missing = (count - 1) * stride + edge - size
            before = max(missing, 0) // 2
            pads.append((before, missing - before))
        cell = stride if edge % stride == 0 else 1
        return cls(cell, edge // cell, stride // cell, (pads[0], pads[1]))

    def matrix(self, weight: Array) -> Array:
        """A kernel as [patch, outputs]."""
        n, c = self.kernel, self.cell
        cells = weight.reshape(n, c, n, c, *weight.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
        return cells.reshape(-1, weight.shape[-1])

    def weight(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `matrix`."""
        n, c = self.kernel, self.cell
        return matrix.reshape(n, n, c, c, *shape[2:]).transpose(0, 2, 1, 3, 4, 5).reshape(shape)

    def count(self, size: int) -> int:
        """Patches along an axis of so many cells."""
        return (size - self.kernel) // self.stride + 1

    def patches(self, images: Array) -> tuple[Array, tuple[int, int, int]]:
        """Patches in rows, [B * h * w, patch], and (B, h, w)."""
        padded = jax.lax.pad(
            images, jnp.zeros((), images.dtype), ((0, 0, 0), *((*p, 0) for p in self.pads), (0, 0, 0))
        )
        count, height, width, channels = padded.shape
        c = self.cell
        cells = padded.reshape(count, height // c, c, width // c, c, channels).transpose(0, 1, 3, 2, 4, 5)
        cells = cells.reshape(count, height // c, width // c, c * c * channels)
        h, w = self.count(height // c), self.count(width // c)
        last_h, last_w = (h - 1) * self.stride + 1, (w - 1) * self.stride + 1
        shifted = [
            cells[:, i : i + last_h : self.stride, j : j + last_w : self.stride]
            for i in range(self.kernel)
            for j in range(self.kernel)
        ]
        # Joined on an axis before the last: on the last one XLA copies number by number.
        return _settled(jnp.stack(shifted, axis=3).reshape(count * h * w, -1)), (count, h, w)

    def images(self, patches: Array, shape: tuple[int, ...]) -> Array:
        """The sum of all patches at their places, [B, H, W, C]."""
        count, height, width, channels = shape
        c, n = self.cell, self.kernel
        (top, bottom), (left, right) = self.pads
        rows, columns = (top + height + bottom) // c, (left + width + right) // c
        h, w = self.count(rows), self.count(columns)
        by_place = patches.reshape(count, h, w, n, n, c * c * channels)
        zero = jnp.zeros((), patches.dtype)
        total = zero

        def pad(place: int, size: int, patches: int) -> tuple[int, int, int]:
            return place, size - place - (patches - 1) * self.stride - 1, self.stride - 1

        for i in range(n):
            for j in range(n):
                pads = ((0, 0, 0), pad(i, rows, h), pad(j, columns, w), (0, 0, 0))
                total = total + jax.lax.pad(by_place[:, :, :, i, j], zero, pads)
        cells = _settled(total).reshape(count, rows, columns, c, c, channels).transpose(0, 1, 3, 2, 4, 5)
        padded = cells.reshape(count, rows * c, columns * c, channels)
        back = ((0, 0, 0), (-top, -bottom, 0), (-left, -right, 0), (0, 0, 0))
        return jax.lax.pad(padded, zero, back)


def _settled(x: Array) -> Array:
    """The same array, laid out in rows: XLA does not fold what comes before into a product that reads it."""
    return jax.lax.optimization_barrier(x.reshape(-1)).reshape(x.shape)


def _transposed(matrix: Array) -> Array:
    return _settled(matrix.T)
