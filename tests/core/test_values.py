"""Three ways to be wrong about a value, and what each costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core import ClippedSquaredError, Huber, SquaredError

LOSSES = [SquaredError(), ClippedSquaredError(), Huber()]


def test_squared_error_by_hand():
    # 0.5 * (3 - 1)^2 = 2, and the gradient is the error itself: 3 - 1 = 2. The old value plays no part.
    loss, slope = jax.value_and_grad(SquaredError())(jnp.float32(3.0), jnp.float32(99.0), jnp.float32(1.0))
    assert (loss, slope) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (1.1, 2.0, 0.405, -0.9),  # near the old value 1: the plain error, 0.5 * 0.9^2
        (1.5, 2.0, 0.32, 0.0),  # too far towards the target: held at 1.2, 0.5 * 0.8^2, nothing to gain
        (0.5, 2.0, 1.125, -1.5),  # too far the wrong way: 0.5 * 1.5^2 is the larger, pulls back
        (3.0, 2.0, 0.5, 1.0),  # beyond the target: 0.5 * 1^2 is the larger, pulls back
        (0.5, -2.0, 3.92, 0.0),  # too far down towards the target: held at 0.8, 0.5 * 2.8^2
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_clipped_error_on_either_side_of_its_range(value, target, loss, slope, compiled):
    both = jax.value_and_grad(ClippedSquaredError(0.2))
    both = jax.jit(both) if compiled else both
    found = both(jnp.float32(value), jnp.float32(1.0), jnp.float32(target))
    np.testing.assert_allclose(found, (loss, slope), rtol=1e-5, atol=1e-6)


def test_clipping_around_the_value_itself_is_no_clipping():
    value, target = jnp.array([1.0, -3.0]), jnp.array([5.0, 5.0])
    np.testing.assert_array_equal(
        ClippedSquaredError(0.2)(value, value, target), SquaredError()(value, value, target)
    )


def test_huber_by_hand():
    error = jnp.array([-3.0, -0.5, 0.0, 1.0, 3.0])
    zero = jnp.zeros(5)
    # delta = 2: inside 0.5 e^2, outside 2 * (|e| - 1); the slope is the error, held within +-2
    np.testing.assert_allclose(Huber(2.0)(error, zero, zero), [4.0, 0.125, 0.0, 0.5, 4.0])
    slope = jax.grad(lambda value: Huber(2.0)(value, zero, zero).sum())(error)
    np.testing.assert_allclose(slope, [-2.0, -0.5, 0.0, 1.0, 2.0])
    # The target is what is subtracted: e = 1 - 4 = -3
    np.testing.assert_allclose(Huber(2.0)(jnp.float32(1.0), jnp.float32(0.0), jnp.float32(4.0)), 4.0)


def test_a_wide_huber_is_the_squared_error():
    value, target = jnp.array([1.0, -3.0]), jnp.array([5.0, 5.0])
    np.testing.assert_allclose(Huber(1e3)(value, value, target), SquaredError()(value, value, target))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda o: type(o).__name__)
def test_one_number_per_transition_and_none_negative(loss):
    draw = np.random.default_rng(0)
    value, old_value, target = (jnp.asarray(draw.normal(size=(4, 3)), jnp.float32) for _ in range(3))
    cost = loss(value, old_value, target)
    assert cost.shape == (4, 3)
    assert (cost >= 0).all()
    np.testing.assert_array_equal(loss(target, target, target), jnp.zeros((4, 3)))


def test_the_numbers_can_be_traced():
    at = jax.jit(lambda loss: loss(jnp.float32(3.0), jnp.float32(0.0), jnp.float32(0.0)))
    assert at(Huber(1.0)) == 2.5  # 1 * (3 - 0.5)
    assert at(ClippedSquaredError(1.0)) == 4.5  # 0.5 * 3^2, the larger
    assert at(SquaredError()) == 4.5
