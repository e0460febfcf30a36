"""A rollout holds what happened: which rows are seams, what was sampled, and where an environment failed."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from probes import Ends, Probe, first_rollout, small, walk

from proximo import training
from proximo.control.collect import Stream, collect
from proximo.core.types import vector_of
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault


def still(obs, noise, start, carry):
    """Action 0 everywhere."""
    return np.zeros(len(vector_of(obs)), np.int32), carry


def rollout_of(env, horizon, num_envs=1, act=still, rollouts=1):
    stream = Stream(make_envs(env, num_envs), list(range(num_envs)))
    return [collect(act, stream, np.zeros((horizon, num_envs))) for _ in range(rollouts)]


def test_the_row_after_an_end_is_a_seam():
    # Three steps to an episode: rows 0 1 2 | seam | 4 5 6 | seam | 8
    (rollout,) = rollout_of(Ends, 9)
    np.testing.assert_array_equal(rollout.mask[:, 0], [1, 1, 1, 0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(rollout.terminated[:, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rollout.truncated[:, 0], [0, 0, 0, 0, 0, 0, 1, 0, 0])
    # The stream is unbroken: obs[3] is the last of the first episode, obs[4] the first of the second.
    np.testing.assert_allclose(rollout.obs[:, 0, 0], 0.01 * np.arange(10), rtol=1e-6)
    # Ends pays 1 + 10 * (the next observation); nothing is paid in a seam.
    np.testing.assert_allclose(rollout.reward[:, 0, 0], [1.1, 1.2, 1.3, 0, 1.5, 1.6, 1.7, 0, 1.9], rtol=1e-6)


def test_the_first_row_of_a_run_is_no_seam():
    # Seen elsewhere: "previous done" started as True, and the first transition of each env was lost.
    (rollout,) = rollout_of(Ends, 2, num_envs=3)
    assert np.all(rollout.mask == 1)


def test_a_seam_is_remembered_between_rollouts():
    # The end falls on the last row of the first rollout, its seam on the first row of the second.
    first, second = rollout_of(Ends, 3, rollouts=2)
    np.testing.assert_array_equal(first.mask[:, 0], [1, 1, 1])
    np.testing.assert_array_equal(second.mask[:, 0], [0, 1, 1])
    np.testing.assert_array_equal(first.obs[-1], second.obs[0])


def test_rollouts_of_one_step_are_the_long_one_in_slices():
    (whole,) = rollout_of(Ends, 9)
    slices = rollout_of(Ends, 1, rollouts=9)
    for name in ("reward", "terminated", "truncated", "mask", "action"):
        joined = np.concatenate([getattr(one, name) for one in slices])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    np.testing.assert_array_equal(np.concatenate([one.obs[:1] for one in slices]), whole.obs[:-1])


def test_each_environment_has_its_own_seams():
    class Late(Ends):
        """Its first episode is longer by one step."""

        def begin(self):
            super().begin()
            self.clock -= self.episode == 0

    vector = SyncVectorEnv([Ends, Late])
    (rollout,) = rollout_of(vector, 6, num_envs=2)
    np.testing.assert_array_equal(rollout.mask.T, [[1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 0, 1]])


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_without_seam_rows_the_last_observation_comes_beside_the_stream(mode):
    (rollout,) = rollout_of(SyncVectorEnv([Ends], autoreset_mode=mode), 6)
    assert np.all(rollout.mask == 1)
    # Observations count up by 0.01: 0 1 2 (3) | 4 5 6 (7) | 8
    np.testing.assert_allclose(rollout.obs[:, 0, 0], 0.01 * np.array([0, 1, 2, 4, 5, 6, 8]), rtol=1e-6)
    np.testing.assert_allclose(rollout.final_obs[[2, 5], 0, 0], [0.03, 0.07], rtol=1e-6)


def test_actions_are_stored_as_sampled_and_clipped_for_the_environment_alone():
    seen = []

    class Narrow(Probe):
        action_space = gym.spaces.Box(-0.1, 0.1, (1,), np.float32)

        def turn(self, action):
            assert self.action_space.contains(action)
            seen.append(action.copy())
            return super().turn(action)

    _, rollout, noise = first_rollout(small(Narrow, num_envs=2, scale_actions=False))
    # log std starts at 0 and the mean near 0: an action is about its noise, far outside +-0.1.
    np.testing.assert_allclose(rollout.action, noise, atol=0.05)
    assert np.abs(rollout.action).max() > 1.0
    acted = np.array(seen).reshape(-1, 2, 1)  # no step is taken in a seam row
    np.testing.assert_allclose(acted, np.clip(rollout.action[rollout.mask[:, 0] == 1], -0.1, 0.1))


class Sick(Probe):
    """NaN in its observation or its reward, or an exception, at a certain call of its step."""

    at, what, number = 5, "observation", 0

    def turn(self, action):
        self.calls = getattr(self, "calls", 0) + 1
        sick = self.calls == self.at and self.number == 1
        if sick and self.what == "exception":
            raise ZeroDivisionError("no denominator")
        self.seen = np.nan if sick and self.what == "observation" else 0.0
        return np.nan if sick and self.what == "reward" else 1.0, False, False


def sick(what, first_bad=5):
    """Two environments of which number 1 falls ill in its step `first_bad`."""

    def make(number):
        def construct():
            env = Sick()
            env.at, env.what, env.number = first_bad, what, number
            return env

        return construct

    return SyncVectorEnv([make(0), make(1)])


@pytest.mark.parametrize("what", ["observation", "reward", "exception"])
@pytest.mark.parametrize(("horizon", "rollouts"), [(6, 1), (2, 3), (1, 5)])
def test_a_fault_names_environment_step_and_action(what, horizon, rollouts):
    # However the steps fall into rollouts, the fifth step is the fifth.
    def act(obs, noise, start, carry):
        return np.array([0, 1], np.int32), carry

    with pytest.raises(EnvironmentFault) as caught:
        rollout_of(sick(what), horizon, num_envs=2, act=act, rollouts=rollouts)
    message = str(caught.value)
    assert "environment 1" in message and "at step 5, after the action 1" in message
    assert {"exception": "no denominator"}.get(what, f"nan in its {what}") in message
    assert "\n" not in message


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_nan_in_an_observation_beside_the_stream_is_found_too(mode):
    class LastIsNaN(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.left = 3
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.left -= 1
            return np.full(1, 0.0 if self.left else np.nan, np.float32), 0.0, self.left == 0, False, {}

    with pytest.raises(EnvironmentFault, match="environment 0 returned nan in its observation at step 3"):
        rollout_of(SyncVectorEnv([LastIsNaN], autoreset_mode=mode), 5)


def test_nan_at_the_reset_is_said_to_be_there():
    class Born(Probe):
        seen = np.nan

    with pytest.raises(EnvironmentFault, match="environment 0 returned nan in its observation at its reset"):
        rollout_of(Born, 2)


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary", "Box"])
def test_shapes_and_types(kind):
    _, rollout, _ = first_rollout(small(walk(kind), num_envs=3, horizon=5))
    width = {"Discrete": (), "MultiDiscrete": (2,), "MultiBinary": (3,), "Box": (2,)}[kind]
    assert rollout.obs.shape == (6, 3, 2) and rollout.obs.dtype == np.float32
    assert rollout.action.shape == (5, 3, *width)
    assert rollout.action.dtype == (np.float32 if kind == "Box" else np.int32)
    for name in ("terminated", "truncated", "over", "mask"):
        assert getattr(rollout, name).shape == (5, 3)
    assert rollout.reward.shape == (5, 3, 1) and rollout.start.shape == (6, 3)


class Told(Ends):
    """Costs 1 in every other step from the fourth on; an episode that is cut was a success."""

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        info = {"is_success": truncated} if terminated or truncated else {}
        if self.count >= 4 and self.count % 2 == 0:
            info["cost"] = 1.0
        return obs, reward, terminated, truncated, info


def test_a_cost_is_a_second_stream_of_rewards_from_the_first_one_on_that_is_told():
    first, second, third = rollout_of(Told, 3, rollouts=3)
    assert first.reward.shape == (3, 1, 1)
    # Rows 3 to 5 lead to the counts 4 (a seam; a reset tells no cost), 5 and 6; then 7, 8 (a seam) and 9.
    np.testing.assert_array_equal(second.reward[:, 0, 1], [0, 0, 1])
    np.testing.assert_array_equal(third.reward[:, 0, 1], [0, 0, 0])  # once told, it stays
    np.testing.assert_allclose(second.reward[:, 0, 0], [0, 1.5, 1.6], rtol=1e-6)
    assert rollout_of(Ends, 3)[0].reward.shape == (3, 1, 1)


def test_the_share_of_successes_is_logged_where_environments_tell_of_it():
    config = small(Told, num_envs=1, horizon=9, minibatch_size=9, epochs=1, steps=16)
    metrics = [iteration.metrics for iteration in training(config)]
    # Every second episode is cut: 1 of 2, 2 of 4, 3 of 7.
    assert [m["rollout/success_rate"] for m in metrics] == [0.5, 0.5, pytest.approx(3 / 7)]
    untold = next(training(small(Ends, num_envs=1, horizon=9, minibatch_size=9, epochs=1, steps=16)))
    assert "rollout/success_rate" not in untold.metrics


def test_legal_actions_stand_beside_the_observations_that_they_are_of():
    class Either(Ends):
        """Action 1 is legal where the count is even."""

        def action_masks(self):
            return np.array([True, self.count % 2 == 0])

    (rollout,) = rollout_of(Either, 6)
    assert rollout.obs["legal"].shape == (7, 1, 2)
    np.testing.assert_array_equal(rollout.obs["legal"][:, 0, 1], [1, 0, 1, 0, 1, 0, 1])
    assert isinstance(rollout_of(Ends, 3)[0].obs, np.ndarray)
