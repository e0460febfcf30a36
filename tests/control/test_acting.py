"""Several policies as one function: each acts in its own columns as it would alone."""

import jax
import numpy as np
import pytest
from probes import beginning, small, walk

from proximo.control.acting import ONE_POLICY, Columns, actor_of
from proximo.control.ensemble import stack
from proximo.core.types import Experience

KEYS = [jax.random.key(seed) for seed in (3, 5, 8)]


def policies(kind, each=2):
    """Three learners of a kind of action, observations for two environments of each, one actor and all."""
    learners = [beginning(small(walk(kind), num_envs=each, seed=seed))[0] for seed in range(3)]
    obs = np.random.default_rng(0).uniform(40.0, 60.0, (3 * each, 2)).astype(np.float32)
    alone, together = (
        actor_of(learners[0].policy, learners[0].observations, c) for c in (ONE_POLICY, Columns(3))
    )
    return learners, obs, alone, together


@pytest.mark.parametrize("kind", ["Box", "Discrete", "MultiBinary"])
def test_what_a_policy_draws_is_what_it_would_draw_alone(kind):
    _, _, alone, together = policies(kind)
    noise = together.noise(stack(KEYS), np.uint32(7), shape=(4, 2))  # [T, policies, N / policies, ...]
    for index, key in enumerate(KEYS):
        np.testing.assert_array_equal(noise[:, index], alone.noise(key, np.uint32(7), shape=(4, 2)))
    assert not np.array_equal(noise, together.noise(stack(KEYS), np.uint32(8), shape=(4, 2)))


@pytest.mark.parametrize("kind", ["Box", "Discrete"])
@pytest.mark.parametrize("random", [True, False], ids=["sample", "mode"])
@pytest.mark.parametrize("each", [2, 1])
def test_each_policy_acts_in_its_own_columns(kind, random, each):
    learners, obs, alone, together = policies(kind, each)
    noise = np.array(alone.noise(KEYS[0], 0, shape=(3 * each,)))
    given = noise if random else None
    stacked = stack([(learner.policy, learner.observations) for learner in learners])
    act = together.stepper(together.parameters(*stacked), obs, given)
    for shift in (0.0, 1.0):  # what was written before is read no more
        actions, _ = act(obs + np.float32(shift), noise, None, ())
        assert len(actions) == 3 * each
        for index, learner in enumerate(learners):
            mine = Columns(3).of(index, each)
            flat = alone.parameters(learner.policy, learner.observations)
            own = alone.stepper(flat, obs[mine], None if given is None else noise[mine])
            expected, _ = own(obs[mine] + np.float32(shift), noise[mine], None, ())
            np.testing.assert_allclose(actions[mine], expected, rtol=1e-5)


def test_columns_are_split_by_policy_and_joined_without_a_copy():
    # Policy p of 3 has environments 2 p and 2 p + 1 of 6.
    columns = np.arange(6.0)[None].repeat(2, axis=0)  # [T = 2, N]
    rollout = Columns(3).split(Experience(*(columns,) * len(Experience._fields)), axis=1)
    np.testing.assert_array_equal(rollout.reward[:, 1], [[2.0, 3.0], [2.0, 3.0]])
    assert np.shares_memory(rollout.reward, columns)
    np.testing.assert_array_equal(Columns(3).join(rollout.reward, axis=1), columns)
    assert Columns(3).of(1, each=2) == slice(2, 4)
    assert ONE_POLICY.split(columns) is columns and ONE_POLICY.join(columns) is columns
