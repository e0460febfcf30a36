"""How weights follow gradients: schedules, clipping, Adam, weight decay, and batches in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.errors import UserError
from proximo.language.train.optimise import (
    Optimisation,
    in_precision,
    learning_rate_at,
    rows_of_part,
)
from proximo.options import checked

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
    found = [learning_rate_at(options, 1.0 - done) for done in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(found, rates, atol=1e-6)


def test_a_warm_up_by_hand():
    options = Optimisation(learning_rate=2.0, schedule="linear", warmup=0.2)
    # It rises over the first fifth; what is left falls over the other four: 0.6 is half of that.
    found = [learning_rate_at(options, 1.0 - done) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
    np.testing.assert_allclose(found, [0.0, 1.0, 2.0, 1.0, 0.0], atol=1e-6)


def test_the_whole_run_may_be_a_warm_up():
    options = Optimisation(learning_rate=2.0, schedule="linear", warmup=1.0)
    np.testing.assert_allclose(
        [learning_rate_at(options, 1.0 - done) for done in (0.0, 0.5, 1.0)], [0.0, 1.0, 2.0]
    )


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
        checked(Optimisation(**wrong))


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
