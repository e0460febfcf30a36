"""Our convolution and its gradients are XLA's, whatever the kernel, the stride and the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.policies.convolve import as_products, chunk_of, convolution, plain_convolution

FEW = 4  # images that are taken at a time here

# images, height, width, channels; kernel, stride, outputs, padding
GEOMETRIES = [
    (FEW + 3, 20, 22, 4, 8, 4, 6, "VALID"),  # cells of 4 pixels, and rows that no patch reaches
    (FEW, 21, 23, 3, 4, 2, 5, "VALID"),
    (3, 9, 9, 4, 3, 1, 5, "VALID"),
    (2 * FEW + 1, 10, 7, 3, 3, 1, 5, "SAME"),
    (9, 11, 12, 3, 4, 2, 4, "SAME"),  # more zeros behind than before
    (5, 11, 12, 3, 5, 3, 4, "VALID"),  # no cells: 3 does not divide 5
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_are_those_of_the_plain_convolution(geometry, monkeypatch):
    count, height, width, channels, edge, stride, outputs, padding = geometry
    monkeypatch.setattr("proximo.policies.convolve.CHUNK", FEW * height * width * channels)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(count, height, width, channels)))
    weight = jnp.asarray(random.normal(size=(edge, edge, channels, outputs)))

    def slopes(convolve):
        def total(images, weight):
            return jnp.sum(jnp.sin(convolve(images, weight)))

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(images, weight)

    ours = slopes(lambda images, weight: as_products(images, weight, (stride, padding)))
    plain = slopes(lambda images, weight: plain_convolution(images, weight, stride, padding))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one / scale, other / scale, atol=2e-5)


def test_so_many_images_are_taken_at_a_time_as_stay_in_the_cache():
    # 2^18 = 262,144 numbers: 9 frames of 84 x 84 x 4 = 28,224, so 8; 1,783 boards of 7 x 7 x 3, so 1,024.
    assert chunk_of(jnp.zeros((256, 84, 84, 4))) == 8
    assert chunk_of(jnp.zeros((4, 7, 7, 3))) == 1024
    assert chunk_of(jnp.zeros((1, 1024, 1024, 4))) == 1


def test_a_convolution_by_hand():
    # Ones under a kernel of ones: how many of its nine places are inside, at a corner, an edge, within.
    images, weight = jnp.ones((2, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    np.testing.assert_array_equal(
        convolution(images, weight, 1, "SAME")[0, :, :, 0],
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]],
    )
