"""Steps on one batch of responses, with a loss that says what it was given."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import options, run_epochs

from proximo.language.train.responses import Batch, Responses, cut_to_length
from proximo.language.train.sampling import mean_metrics, update_options
from proximo.learn.descend import adam

# Two responses of two and four tokens, in four columns; a prompt of two.
MASK = jnp.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


def shares(weights, part):
    """A loss of the tokens' shares times a weight; its ratio is the sum of their shares in the metrics."""
    loss = weights * jnp.sum(part.weight)
    return loss, {"loss/policy_avg": loss, "val/ratio": jnp.sum(part.share)}


def batch_of(mask, lengths):
    """Responses of these lengths after prompts of two."""
    rows, columns = mask.shape
    ids = jnp.ones((rows, 2 + columns), int)
    responses = Responses(ids, jnp.full(rows, 2), lengths, jnp.ones(rows, bool))
    return Batch(responses, mask, mask, mask, mask, value=mask, target=mask, critic=jnp.zeros(rows, int))


def updated(mask, order, rate=0.0, loss=shares, **steps):
    """The metrics of an update at a weight of 1, and the weight; responses have at most 16 tokens."""
    given = options(sampling=dict(response_length=16), steps=steps, optimisation={})
    batch, weights = batch_of(mask, jnp.sum(mask, axis=1).astype(int)), jnp.ones(())
    learning = jax.jit(partial(run_epochs, loss))
    order = jnp.array([order])
    weight, _, metrics = learning(weights, adam(weights), batch, order, rate, update_options(given))
    return metrics | {"weight": weight}


def test_the_constant_is_the_limit_of_a_response_not_the_columns():
    # Six tokens, two responses of at most 16: 6 / 32, in four columns as in eight.
    narrow = updated(MASK, [[0, 1]], aggregation="length")
    wide = updated(jnp.pad(MASK, ((0, 0), (0, 4))), [[0, 1]], aggregation="length")
    assert narrow["loss/policy_avg"] == wide["loss/policy_avg"] == 6 / 32


def test_a_step_without_tokens_says_nothing():
    history = {
        "counted": jnp.array([[0.0, 1.0, 1.0]]),
        "grad_norm": jnp.zeros((1, 3)),
        "val/ratio": jnp.array([[0.0, 1.0, 1.2]]),
        "policy/entropy_avg": jnp.array([[0.0, 2.0, 4.0]]),
    }
    means = mean_metrics(history)
    # (1.0 + 1.2) / 2 and (2 + 4) / 2; over all three steps they would be 0.73 and 2.
    np.testing.assert_allclose([means["val/ratio"], means["policy/entropy_avg"]], [1.1, 3.0], rtol=1e-6)
    assert means["val/first_ratio"] == 1.0 and "counted" not in means


def test_a_minibatch_of_masked_rows_is_such_a_step():
    # The first row has no token; the shares of the other two sum to 1 each.
    metrics = updated(jnp.concatenate([jnp.zeros((1, 4)), MASK]), [[0], [1], [2]])
    assert metrics["val/ratio"] == metrics["val/first_ratio"] == 1.0


def test_such_a_step_moves_nothing():
    # Adam's mean of older gradients would go on moving the weight, by 0.67 of the first step and more.
    mask = jnp.concatenate([MASK[:1], jnp.zeros((2, 4))])
    alone, followed = (updated(mask, order, rate=0.1)["weight"] for order in ([[0]], [[0], [1], [2]]))
    assert alone == followed < 1.0


def test_where_no_step_has_tokens_nothing_has_moved():
    metrics = jax.device_get(updated(0 * MASK, [[0], [1]]))
    assert metrics["val/ratio"] == metrics["val/first_ratio"] == 1.0
    assert metrics["loss/policy_avg"] == metrics["policy/grad_norm"] == 0.0


@pytest.mark.parametrize(("longest", "columns"), [(1, 3), (3, 3), (4, 6), (6, 6), (7, 11), (11, 11)])
def test_a_part_takes_all_columns_or_half_or_a_quarter_of_them(longest, columns):
    # Of 11 columns the half is 6 and the quarter 3; no response may lose a token.
    seen = []

    def gradient(weights, part):
        seen.append((part.responses.ids.shape, part.target.shape, part.bonus))
        return weights, {"columns": jnp.asarray(part.value.shape[1]), "ids": jnp.sum(part.responses.ids)}

    batch = batch_of(jnp.ones((2, 11)), jnp.array([1, longest]))
    _, metrics = cut_to_length(gradient)(jnp.ones(()), batch)
    assert metrics["columns"] == columns and metrics["ids"] == 2 * (2 + columns)
    assert seen == [((2, 2 + n), (2, n), None) for n in (3, 6, 11)]  # each is compiled once


@pytest.mark.parametrize(
    ("steps", "columns"),
    [
        ({"micro_batch_tokens": 20}, 8 + 8),
        # The two of one token go together, through a quarter of the columns, the others through all.
        ({"micro_batch_tokens": 20, "group_by_length": True}, 2 + 8),
        ({"group_by_length": True}, 8),  # one part: nothing to group
    ],
)
def test_responses_of_like_length_go_together(steps, columns):
    def counted(weights, part):
        loss, metrics = shares(weights, part)
        return loss, metrics | {"columns": jnp.asarray(part.mask.shape[1], float)}

    mask = jnp.arange(8) < jnp.array([8, 1, 8, 1])[:, None]
    metrics = updated(mask.astype(float), [[0, 1, 2, 3]], loss=counted, **steps)
    assert metrics["columns"] == columns
    assert metrics["val/ratio"] == pytest.approx(1.0)  # every token counts
