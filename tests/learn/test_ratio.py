"""Before the first gradient step of an update the ratio of new to old policy is 1.

The test that finds most: the policy that acted, seen through the environment's loop, and the policy that
the update starts from are the same, for every distribution, with shared and separate networks, and also
after the observation statistics have moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import small, turns, walk

from proximo.learn.batches import Sequences, cut_of
from proximo.learn.experience import predictions
from proximo.policies.attention import Transformer
from proximo.policies.distributions import (
    BoundedBeta,
    StateDependentExploration,
    StateDependentNormal,
    TanhNormal,
)
from proximo.policies.memory import Gru, Lstm

KINDS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")
CASES = [
    *((kind, "separate", "raw") for kind in KINDS),
    *((kind, "shared", "normalised") for kind in KINDS),
    ("Box", "separate", "normalised"),
    ("Discrete", "shared", "raw"),
]


DISTRIBUTIONS = [
    StateDependentNormal(),
    TanhNormal(),
    BoundedBeta(),
    StateDependentExploration(interval=5),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda one: type(one).__name__)
def test_every_distribution_that_acted_is_the_one_the_update_starts_from(distribution):
    config = small(
        walk("Box"),
        num_envs=4,
        horizon=12,
        minibatch_size=48,
        epochs=1,
        hidden=(8,),
        policy_gain=1.0,
        distribution=distribution,
    )
    for learner, rollout, noise, _, metrics in turns(config, 3):
        found = learner.policy(learner.observations(jnp.asarray(rollout.obs[:-1])))[0].distribution
        expected = np.asarray(jax.jit(type(found).sample)(found, noise))
        np.testing.assert_allclose(rollout.action, expected, atol=1e-4)
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        if isinstance(distribution, StateDependentExploration):
            assert noise.shape == (12, 4, 8, 2)  # a matrix of 8 features and 2 actions, held for 5 steps
            held = (noise[1:] == noise[:-1]).all((1, 2, 3))
            assert held.tolist() == [step % 5 != 4 for step in range(11)]


MEMORIES = [Lstm(4), Gru(4), Transformer(4, heads=2, window=5)]


@pytest.mark.parametrize("network", MEMORIES, ids=lambda one: type(one).__name__)
def test_a_policy_that_remembers_acts_step_by_step_as_the_update_reads_it(network):
    # Sequences of 8 steps, episodes of at most 7: they end inside, and rollouts begin in the middle of some.
    config = small(
        walk("Discrete"),
        num_envs=4,
        horizon=16,
        minibatch_size=64,
        epochs=1,
        hidden=(8,),
        policy_gain=1.0,
        network=network,
    )
    inside = []
    for learner, rollout, noise, _, metrics in turns(config, 3):
        cut = cut_of(rollout, 8)
        assert cut == Sequences(8, 8)
        predicted = predictions(learner.policy, jax.tree.map(jnp.asarray, rollout), cut.length)
        np.testing.assert_array_equal(predicted.distribution.sample(noise), rollout.action)
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        inside.append(rollout.start[1:].any() and np.abs(jax.tree.leaves(rollout.carry)[0]).max() > 0)
    assert any(inside)


@pytest.mark.parametrize(("kind", "networks", "sees"), CASES)
def test_the_policy_that_acted_is_the_one_the_update_starts_from(kind, networks, sees):
    # One minibatch and one epoch: the only gradient step is taken at ratio 1.
    config = small(
        walk(kind),
        num_envs=4,
        horizon=12,
        minibatch_size=48,
        epochs=1,
        shared=networks == "shared",
        normalise_observations=sees == "normalised",
        normalise_rewards=sees == "normalised",
        hidden=(8,),
        policy_gain=1.0,  # actions that depend on what is seen
    )
    moved = []
    for learner, rollout, noise, after, metrics in turns(config, 3):
        distribution = learner.policy(learner.observations(jnp.asarray(rollout.obs[:-1])))[0].distribution
        # The same noise through the update's distribution gives the actions that were taken ...
        expected = np.asarray(jax.jit(type(distribution).sample)(distribution, noise))
        if kind == "Box":
            np.testing.assert_allclose(rollout.action, expected, atol=1e-4)
            assert np.abs(rollout.action).max() > 1.0  # out of the range of the space, and kept
        else:
            np.testing.assert_array_equal(rollout.action, expected)
        # ... and the update sees no distance between the two.
        assert abs(metrics["train/approx_kl"]) < 1e-6
        assert metrics["train/clip_fraction"] == 0.0
        moved.append(np.abs(after.observations.moments.mean - learner.observations.moments.mean).max())
        assert rollout.mask.min() == 0.0 or len(moved) == 1  # there are seams among the rows
    assert all(distance > 0.0 for distance in moved)  # the statistics moved, between the turns
