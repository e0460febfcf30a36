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

KINDS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")
CASES = [
    *((kind, "separate", "raw") for kind in KINDS),
    *((kind, "shared", "normalised") for kind in KINDS),
    ("Box", "separate", "normalised"),
    ("Discrete", "shared", "raw"),
]


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
