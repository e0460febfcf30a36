"""One step of Adam by hand, and gradients of parts that add up to the whole's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from proximo.learn.descend import adam, descend, in_parts, summed_gradients

EPSILON = 0.5 * 0.001**0.5  # in the first step it counts as a half


def step(weights, gradients, memory=None, rate=0.1, **numbers):
    numbers = {"epsilon": 1e-5, "max_grad_norm": 1.0} | numbers
    memory = adam(weights) if memory is None else memory
    return jax.jit(descend)(weights, memory, gradients, rate, **numbers)


def test_a_first_step_by_hand():
    # sqrt(1 - 0.999) / (1 - 0.9) * 0.1 g / (sqrt(0.001) |g| + epsilon) = g / (|g| + epsilon / sqrt(0.001)):
    # with EPSILON for a half 0.5 / (0.5 + 0.5), -1.5 / (1.5 + 0.5).
    weights, _, norm = step(
        {"a": jnp.array([1.0, 1.0])},
        {"a": jnp.array([0.5, -1.5])},
        epsilon=EPSILON,
        max_grad_norm=jnp.inf,
    )
    np.testing.assert_allclose(weights["a"], [1.0 - 0.1 * 0.5, 1.0 + 0.1 * 0.75], rtol=1e-6)
    np.testing.assert_allclose(norm, 2.5**0.5)


def test_the_norm_is_clipped_over_all_arrays_together():
    # Norm 5, held below 1: gradients 0.6 and 0.8, steps 0.6 / (0.6 + 0.5) and 0.8 / (0.8 + 0.5).
    weights, _, norm = step(
        {"a": jnp.zeros(1), "b": jnp.zeros((1, 1))},
        {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])},
        epsilon=EPSILON,
    )
    np.testing.assert_allclose(norm, 5.0)
    np.testing.assert_allclose(weights["a"], [-0.1 * 0.6 / 1.1], rtol=1e-5)
    np.testing.assert_allclose(weights["b"], [[-0.1 * 0.8 / 1.3]], rtol=1e-5)


def test_a_small_gradient_is_not_made_larger():
    weights, _, _ = step({"a": jnp.zeros(1)}, {"a": jnp.array([0.5])}, epsilon=EPSILON)
    np.testing.assert_allclose(weights["a"], [-0.05], rtol=1e-5)  # 0.5 / (0.5 + 0.5)


def test_the_first_step_of_a_small_gradient_is_a_sixth_of_what_pytorchs_adam_takes():
    # 5e-5 / (5e-5 + 1e-5 / sqrt(0.001)) = 0.1365 against 5e-5 / (5e-5 + 1e-5) = 0.8333.
    gradient = {"a": jnp.array([5e-5])}
    weights, _, _ = step({"a": jnp.zeros(1)}, gradient, rate=1.0)
    theirs, _ = optax.scale_by_adam(eps=1e-5).update(gradient, optax.scale_by_adam().init(gradient))
    np.testing.assert_allclose([-weights["a"][0], theirs["a"][0]], [0.1365, 0.8333], rtol=1e-3)


def test_later_on_it_is_everybodys_adam():
    # After 5000 steps 1 - 0.999^5000 is 0.993: both see the same root.
    gradient, nothing, theirs = {"a": jnp.array([3e-4])}, {"a": jnp.zeros(1)}, optax.scale_by_adam(eps=1e-5)

    def ours(memory):
        return descend(nothing, memory, gradient, -1.0, epsilon=1e-5, max_grad_norm=1.0)[:2]

    def body(_, memories):
        return ours(memories[0])[1], theirs.update(gradient, memories[1])[1]

    mine, other = jax.lax.fori_loop(0, 5000, body, (adam(nothing), theirs.init(gradient)))
    np.testing.assert_allclose(ours(mine)[0]["a"], theirs.update(gradient, other)[0]["a"], rtol=1e-3)


def test_only_matrices_decay():
    like = {"matrix": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0), "scale": jnp.array(3.0)}
    zeros = jax.tree.map(jnp.zeros_like, like)
    weights, _, _ = step(like, zeros, rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(weights["matrix"], 3.0 - 0.1 * 0.5 * 3.0)
    np.testing.assert_array_equal(weights["bias"], 3.0)
    np.testing.assert_array_equal(weights["scale"], 3.0)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_and_its_norm_tells(bad):
    weights = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    sound = {"a": jnp.array([0.1, 0.2]), "b": jnp.array([[0.3]])}
    before = step(weights, sound)[:2]
    *after, norm = step(before[0], sound | {"a": jnp.array([0.1, bad])}, before[1], weight_decay=0.1)
    jax.tree.map(np.testing.assert_array_equal, tuple(after), before)
    assert not np.isfinite(norm)


def test_a_step_that_is_not_to_be_taken_changes_nothing():
    weights, gradients = {"a": jnp.ones((2, 2))}, {"a": jnp.full((2, 2), 0.1)}
    before = step(weights, gradients)[:2]
    after = step(before[0], gradients, before[1], weight_decay=0.1, moving=False)[:2]
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert step(before[0], gradients, before[1], moving=True)[0]["a"][0, 0] < before[0]["a"][0, 0]


# ---- sums over parts


def test_a_batch_in_parts():
    batch = {"ids": jnp.arange(12).reshape(6, 2)}
    parts = in_parts(batch, 2)
    assert parts["ids"].shape == (3, 2, 2)
    np.testing.assert_array_equal(parts["ids"][1], [[4, 5], [6, 7]])  # rows stay in order


def squared_error(weights, part):
    """A mean over the tokens of the whole batch, whose number the weights carry."""
    error = jnp.square(part["x"] * weights - 1.0)
    loss = jnp.sum(error * part["weight"])
    return loss, {"loss": loss, "count": jnp.sum(part["weight"])}


def uneven_batch(rows=8, length=5):
    x = jax.random.normal(jax.random.key(1), (rows, length))
    learn = jnp.arange(length) <= jnp.arange(rows)[:, None] % length  # rows of 1 to 5 tokens
    return {"x": x, "weight": learn / jnp.sum(learn)}


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_parts_have_the_gradient_of_the_whole(rows):
    batch, weights = uneven_batch(), jnp.array(0.3)
    whole, facts = summed_gradients(jax.grad(squared_error, has_aux=True), weights, in_parts(batch, 8))
    parts, shares = summed_gradients(jax.grad(squared_error, has_aux=True), weights, in_parts(batch, rows))
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    np.testing.assert_allclose(shares["loss"], facts["loss"], rtol=1e-6)
    np.testing.assert_allclose(shares["count"], 1.0, rtol=1e-6)


def test_a_mean_of_means_would_be_another_gradient():
    batch, weights = uneven_batch(), jnp.array(0.3)
    whole, _ = summed_gradients(jax.grad(squared_error, has_aux=True), weights, in_parts(batch, 8))
    own = jax.tree.map(lambda x: x, batch) | {
        "weight": batch["weight"] / batch["weight"].sum(axis=1, keepdims=True) / 8
    }
    other, _ = summed_gradients(jax.grad(squared_error, has_aux=True), weights, in_parts(own, 8))
    assert abs(float(whole - other)) > 0.01 * abs(float(whole))
