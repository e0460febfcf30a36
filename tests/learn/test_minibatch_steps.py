"""The engine of both homes: steps on minibatches of rows, what they leave alone, and where they stop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import equal, small, turns, walk

from proximo.learn.batches import Batch, Sequences, Steps, take
from proximo.learn.descend import adam, descend
from proximo.learn.experience import normalised, whole_batch
from proximo.learn.update import (
    State,
    Task,
    largest_epoch,
    minibatch_step,
    minibatch_steps,
    task_of,
    update,
)

BATCH = {"x": jnp.arange(1.0, 9.0), "mask": jnp.array([1.0, 1, 1, 0, 1, 1, 1, 1])}
ORDER = jnp.arange(8).reshape(1, 2, 4)  # one epoch: rows 0 to 3, then 4 to 7


def gradient(weights, part):
    """Of the sum of weight x w: its share is the gradient."""
    share = jnp.sum(part["x"] * part["weight"])
    return {"w": share}, {"train/approx_kl": share, "mean": share}


def prepared(minibatch):
    count = jnp.sum(minibatch["mask"])
    return minibatch | {"weight": minibatch["mask"] / jnp.maximum(count, 1)}, count > 0


def plain(weights, memory, gradients, rate, moving):
    """A step of gradient descent, so that the numbers can be followed."""
    norm = jnp.abs(gradients["w"])
    moved = jnp.where(moving & jnp.isfinite(norm), weights["w"] - rate * gradients["w"], weights["w"])
    return {"w": moved}, memory, norm


def steps(batch=BATCH, order=ORDER, weights=0.0, **changes):
    task = Task(
        **{
            "rows": lambda weights: batch,
            "prepare": prepared,
            "gradient": gradient,
            "descend": plain,
        }
        | changes
    )
    weights = {"w": jnp.asarray(weights)}
    start = State(weights, adam(weights), jnp.asarray(0.1), jnp.zeros((), bool))
    return jax.jit(lambda start, order: minibatch_steps(start, order, task))(start, order)


def test_two_steps_by_hand():
    # Rows 1, 2, 3 count in the first minibatch: mean 2. Then 5, 6, 7, 8: mean 6.5. w = -0.1 (2 + 6.5)
    state, history = steps()
    np.testing.assert_allclose(state.weights["w"], -0.85, rtol=1e-6)
    np.testing.assert_allclose(history["mean"], [[2.0, 6.5]], rtol=1e-6)
    np.testing.assert_allclose(history["grad_norm"], [[2.0, 6.5]], rtol=1e-6)
    assert history["counted"].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("part_rows", [1, 2, 4])
def test_parts_are_the_whole(part_rows):
    state, history = steps(part_rows=part_rows)
    np.testing.assert_allclose(state.weights["w"], -0.85, rtol=1e-6)
    np.testing.assert_allclose(history["mean"], [[2.0, 6.5]], rtol=1e-6)


def test_where_nothing_counts_nothing_moves_not_even_by_momentum():
    batch = BATCH | {"mask": BATCH["mask"].at[4:].set(0.0)}
    real = partial(descend, max_grad_norm=10.0, epsilon=1e-5)
    once, _ = steps(batch, ORDER[:, :1], descend=real)
    both, history = steps(batch, descend=real)
    assert both.weights == once.weights and int(both.adam.count) == 1
    assert history["counted"].tolist() == [[1.0, 0.0]]


def test_the_minibatch_past_the_target_is_not_stepped_on_nor_any_after_it():
    # A target of 4 stops at 6: 2 is below, 6.5 is not. Of the second epoch nothing is looked at.
    state, history = steps(order=jnp.concatenate([ORDER, ORDER]), target_kl=4.0)
    np.testing.assert_allclose(state.weights["w"], -0.2, rtol=1e-6)
    assert bool(state.stopped)
    assert history["counted"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    np.testing.assert_allclose(history["mean"], [[2.0, 6.5], [0.0, 0.0]], rtol=1e-6)


def test_every_epoch_sees_its_own_rows():
    # The rows are the weights of its start: 1 at first, then 1 - 0.1 (2 x 1) = 0.8, so 0.8 - 0.1 (2 x 0.8).
    def rows(weights):
        return {"x": jnp.full(8, weights["w"]), "mask": jnp.ones(8)}

    state, _ = steps(order=jnp.concatenate([ORDER, ORDER]), weights=1.0, rows=rows)
    np.testing.assert_allclose(state.weights["w"], 0.64, rtol=1e-6)


def test_what_follows_an_epoch_is_for_the_next_one():
    # The rate is halved after each: 0.1 (2 + 6.5) + 0.05 (2 + 6.5)
    def halved(before, after):
        return after._replace(learning_rate=before.learning_rate / 2)

    state, _ = steps(order=jnp.concatenate([ORDER, ORDER]), after_epoch=halved)
    np.testing.assert_allclose(state.weights["w"], -1.275, rtol=1e-6)


# ---- rows of single steps, and of sequences


def test_sequences_keep_their_order_and_cover_every_sample_once():
    # T = 4, N = 2, stretches of 2: the entry of step t of environment n is 10 t + n.
    entry = 10 * jnp.arange(4)[:, None] + jnp.arange(2)
    cut = Sequences(minibatch_size=4, length=2)
    batch = Batch(*(entry,) * len(Batch._fields))._replace(carry=entry[::2])  # memory before steps 0 and 2
    rows = cut.rows(batch)
    assert rows.obs.tolist() == [[0, 10], [1, 11], [20, 30], [21, 31]]
    assert rows.carry.tolist() == [0, 1, 20, 21]  # one for each stretch
    order = cut.order(jax.random.key(0), 8)
    assert order.shape == (2, 2) and sorted(order.ravel().tolist()) == [0, 1, 2, 3]
    seen = cut.as_seen(take(rows, jnp.array([3, 0])))
    assert seen.obs.tolist() == [[21, 0], [31, 10]]  # time first
    assert seen.carry.tolist() == [21, 0]


def test_sequences_of_one_step_are_steps_bit_for_bit():
    config = small("HalfCheetah-v5", num_envs=4, horizon=16, minibatch_size=16, epochs=2, hidden=(8,))
    learner, rollout, _, _, _ = next(turns(config, 1))
    rollout, options = jax.tree.map(jnp.asarray, rollout), config.update
    seen, _ = normalised(rollout, learner.observations, learner.rewards, options)
    batch, _ = whole_batch(learner.policy, seen, options, Steps(16))
    start = State(learner.policy, learner.optimiser, jnp.float32(1e-2), jnp.zeros((), bool))
    orders = jax.vmap(lambda key: Steps(16).order(key, 64))(jax.random.split(jax.random.key(0), 2))
    after = []
    for cut in (Steps(16), Sequences(16, length=1)):
        assert jnp.array_equal(cut.order(jax.random.key(1), 64), Steps(16).order(jax.random.key(1), 64))
        task = task_of(batch, seen, learner.objective, options, cut)
        after.append(jax.jit(lambda start, task=task: minibatch_steps(start, orders, task))(start))
    assert equal(after[0], after[1])
    assert not equal(after[0][0].weights, learner.policy)


# ---- control goes through here; so do language models: tests/language/test_one_engine.py


def without_a_step(state, minibatch, task):
    """What stands for the engine when it is taken out: the same metrics, nothing learned."""
    _, metrics = minibatch_step(state, minibatch, task)
    return state, metrics


def test_a_training_takes_its_steps_here(monkeypatch):
    config = small(walk("Discrete"), num_envs=2, horizon=8, minibatch_size=8, epochs=1, hidden=(4,))
    learner, rollout, _, after, _ = next(turns(config, 1))
    assert not equal(after.policy, learner.policy)
    monkeypatch.setattr("proximo.learn.update.minibatch_step", without_a_step)
    broken, _ = update.__wrapped__(learner, jax.tree.map(jnp.asarray, rollout), config.update, 1.0)
    assert equal(broken.policy, learner.policy)


def test_the_largest_epoch_is_that_of_the_largest_mean_of_counted_steps():
    """Means 0.2, (0.1 + 0.5) / 2 = 0.3, and 0.25 of the only step that counted."""
    values = jnp.array([[0.1, 0.3], [0.1, 0.5], [0.25, 9.0]])
    counted = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(largest_epoch(values, counted), 0.3, rtol=1e-6)
    assert largest_epoch(values, jnp.zeros((3, 2))) == 0.0
