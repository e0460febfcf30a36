"""The page that a learner reads first is the library: its first update is equal, and it learns."""

from itertools import islice

import jax
import numpy as np
import pytest

import proximo
from examples import ppo
from proximo.control.learner import new_learner
from proximo.control.streams import streams
from proximo.core import Experience
from proximo.envs import make_envs
from proximo.learn.update import update


def network_of(key, sizes):
    """The page's network as one of the library's user."""
    return ppo.ActorCritic(key, sizes.features, sizes.outputs)


def as_experience(rollout):
    """The page's rollout as the library has it."""
    return Experience(
        obs=rollout.obs,
        action=rollout.action,
        reward=rollout.reward[..., None],
        terminated=rollout.terminated,
        truncated=rollout.over & ~rollout.terminated,
        over=rollout.over,
        mask=rollout.mask.astype(np.float32),
        start=np.zeros((ppo.T + 1, ppo.N), bool),
    )


@pytest.fixture(scope="module")
def learner():
    """A run of the library with the options of the page, before its first rollout."""
    config = proximo.with_options(
        proximo.preset("default", "CartPole-v1"),
        network=network_of,
        advantages="once",
        normalise_observations=False,
        normalise_rewards=False,
    )
    with make_envs("CartPole-v1", config.num_envs) as envs:
        return config, new_learner(config, envs, streams(0))


def test_the_options_of_the_page_are_those_of_the_recipe(learner):
    config, update = learner[0], learner[0].update
    assert (config.steps, config.num_envs, config.horizon) == (ppo.STEPS, ppo.N, ppo.T)
    assert (update.epochs, update.minibatch_size) == (ppo.EPOCHS, ppo.MINIBATCH)
    assert (update.gamma, update.gae_lambda) == (ppo.GAMMA, ppo.LAMBDA)
    assert (update.learning_rate, update.max_grad_norm) == (ppo.LEARNING_RATE, ppo.MAX_GRAD_NORM)
    assert (update.objective, update.value_loss) == (ppo.OBJECTIVE, ppo.VALUE_LOSS)
    assert (update.value_coefficient, update.entropy_coefficient) == (ppo.VALUE_COEFFICIENT, 0.0)


def test_its_first_update_is_the_librarys(learner):
    config, learner = learner
    network = ppo.eqx.combine(learner.policy.parameters, learner.policy.rest)
    envs = ppo.gym.make_vec("CartPole-v1", ppo.N)
    obs, over = envs.reset(seed=0)[0], np.zeros(ppo.N, bool)
    rollout, *_ = ppo.collect(envs, network, obs, over, jax.random.key(1))
    assert rollout.over.sum() > 0 and (rollout.mask == 0).any()
    after, _ = update(learner, as_experience(rollout), config.update, 1.0)
    optimiser = ppo.OPTIMISER.init(ppo.eqx.filter(network, ppo.eqx.is_array))
    _, key = jax.random.split(learner.key)
    ours, _ = ppo.update(network, optimiser, rollout, key)
    for page, library in zip(arrays(ours), arrays(after.policy.parameters), strict=True):
        np.testing.assert_allclose(page, library, atol=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(arrays(ours), arrays(network), strict=True)]
    assert min(moved) > 1e-3  # each of them moved a thousand times as far


def arrays(tree):
    """Its arrays of numbers."""
    return jax.tree.leaves(ppo.eqx.filter(tree, ppo.eqx.is_array))


def test_it_learns():
    """The first 12 of 195 updates; a random policy has a mean return of about 22."""
    steps, mean_return = next(islice(ppo.train(), 11, None))
    assert 12_000 < steps <= 12 * ppo.N * ppo.T and mean_return > 40
