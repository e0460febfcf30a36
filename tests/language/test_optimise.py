"""How weights follow gradients: schedules, clipping, Adam, weight decay, and batches in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from proximo.errors import UserError
from proximo.language.optimise import (
    Optimisation,
    adam,
    descended,
    in_parts,
    in_precision,
    learning_rate_at,
    rows_of_part,
    summed_gradients,
)

# ---- schedules


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # After 0, 1/4, 1/2 and all of the run.
        ("constant", [2.0, 2.0, 2.0, 2.0]),
        ("linear", [2.0, 1.5, 1.0, 0.0]),
        ("cosine", [2.0, 1.0 + 0.5**0.5, 1.0, 0.0]),  # 1 + cos(45 degrees)
    ],
)
def test_a_schedule_by_hand(schedule, rates):
    options = Optimisation(learning_rate=2.0, schedule=schedule)
    found = [learning_rate_at(options, done) for done in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(found, rates, atol=1e-6)


def test_a_warm_up_by_hand():
    options = Optimisation(learning_rate=2.0, schedule="linear", warmup=0.2)
    # It rises over the first fifth; what is left falls over the other four: 0.6 is half of that.
    found = [learning_rate_at(options, done) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
    np.testing.assert_allclose(found, [0.0, 1.0, 2.0, 1.0, 0.0], atol=1e-6)


def test_the_whole_run_may_be_a_warm_up():
    options = Optimisation(learning_rate=2.0, schedule="linear", warmup=1.0)
    np.testing.assert_allclose([learning_rate_at(options, done) for done in (0.0, 0.5, 1.0)], [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    "wrong",
    [
        dict(learning_rate=-1e-5),
        dict(learning_rate=float("nan")),
        dict(warmup=1.5),
        dict(adam_beta1=1.0),
        dict(adam_epsilon=0.0),
        dict(max_grad_norm=0.0),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Optimisation(**wrong).checked()


# ---- one step

EPSILON = 0.5 * 0.001**0.5  # in the first step it counts as a half


def step(weights, gradients, moments=None, rate=0.1, **options):
    options = Optimisation(**options)
    moments = adam(options).init(weights) if moments is None else moments
    return jax.jit(lambda w, m, g: descended(w, m, g, rate, options))(weights, moments, gradients)


def test_a_first_step_by_hand():
    # sqrt(1 - 0.999) / (1 - 0.9) * 0.1 g / (sqrt(0.001) |g| + epsilon) = g / (|g| + epsilon / sqrt(0.001)):
    # with EPSILON for a half 0.5 / (0.5 + 0.5), -1.5 / (1.5 + 0.5).
    weights, _, norm = step(
        {"a": jnp.array([1.0, 1.0])},
        {"a": jnp.array([0.5, -1.5])},
        adam_epsilon=EPSILON,
        max_grad_norm=jnp.inf,
    )
    np.testing.assert_allclose(weights["a"], [1.0 - 0.1 * 0.5, 1.0 + 0.1 * 0.75], rtol=1e-6)
    np.testing.assert_allclose(norm, 2.5**0.5)


def test_the_norm_is_clipped_over_all_arrays_together():
    # Norm 5, held below 1: gradients 0.6 and 0.8, steps 0.6 / (0.6 + 0.5) and 0.8 / (0.8 + 0.5).
    weights, _, norm = step(
        {"a": jnp.zeros(1), "b": jnp.zeros((1, 1))},
        {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])},
        adam_epsilon=EPSILON,
    )
    np.testing.assert_allclose(norm, 5.0)
    np.testing.assert_allclose(weights["a"], [-0.1 * 0.6 / 1.1], rtol=1e-5)
    np.testing.assert_allclose(weights["b"], [[-0.1 * 0.8 / 1.3]], rtol=1e-5)


def test_a_small_gradient_is_not_made_larger():
    weights, _, _ = step({"a": jnp.zeros(1)}, {"a": jnp.array([0.5])}, adam_epsilon=EPSILON)
    np.testing.assert_allclose(weights["a"], [-0.05], rtol=1e-5)  # 0.5 / (0.5 + 0.5)


def test_the_first_step_of_a_small_gradient_is_a_sixth_of_what_pytorchs_adam_takes():
    # 5e-5 / (5e-5 + 1e-5 / sqrt(0.001)) = 0.1365 against 5e-5 / (5e-5 + 1e-5) = 0.8333.
    gradient = {"a": jnp.array([5e-5])}
    weights, _, _ = step({"a": jnp.zeros(1)}, gradient, rate=1.0)
    theirs, _ = optax.scale_by_adam(eps=1e-5).update(gradient, optax.scale_by_adam().init(gradient))
    np.testing.assert_allclose([-weights["a"][0], theirs["a"][0]], [0.1365, 0.8333], rtol=1e-3)


def test_later_on_it_is_everybodys_adam():
    # After 5000 steps 1 - 0.999^5000 is 0.993: both see the same root.
    gradient, options = {"a": jnp.array([3e-4])}, Optimisation()
    ours, theirs = adam(options), optax.scale_by_adam(eps=1e-5)

    def body(_, states):
        return [one.update(gradient, state)[1] for one, state in zip((ours, theirs), states, strict=True)]

    states = jax.lax.fori_loop(0, 5000, body, [one.init(gradient) for one in (ours, theirs)])
    steps = [one.update(gradient, state)[0]["a"] for one, state in zip((ours, theirs), states, strict=True)]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-3)


def test_only_matrices_decay():
    like = {"matrix": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0), "scale": jnp.array(3.0)}
    zeros = jax.tree.map(jnp.zeros_like, like)
    weights, _, _ = step(like, zeros, rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(weights["matrix"], 3.0 - 0.1 * 0.5 * 3.0)
    np.testing.assert_array_equal(weights["bias"], 3.0)
    np.testing.assert_array_equal(weights["scale"], 3.0)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad):
    weights = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    sound = {"a": jnp.array([0.1, 0.2]), "b": jnp.array([[0.3]])}
    before = step(weights, sound)[:2]
    *after, norm = step(before[0], sound | {"a": jnp.array([0.1, bad])}, before[1], weight_decay=0.1)
    jax.tree.map(np.testing.assert_array_equal, tuple(after), before)
    assert not np.isfinite(norm)


# ---- precision


def test_passes_compute_in_fewer_bits_and_gradients_come_back_whole():
    options = Optimisation(precision="bfloat16")
    weights = {"a": jnp.array([1.001, 2.0]), "number": jnp.array(3)}
    seen = in_precision(weights, options)
    assert seen["a"].dtype == jnp.bfloat16 and seen["number"].dtype == jnp.int32
    gradient = jax.grad(lambda a: jnp.sum(in_precision(a, options) ** 2).astype(jnp.float32))(weights["a"])
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, [2.0, 4.0])  # 1.001 is 1 in bfloat16
    assert in_precision(weights, Optimisation()) is weights


# ---- batches in parts


def test_a_batch_in_parts():
    batch = {"ids": jnp.arange(12).reshape(6, 2)}
    parts = in_parts(batch, 2)
    assert parts["ids"].shape == (3, 2, 2)
    np.testing.assert_array_equal(parts["ids"][1], [[4, 5], [6, 7]])  # rows stay in order


@pytest.mark.parametrize(
    ("rows", "width", "tokens", "part"),
    [
        (8, 100, None, 8),  # on a CPU about 1024 tokens: 800 are nearest
        (64, 64, None, 16),
        (67, 64, None, 67),  # one row at a time would be 64 tokens, sixteen times too few; all are four times
        (8, 100, 800, 8),
        (8, 100, 799, 4),  # 7 rows would fit, but do not divide 8
        (6, 100, 399, 3),
        (7, 100, 600, 1),
        (8, 100, 50, 1),  # one row has to go through, however long
    ],
)
def test_rows_of_a_part(rows, width, tokens, part):
    assert rows_of_part(rows, width, tokens) == part


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
