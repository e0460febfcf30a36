"""Networks for images: a convolution by hand, published sizes, bytes and axes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.errors import UserError
from proximo.policies.convolution import Convolution, Impala, Nature, Small, fitting

KEY = jax.random.key(0)


def count(network):
    return sum(leaf.size for leaf in jax.tree.leaves(network))


def test_a_convolution_by_hand():
    # 3x3 image 0..8, kernel 2x2 of ones, stride 1: 0+1+3+4 = 8, 1+2+4+5 = 12, 20, 24; bias 0.5
    layer = Convolution(KEY, 1, 1, 2, 1, "VALID", "lecun")
    layer = eqx.tree_at(lambda c: (c.weight, c.bias), layer, (jnp.ones((2, 2, 1, 1)), jnp.full(1, 0.5)))
    made = layer(jnp.arange(9.0).reshape(1, 3, 3, 1))
    np.testing.assert_allclose(made[0, ..., 0], [[8.5, 12.5], [20.5, 24.5]])


def test_the_nature_network_has_the_published_size():
    # 8*8*4*32+32 + 4*4*32*64+64 + 3*3*64*64+64 + 7*7*64*512+512 = 1,684,128
    assert count(Nature().network(KEY, (84, 84, 4), "lecun")) == 1_684_128


def test_impalas_network_has_its_size():
    # for (inputs, outputs): 9 i o + o, and four times 9 o o + o
    # (3, 16): 448 + 9280; (16, 32): 4640 + 36,992; (32, 32): 9248 + 36,992; 8*8*32*256+256 = 524,544
    assert count(Impala().network(KEY, (64, 64, 3), "lecun")) == 622_144


@pytest.mark.parametrize("kind", [Nature(), Small(), Impala()])
def test_any_axes_in_front_and_bytes_as_parts_of_255(kind):
    network = kind.network(KEY, (40, 44, 3), "lecun")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 44, 3), np.uint8)
    made = eqx.filter_jit(network)(images)
    assert made.shape == (2, 3, kind.features)
    one = eqx.filter_jit(network)(images[1, 2] / np.float32(255))
    np.testing.assert_allclose(made[1, 2], one, rtol=1e-4, atol=1e-4)


def test_small_images_get_a_network_that_keeps_their_size():
    assert fitting((84, 84, 4)) == Nature() and fitting((7, 7, 3)) == Small()
    made = Small().network(KEY, (7, 7, 3), "orthogonal").maps(jnp.zeros((1, 7, 7, 3)))
    assert made.shape == (1, 7, 7, 32)


def test_an_image_that_a_network_leaves_nothing_of_is_refused_with_the_layer_and_what_reaches_it():
    # (20 - 8) // 4 + 1 = 4 pixels behind the first convolution, (4 - 4) // 2 + 1 = 1 behind the second
    says = "20 x 20 pixels is too small .* convolution 3 has 3 x 3 weights, and 1 x 1 pixels reach it: use"
    with pytest.raises(UserError, match=says):
        Nature().network(KEY, (20, 20, 3), "lecun")
