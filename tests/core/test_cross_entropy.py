"""How a population of parameters moves towards what worked best."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core.cross_entropy import Population, candidates, refit

seeds = st.integers(0, 10_000)
START = Population(jnp.array([1.0, 2.0]), jnp.array([0.5, 2.0]))
BEST = jnp.array([3.0, -2.0])


def search(seed, start, extra_std, rounds=40, tried=50, elite=10):
    """The population after a search for the top of -|w - BEST|^2."""

    def one_round(state, key):
        tries = candidates(state, jax.random.normal(key, (tried, start.mean.size)))
        return refit(state, tries, -jnp.sum(jnp.square(tries - BEST), axis=-1), elite, extra_std), None

    return jax.lax.scan(one_round, start, jax.random.split(jax.random.key(seed), rounds))[0]


@pytest.mark.parametrize("compiled", [False, True])
def test_candidates_by_hand(compiled):
    noise = jnp.array([[1.0, -1.0], [0.0, 2.0], [-2.0, 0.0]])
    # [1 + 0.5, 2 - 2], [1, 2 + 4], [1 - 1, 2]
    drawn = (jax.jit(candidates) if compiled else candidates)(START, noise)
    np.testing.assert_allclose(drawn, [[1.5, 0.0], [1.0, 6.0], [0.0, 2.0]])


@pytest.mark.parametrize("compiled", [False, True])
def test_refit_by_hand(compiled):
    fit = jax.jit(refit, static_argnames="elite") if compiled else refit
    tries = jnp.array([[1.0, 4.0], [50.0, 60.0], [3.0, 10.0], [-70.0, 80.0]])
    fitness = jnp.array([5.0, -1.0, 9.0, 4.0])
    # Rows 2 and 0 are best. Means (1 + 3) / 2 and (4 + 10) / 2; variances 1 and 9.
    found = fit(START, tries, fitness, elite=2, extra_std=0.0)
    np.testing.assert_allclose(found.mean, [2.0, 7.0])
    np.testing.assert_allclose(found.std, [1.0, 3.0])
    # With noise of 0.75: sqrt(1 + 0.5625) = 1.25, sqrt(9 + 0.5625) = 3.092329
    np.testing.assert_allclose(fit(START, tries, fitness, elite=2, extra_std=0.75).std, [1.25, 3.092329])
    # One alone has no spread but the noise.
    alone = fit(START, tries, fitness, elite=1, extra_std=0.75)
    np.testing.assert_allclose(alone, [[3.0, 10.0], [0.75, 0.75]])


def test_not_a_number_ranks_last():
    tries = jnp.array([[1.0], [2.0], [3.0], [4.0]])
    fitness = jnp.array([jnp.nan, -jnp.inf, jnp.inf, -5.0])
    state = Population(jnp.array([7.0]), jnp.array([8.0]))
    # In order: 3, 4, 2, and then the 1 that failed.
    for elite, mean in ((1, 3.0), (2, 3.5), (3, 3.0)):
        assert refit(state, tries, fitness, elite, 0.0).mean == mean
    # Where a failure would be among the elite nothing is learnt.
    np.testing.assert_array_equal(refit(state, tries, fitness, 4, 0.5), state)


@given(seeds, st.permutations(range(8)))
def test_neither_the_order_nor_the_scale_of_fitness_matters(seed, order):
    draw = np.random.default_rng(seed)
    tries = jnp.asarray(draw.normal(size=(8, 2)), jnp.float32)
    fitness = jnp.asarray(draw.permutation(8), jnp.float32)
    found = refit(START, tries, fitness, 3, 0.1)
    order = jnp.array(order)
    for same in (
        refit(START, tries[order], fitness[order], 3, 0.1),
        refit(START, tries, jnp.exp(fitness) - 100.0, 3, 0.1),
    ):
        np.testing.assert_allclose(same.mean, found.mean, atol=1e-6)
        np.testing.assert_allclose(same.std, found.std, atol=1e-6)


@given(seeds)
def test_all_of_them_are_their_mean_and_spread(seed):
    draw = np.random.default_rng(seed)
    tries, fitness = draw.normal(size=(6, 2)).astype(np.float32), draw.normal(size=6).astype(np.float32)
    found = refit(START, jnp.asarray(tries), jnp.asarray(fitness), 6, 0.0)
    np.testing.assert_allclose(found.mean, tries.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.std, tries.std(axis=0), atol=1e-5)


@pytest.mark.parametrize("elite", [-1, 0, 5])
def test_an_elite_that_is_none_is_refused(elite):
    with pytest.raises(ValueError, match=f"elite is {elite}: there are 4 candidates"):
        refit(START, jnp.zeros((4, 2)), jnp.zeros(4), elite, 0.0)


def test_it_finds_the_top():
    start = Population(jnp.zeros(2), jnp.full(2, 5.0))
    found = jax.jit(jax.vmap(partial(search, start=start, extra_std=0.0)))(jnp.arange(5))
    np.testing.assert_allclose(found.mean, jnp.broadcast_to(BEST, (5, 2)), atol=1e-3)
    assert (found.std < 1e-3).all()


def test_the_noise_keeps_the_search_alive():
    # The top is 36 standard deviations away: alone, the spread is gone long before it is reached.
    start = Population(jnp.zeros(2), jnp.full(2, 0.1))
    found = jax.jit(jax.vmap(partial(search, 0, start)))(jnp.array([0.0, 0.2]))
    plain, noisy = jnp.linalg.norm(found.mean - BEST, axis=-1)
    assert plain > 2.0 and noisy < 0.3
    assert (found.std[0] < 1e-3).all() and (found.std[1] >= 0.2).all()
