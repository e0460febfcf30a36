"""A policy with a memory: read in one pass, in stretches, row by row, it is the same policy."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import by_hand, close, small, turns, walk
from recurrent import Recurrent

from proximo.core.types import Continuous, Experience
from proximo.learn.batches import Sequences, Steps, cut_of
from proximo.learn.descend import adam
from proximo.learn.experience import advantages, predictions
from proximo.learn.update import State, minibatch_steps, task_of, whole_batch
from proximo.policies import ActorCritic, NetworkOptions, Output

T, N = 12, 3


@pytest.fixture(autouse=True)
def in_place_of_the_networks(monkeypatch):
    monkeypatch.setattr("proximo.policies.own_network.ActorCritic", Recurrent)


def policy_of(seed=0, features=2):
    return Recurrent(jax.random.key(seed), features, Continuous(2), NetworkOptions(hidden=(4,)))


def experience_of(policy, beside=False):
    """Twelve rows of three environments whose episodes end anywhere, in the middle of some."""
    keys = jax.random.split(jax.random.key(1), 6)
    over = np.array(jax.random.bernoulli(keys[0], 0.25, (T, N)))
    over[-1] = [True, False, False]
    died = np.array(jax.random.bernoulli(keys[1], 0.5, (T, N)))
    mask = np.ones((T, N), np.float32)
    if not beside:  # a seam is no end
        for t in range(1, T):
            over[t] &= ~over[t - 1]
        mask[1:] = ~over[:-1]
    final = {"final_obs": jax.random.normal(keys[5], (T, N, 2))} if beside else {}
    carry = {"hidden": jax.random.normal(keys[4], (N, 4)), "age": jnp.array([3, 7, 1])}
    return by_hand(
        obs=jax.random.normal(keys[2], (T + 1, N, 2)),
        action=jax.random.normal(keys[3], (T, N, 2)),
        reward=jax.random.normal(keys[3], (T, N, 1)),
        terminated=over & died,
        truncated=over & ~died,
        mask=mask,
        carry=carry,
        **final,
    )


def row_by_row(policy, experience):
    """Outputs of all rows, and the memory before each, with nothing but single steps."""
    carry, outputs, carries = experience.carry, [], []
    for obs, start in zip(experience.obs, experience.start, strict=True):
        carries.append(carry)
        output, carry = policy(obs, start, carry)
        outputs.append(output)
    return jax.tree.map(lambda *rows: jnp.stack(rows), *outputs), carries


@pytest.mark.parametrize("length", [1, 3, 4, 12])
@pytest.mark.parametrize("beside", [False, True])
def test_one_pass_in_stretches_is_row_by_row(length, beside):
    policy = policy_of()
    experience = experience_of(policy, beside)
    expected, carries = row_by_row(policy, experience)
    found = jax.jit(partial(predictions, length=length))(policy, experience)
    np.testing.assert_allclose(found.value, expected.value[:-1], atol=1e-6)
    np.testing.assert_allclose(found.distribution.mean, expected.distribution.mean[:-1], atol=1e-6)
    assert close(found.carry, jax.tree.map(lambda *rows: jnp.stack(rows), *carries[:-1:length]), 1e-6)
    # In a row that is over, the successor beside the stream is read with the memory after the row.
    successor = np.array(expected.value[1:])
    if beside:
        for t, n in np.argwhere(experience.over):
            memory = carries[t + 1]
            final = policy(experience.final_obs[t], jnp.zeros(N, bool), memory)[0].value
            successor[t, n] = final[n]
    np.testing.assert_allclose(found.next_value, successor, atol=1e-6)


def test_seams_and_successors_beside_the_stream_give_the_same_advantages():
    # s0 s1 s2 cut | s3 s4 s5 dead | s6 s7. What follows the time limit is read with its own episode in mind.
    s = jax.random.normal(jax.random.key(3), (8, 1, 2))
    policy = policy_of(1)
    carry = {"hidden": jnp.full((1, 4), 0.5), "age": jnp.array([2])}
    flag = lambda *rows: np.array(rows, bool)[:, None]  # noqa: E731
    number = lambda *rows: np.array(rows, np.float32)[:, None]  # noqa: E731
    seams = by_hand(
        obs=s,
        action=None,
        reward=number(1, 2, 0, 3, 4, 0, 5)[..., None],
        terminated=flag(0, 0, 0, 0, 1, 0, 0),
        truncated=flag(0, 1, 0, 0, 0, 0, 0),
        mask=number(1, 1, 0, 1, 1, 0, 1),
        carry=carry,
    )
    beside = by_hand(
        obs=s[jnp.array([0, 1, 3, 4, 6, 7])],
        action=None,
        reward=number(1, 2, 3, 4, 5)[..., None],
        terminated=flag(0, 0, 0, 1, 0),
        truncated=flag(0, 1, 0, 0, 0),
        mask=number(1, 1, 1, 1, 1),
        carry=carry,
        final_obs=s[jnp.array([0, 2, 0, 5, 0])],
    )
    # An experience goes on where one was under way, so its first row starts no episode.
    seams, beside = (e._replace(start=e.start.at[0].set(False)) for e in (seams, beside))
    options = small(walk("Box"), gamma=0.9, gae_lambda=0.5).update
    found = [advantages(predictions(policy, e, 1), e, options)[e.mask[:, 0] == 1] for e in (seams, beside)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0]).min() > 0.0


@pytest.mark.parametrize(("horizon", "length"), [(32, 16), (7, 7)])
def test_the_policy_that_acted_is_the_one_the_update_starts_from(horizon, length):
    # Episodes of at most 7 steps end inside of stretches, and later rollouts begin in the middle of some.
    config = small(
        walk("Box"), num_envs=4, horizon=horizon, minibatch_size=4 * horizon, epochs=1, hidden=(8,)
    )
    seen = []
    for learner, experience, noise, after, metrics in turns(config, 3):
        cut = cut_of(experience, config.update.minibatch_size)
        assert cut == Sequences(4 * horizon, length)
        predicted = predictions(learner.policy, jax.tree.map(jnp.asarray, experience), cut.length)
        np.testing.assert_allclose(predicted.distribution.sample(noise), experience.action, atol=1e-3)
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        assert not close(after.policy, learner.policy)
        seen.append((experience.carry["age"].max(), experience.start[1:].any()))
    assert max(age for age, _ in seen) > 0 and all(starts for _, starts in seen)


def test_every_epoch_reads_with_the_memory_of_the_policy_as_it_is_then():
    # Stretches of 6: in the second epoch the memory before the second stretch is another one.
    policy, options = policy_of(), small(walk("Box"), horizon=T, minibatch_size=18, epochs=1).update
    experience = experience_of(policy)
    cut = Sequences(18, 6)
    batch, _ = whole_batch(policy, experience, options, cut)
    task = task_of(batch, experience, options.objective, options, cut)
    other = policy_of(5)
    rows = task.rows(other)
    expected = predictions(other, experience, 6)
    assert close(rows.carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), expected.carry))
    assert not close(rows.carry, task.rows(policy).carry)
    assert rows.obs.shape == (6, 6, 2) and rows.carry["hidden"].shape == (6, 4)


def test_sequences_of_one_step_are_steps_with_a_memory_too():
    policy, options = policy_of(), small(walk("Box"), horizon=T, minibatch_size=18).update
    experience = experience_of(policy)
    start = State(policy, adam(policy), jnp.float32(1e-2), jnp.zeros((), bool))
    orders = Steps(18).order(jax.random.key(0), T * N)[None]
    after = []
    for cut in (Steps(18), Sequences(18, length=1)):
        batch, _ = whole_batch(policy, experience, options, cut)
        task = task_of(batch, experience, options.objective, options, cut)
        after.append(jax.jit(lambda start, task=task: minibatch_steps(start, orders, task))(start)[0])
    assert close(after[0].weights, after[1].weights, 1e-6)
    assert not close(after[0].weights, policy)


def test_a_policy_without_a_memory_learns_from_steps_and_carries_nothing():
    experience = experience_of(policy_of())._replace(carry=())
    networks = ActorCritic(jax.random.key(0), 2, Continuous(2), NetworkOptions(hidden=(4,)))
    cut = cut_of(experience, 6)
    batch, _ = whole_batch(networks, experience, small(walk("Box")).update, cut)
    assert cut == Steps(6) and batch.start is None and batch.carry == ()


class Numbers(NamedTuple):
    """A distribution of which one number is of each state, and one of all of them."""

    of_each: jax.Array
    of_all: jax.Array


def test_what_is_of_each_state_ends_with_the_rows_and_what_is_of_all_stays():
    rows, num_envs = 3, 2

    def policy(obs):
        return Output(Numbers(obs[..., 0], jnp.ones((rows, num_envs))), obs), ()

    nothing, mask = jnp.zeros((rows, num_envs), bool), jnp.ones((rows, num_envs))
    obs, start = jnp.zeros((rows + 1, num_envs, 1)), jnp.zeros((rows + 1, num_envs), bool)
    found = predictions(policy, Experience(obs, nothing, mask, nothing, nothing, nothing, mask, start), 1)
    assert found.distribution.of_each.shape == (rows, num_envs)
    assert found.distribution.of_all.shape == (rows, num_envs)
