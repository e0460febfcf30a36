"""What advantages and value targets are, in worked numbers. gamma is 0.1, so the digits show it.

Everything is [T, N], time first; `column` writes one environment's history from top to bottom.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo import core

GAMMA = 0.1

# Compiled once, so that thirty examples cost no more than one. The worked numbers run without jit too.
gae = jax.jit(core.gae)
td_lambda_returns = jax.jit(core.td_lambda_returns)
monte_carlo_returns = jax.jit(core.monte_carlo_returns)


def column(*numbers):
    return jnp.array(numbers, dtype=jnp.float32)[:, None]


def history(seed, steps=7, environments=3):
    """A consistent random history: within an episode, next_value[t] is value[t + 1]."""
    draw = np.random.default_rng(seed)
    shape = (steps, environments)
    reward, value, after = (draw.normal(size=shape).astype(np.float32) for _ in range(3))
    end = draw.random(shape) < 0.3
    died = end & (draw.random(shape) < 0.5)
    same_episode = 1.0 - end.astype(np.float32)
    discount = np.where(died, 0.0, GAMMA + 0.8 * draw.random()).astype(np.float32)
    next_value = after
    next_value[:-1] = np.where(end[:-1], after[:-1], value[1:])
    names = ("reward", "value", "next_value", "discount", "same_episode")
    return dict(
        zip(names, map(jnp.asarray, (reward, value, next_value, discount, same_episode)), strict=True)
    )


def without_value(rows):
    return {name: array for name, array in rows.items() if name != "value"}


seeds = st.integers(0, 10_000)
lambdas = st.sampled_from([0.0, 0.3, 0.95, 1.0])


# ---- worked numbers


@pytest.mark.parametrize("compiled", [False, True])
def test_gae_by_hand(compiled):
    advantage = (gae if compiled else core.gae)(
        reward=column(1.0, 2.0, 3.0),
        value=column(10.0, 20.0, 30.0),
        next_value=column(20.0, 30.0, 40.0),
        discount=column(0.1, 0.1, 0.1),
        same_episode=column(1.0, 1.0, 1.0),
        lam=0.5,
    )
    # delta_0 = 1 + 0.1 * 20 - 10 = -7      A_2 = -23
    # delta_1 = 2 + 0.1 * 30 - 20 = -15     A_1 = -15 + 0.1 * 0.5 * -23    = -16.15
    # delta_2 = 3 + 0.1 * 40 - 30 = -23     A_0 = -7  + 0.1 * 0.5 * -16.15 = -7.8075
    np.testing.assert_allclose(advantage, column(-7.8075, -16.15, -23.0), rtol=1e-6)


def test_a_termination_has_no_future_and_a_time_limit_has():
    # Column 0 dies in row 0, column 1 is cut there by a time limit; all else is equal.
    advantage = gae(
        reward=jnp.array([[1.0, 1.0], [2.0, 2.0]]),
        value=jnp.array([[10.0, 10.0], [20.0, 20.0]]),
        next_value=jnp.array([[50.0, 50.0], [30.0, 30.0]]),
        discount=jnp.array([[0.0, 0.1], [0.1, 0.1]]),
        same_episode=jnp.array([[0.0, 0.0], [1.0, 1.0]]),
        lam=1.0,
    )
    # row 0, died: 1 - 10 = -9      row 0, cut: 1 + 0.1 * 50 - 10 = -4      row 1: 2 + 0.1 * 30 - 20 = -15
    # Neither row 0 hears of the -15 behind it: that is another episode.
    np.testing.assert_allclose(advantage, [[-9.0, -4.0], [-15.0, -15.0]], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_td_lambda_by_hand(compiled):
    target = (td_lambda_returns if compiled else core.td_lambda_returns)(
        reward=column(1.0, 2.0, 3.0),
        next_value=column(20.0, 30.0, 40.0),
        discount=column(0.1, 0.1, 0.1),
        same_episode=column(1.0, 1.0, 1.0),
        lam=0.25,
    )
    # G_2 = 3 + 0.1 * 40                          = 7
    # G_1 = 2 + 0.1 * (0.75 * 30 + 0.25 * 7)      = 4.425
    # G_0 = 1 + 0.1 * (0.75 * 20 + 0.25 * 4.425)  = 2.610625
    np.testing.assert_allclose(target, column(2.610625, 4.425, 7.0), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_monte_carlo_by_hand(compiled):
    target = (monte_carlo_returns if compiled else core.monte_carlo_returns)(
        reward=column(1.0, 2.0, 3.0, 4.0, 5.0),
        next_value=column(20.0, 30.0, 70.0, 50.0, 60.0),
        discount=column(0.1, 0.0, 0.1, 0.1, 0.1),
        same_episode=column(1.0, 0.0, 0.0, 1.0, 1.0),
    )
    # row 4: the data ends, the episode does not: 5 + 0.1 * 60 = 11      row 3: 4 + 0.1 * 11 = 5.1
    # row 2: time limit, the value stands for the rest: 3 + 0.1 * 70 = 10
    # row 1: death: 2                                                  row 0: 1 + 0.1 * 2 = 1.2
    np.testing.assert_allclose(target, column(1.2, 2.0, 10.0, 5.1, 11.0), rtol=1e-6)


def test_one_step_is_enough():
    # T = 1 still has a successor, so it still has an advantage: 1 + 0.1 * 20 - 10 = -7
    one = column(1.0)
    advantage = gae(one, column(10.0), column(20.0), column(0.1), one, 0.95)
    np.testing.assert_allclose(advantage, column(-7.0), rtol=1e-6)


# ---- identities


@given(seeds)
def test_lambda_0_is_the_td_error(seed):
    rows = history(seed)
    error = rows["reward"] + rows["discount"] * rows["next_value"] - rows["value"]
    np.testing.assert_allclose(gae(**rows, lam=0.0), error, atol=1e-5)
    np.testing.assert_allclose(
        td_lambda_returns(**without_value(rows), lam=0.0), error + rows["value"], atol=1e-5
    )


@given(seeds)
def test_lambda_1_is_the_return_minus_the_value(seed):
    rows = history(seed)
    seen = monte_carlo_returns(**without_value(rows))
    np.testing.assert_allclose(gae(**rows, lam=1.0), seen - rows["value"], atol=1e-4)
    np.testing.assert_allclose(td_lambda_returns(**without_value(rows), lam=1.0), seen, atol=1e-4)


@given(seeds, lambdas)
def test_the_lambda_return_is_the_advantage_plus_the_value(seed, lam):
    rows = history(seed)
    target = td_lambda_returns(**without_value(rows), lam=lam)
    np.testing.assert_allclose(gae(**rows, lam=lam) + rows["value"], target, atol=1e-4)


@given(seeds, lambdas)
def test_gae_is_the_sum_that_the_paper_writes(seed, lam):
    # Eq. 11: A_t = delta_t + (gamma lam) delta_{t+1} + ... + (gamma lam)^{T-1-t} delta_{T-1}
    rows = history(seed)
    rows["discount"] = jnp.full_like(rows["discount"], GAMMA)
    rows["same_episode"] = jnp.ones_like(rows["discount"])
    delta = np.asarray(rows["reward"] + GAMMA * rows["next_value"] - rows["value"])
    steps = len(delta)
    expected = [sum((GAMMA * lam) ** (k - t) * delta[k] for k in range(t, steps)) for t in range(steps)]
    np.testing.assert_allclose(gae(**rows, lam=lam), np.stack(expected), atol=1e-5)


def test_constant_reward_under_a_time_limit():
    # V = r / (1 - gamma) = 1 / 0.9 is what it is worth for ever. With that value nothing is left to
    # learn: every advantage is 0, in the row of the time limit too. (A death there would leave -0.111.)
    worth = column(*[1 / 0.9] * 6)
    ones, cut = column(*[1.0] * 6), column(1.0, 1.0, 0.0, 1.0, 1.0, 0.0)
    for lam in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(gae(ones, worth, worth, 0.1 * ones, cut, lam), 0.0 * ones, atol=1e-6)
        np.testing.assert_allclose(td_lambda_returns(ones, worth, 0.1 * ones, cut, lam), worth, rtol=1e-6)
    np.testing.assert_allclose(monte_carlo_returns(ones, worth, 0.1 * ones, cut), worth, rtol=1e-6)


# ---- what must not matter


@given(seeds, st.integers(1, 6), lambdas)
def test_joined_trajectories_equal_separate_ones(seed, cut, lam):
    rows = history(seed)
    rows["same_episode"] = rows["same_episode"].at[cut - 1].set(0.0)
    first = {name: array[:cut] for name, array in rows.items()}
    second = {name: array[cut:] for name, array in rows.items()}
    for estimate, choose in (
        (lambda r: gae(**r, lam=lam), dict),
        (lambda r: td_lambda_returns(**r, lam=lam), without_value),
        (lambda r: monte_carlo_returns(**r), without_value),
    ):
        apart = jnp.concatenate([estimate(choose(first)), estimate(choose(second))])
        np.testing.assert_allclose(estimate(choose(rows)), apart, atol=1e-6)


@given(seeds, st.permutations(range(3)))
def test_environments_do_not_meet(seed, order):
    rows = history(seed)
    shuffled = {name: array[:, jnp.array(order)] for name, array in rows.items()}
    np.testing.assert_array_equal(gae(**shuffled, lam=0.9), gae(**rows, lam=0.9)[:, jnp.array(order)])


@pytest.mark.parametrize("garbage", [jnp.nan, jnp.inf, -jnp.inf, 1e30])
def test_a_seam_row_keeps_its_garbage_to_itself(garbage):
    # Row 1 dies; row 2 is the seam, where nobody acted; row 3 begins the next episode.
    def estimates(seam):
        reward = column(1.0, 2.0, seam, 4.0)
        value = column(10.0, 20.0, seam, 40.0)
        next_value = column(20.0, seam, seam, 50.0)  # after a death the successor is anybody's guess
        discount, same = column(0.1, 0.0, 0.1, 0.1), column(1.0, 0.0, 0.0, 1.0)
        return jnp.concatenate(
            [
                gae(reward, value, next_value, discount, same, 0.5),
                td_lambda_returns(reward, next_value, discount, same, 0.5),
                monte_carlo_returns(reward, next_value, discount, same),
            ],
            axis=1,
        )

    rows = jnp.array([0, 1, 3])
    np.testing.assert_array_equal(estimates(garbage)[rows], estimates(0.0)[rows])


def test_no_gradient_comes_from_a_seam():
    def total(value):
        same = column(1.0, 0.0, 0.0, 1.0)
        return gae(same, value, jnp.full((4, 1), jnp.nan), column(0.0, 0.0, 0.1, 0.0), same, 0.5)[:2].sum()

    gradient = jax.grad(total)(column(1.0, 2.0, jnp.nan, 4.0))
    np.testing.assert_allclose(gradient, column(-1.0, -1.0, 0.0, 0.0))


def test_lambda_may_be_an_array_and_differ_between_members():
    rows = history(0)
    members = jax.vmap(lambda lam: gae(**rows, lam=lam))(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(members[0], gae(**rows, lam=0.0), atol=1e-6)
    np.testing.assert_allclose(members[1], gae(**rows, lam=0.9), atol=1e-6)
    targets = jax.vmap(lambda lam: td_lambda_returns(**without_value(rows), lam=lam))(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(targets, members + rows["value"], atol=1e-5)
