"""Gradients written out by hand are those that JAX finds by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import CONFIGS

from proximo.language.model.config import model_config
from proximo.language.model.layers import LOWEST, attention, causal_mask, masked_softmax, softcap, standardise

KEY = jax.random.key(0)


@pytest.mark.parametrize("centred", [True, False])
def test_the_gradient_of_a_norm(centred):
    x, weight = jax.random.normal(KEY, (2, 3, 7)) + 1.0, jax.random.normal(jax.random.key(1), (2, 3, 7))

    def plain(x):
        x = x - jnp.mean(x, axis=-1, keepdims=True) if centred else x
        return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 0.1)

    np.testing.assert_allclose(standardise(x, centred, 0.1), plain(x), rtol=1e-5, atol=1e-6)
    ours = jax.grad(lambda x: jnp.sum(weight * standardise(x, centred, 0.1)))(x)
    np.testing.assert_allclose(ours, jax.grad(lambda x: jnp.sum(weight * plain(x)))(x), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_masked_softmax():
    scores, weight = jax.random.normal(KEY, (3, 5)), jax.random.normal(jax.random.key(1), (3, 5))
    allowed = jnp.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)

    def plain(scores):
        return jax.nn.softmax(jnp.where(allowed, scores, LOWEST), axis=-1)

    assert not masked_softmax(scores, allowed)[~allowed].any()
    ours = jax.grad(lambda s: jnp.sum(weight * masked_softmax(s, allowed)))(scores)
    np.testing.assert_allclose(ours, jax.grad(lambda s: jnp.sum(weight * plain(s)))(scores), atol=1e-6)


def test_where_nothing_is_allowed_nothing_is_nan():
    # Padding: its weights are alike, and no gradient comes back.
    scores, allowed = jnp.array([[1.0, 5.0]]), jnp.zeros((1, 2), bool)
    assert masked_softmax(scores, allowed).tolist() == [[0.5, 0.5]]
    assert jax.grad(lambda s: masked_softmax(s, allowed)[0, 0])(scores).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_attention_and_its_gradient_by_loops(family):
    # Grouped queries, with and without a cap; every head on its own, in plain NumPy terms.
    config = model_config(CONFIGS[family])
    keys = jax.random.split(KEY, 3)
    q = jax.random.normal(keys[0], (2, 4, config.heads, config.head_size))
    k, v = (jax.random.normal(key, (2, 4, config.kv_heads, config.head_size)) for key in keys[1:])
    allowed = causal_mask(jnp.array([[1, 1, 1, 1], [0, 1, 1, 1]]), 3)

    def loops(q, k, v):
        out = []
        for head in range(config.heads):
            shared = head // (config.heads // config.kv_heads)
            scores = config.attention_scale * q[:, :, head] @ k[:, :, shared].transpose(0, 2, 1)
            weights = jax.nn.softmax(
                jnp.where(allowed, softcap(scores, config.attention_cap), LOWEST), axis=-1
            )
            out.append(weights @ v[:, :, shared])
        return jnp.stack(out, axis=2)

    def ours(q, k, v):
        return attention(q, k, v, allowed, config)

    real = np.array([[1, 1, 1, 1], [0, 1, 1, 1]], bool)  # what padding attends to is nobody's business
    np.testing.assert_allclose(ours(q, k, v)[real], loops(q, k, v)[real], atol=1e-5)

    def total(f):
        return lambda *x: jnp.sum(jnp.where(real[:, :, None, None], jnp.sin(f(*x)), 0.0))

    for a, b in zip(*(jax.jit(jax.grad(total(f), (0, 1, 2)))(q, k, v) for f in (ours, loops)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
