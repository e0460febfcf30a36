"""What the running statistics count in, what they leave out, and when they stand still."""

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from probes import Walk, arrays, by_hand, equal, first_rollout, small, turns, walk

from proximo import evaluate, training
from proximo.control.ensemble import ensemble
from proximo.control.model import load_model, save_model
from proximo.errors import EnvironmentAdvice
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.normalise import observation_normaliser, reward_normaliser


def column(*numbers, dtype=np.float32):
    """[T, 1]: one environment."""
    return jnp.asarray(np.array(numbers, dtype)[:, None])


# Two episodes: rewards 1, 2 and a death; a seam; 3, 4 and a time limit.
TWO_EPISODES = by_hand(
    obs=column(10, 20, 999, 30, 40, 999)[..., None],
    action=column(0, 0, 0, 0, 0),
    reward=column(1, 2, 0, 3, 4)[..., None],
    terminated=column(0, 1, 0, 0, 0, dtype=bool),
    truncated=column(0, 0, 0, 0, 1, dtype=bool),
    mask=column(1, 1, 0, 1, 1),
)


def test_rewards_by_hand():
    # gamma 0.1, the running return of each row:  1;  0.1 * 1 + 2 = 2.1;  (seam)  3;  0.1 * 3 + 4 = 4.3
    # mean 2.6, variance (1.6^2 + 0.5^2 + 0.4^2 + 1.7^2) / 4 = 1.465, std 1.210372
    after = reward_normaliser(1).after(TWO_EPISODES, 0.1)
    assert after.moments.count == 4
    np.testing.assert_allclose(after.moments.mean, 2.6, rtol=1e-6)
    np.testing.assert_allclose(after.moments.m2 / 4, 1.465, rtol=1e-6)
    # Divided, not moved: 1 / 1.210372 = 0.826192 and so on.
    expected = [0.826192, 1.652385, 0.0, 2.478577, 3.304769]
    np.testing.assert_allclose(after(TWO_EPISODES.reward)[:, 0, 0], expected, rtol=1e-5)
    assert after.running == 0.0  # the time limit ended it too


def test_the_running_return_goes_on_over_rollouts_and_not_over_ends():
    def cut(rows):
        whole = TWO_EPISODES
        parts = {n: getattr(whole, n)[rows] for n in ("action", "reward", "terminated", "truncated", "mask")}
        return by_hand(obs=whole.obs[rows.start : rows.stop + 1], **parts)

    whole = reward_normaliser(1).after(TWO_EPISODES, 0.1)
    for where in (1, 2, 3, 4):
        first = reward_normaliser(1).after(cut(slice(0, where)), 0.1)
        both = first.after(cut(slice(where, 5)), 0.1)
        np.testing.assert_allclose(both.moments.mean, whole.moments.mean, rtol=1e-6)
        np.testing.assert_allclose(both.moments.m2, whole.moments.m2, rtol=1e-5)
    # Cut in the middle of the second episode, the return so far is 3.
    assert reward_normaliser(1).after(cut(slice(0, 4)), 0.1).running == 3.0


def test_rewards_that_never_differ_are_left_alone():
    zeros = TWO_EPISODES._replace(reward=column(0, 0, 0, 0, 0)[..., None])
    after = reward_normaliser(1).after(zeros, 0.1)
    np.testing.assert_array_equal(after(zeros.reward), zeros.reward)


def test_the_scaled_reward_is_bounded_and_a_cost_beside_it_left_alone():
    after = reward_normaliser(1).after(TWO_EPISODES, 0.1)
    np.testing.assert_array_equal(after(jnp.array([[[1e9, 1e9]]])), [[[10.0, 1e9]]])


def test_observations_by_hand():
    # Seams (999) and the successor of the last row are left out: 10 20 30 40, mean 25, variance 125.
    after = observation_normaliser(np.array([True])).after(TWO_EPISODES)
    assert after.moments.count == 4
    np.testing.assert_allclose(after.moments.mean, [25.0])
    np.testing.assert_allclose(after(jnp.array([25.0 + 125**0.5])), [1.0], rtol=1e-6)
    np.testing.assert_array_equal(after(jnp.array([1e9])), [10.0])


def test_one_that_has_seen_nothing_is_the_identity():
    obs = jnp.array([[1e4, -3.0]])
    np.testing.assert_array_equal(observation_normaliser(np.array([True, True]))(obs), obs)


class Mixed(Walk):
    """The walk's two numbers beside a one-hot clock and two switches."""

    observation_space = spaces.Dict(
        clock=spaces.Discrete(8), walk=Walk.observation_space, switches=spaces.MultiBinary(2)
    )

    def _observation(self):
        return {
            "clock": self.clock,
            "walk": super()._observation(),
            "switches": np.array([1, self.clock % 2], np.int8),
        }


def test_one_hot_and_binary_entries_stay_as_they_are():
    # 8 entries for the clock, 2 for the walk, 2 switches; a Dict is in the order it was written in.
    learner, rollout, _ = first_rollout(small(Mixed, normalise_observations=True))
    rollout = jax.tree.map(jnp.asarray, rollout)
    seen = np.asarray(learner.observations.after(rollout)(rollout.obs))
    switches_and_clock = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    np.testing.assert_array_equal(seen[..., switches_and_clock], rollout.obs[..., switches_and_clock])
    numbers = seen[:-1][rollout.mask == 1][:, 8:10]
    np.testing.assert_allclose(numbers.mean(axis=0), [0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(numbers.std(axis=0), [1.0, 1.0], atol=1e-4)


class Clock(gym.Env):
    """Shows the time of day in seconds, far from 0; right is 0 in the first five steps of ten, then 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return np.array([1.7e9]), {}

    def step(self, action):
        right = action == (self.clock >= 5)
        self.clock += 1
        return np.array([1.7e9 + self.clock]), float(right), self.clock == 10, False, {}

    def get_state(self):
        return self.clock

    def set_state(self, state):
        self.clock = state


CLOCK = dict(normalise_observations=True, steps=12_000, num_envs=4, horizon=64)


def test_a_clock_is_read_although_float32_does_not_tell_its_seconds_apart(tmp_path):
    # Blind, the best is to be right in 5 steps of 10.
    agent = list(training(small(Clock, **CLOCK)))[-1].agent
    assert agent.observations.offset.tolist() == [1.7e9]
    assert evaluate(agent, Clock, episodes=4).mean == 10.0
    save_model(agent, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert evaluate(loaded, Clock, episodes=4).mean == 10.0
    assert [loaded.act(np.array([1.7e9 + t])) for t in (0, 9)] == [0, 1]


def test_members_of_an_ensemble_and_populations_read_it_too():
    turn = next(ensemble([small(Clock, **CLOCK, seed=seed) for seed in (0, 1)]))
    population = small(Clock, **{**CLOCK, "actor_step": CrossEntropy(elite=2), "steps": 600})
    for iteration in (*turn, list(training(population))[-1]):
        assert iteration.agent.observations.offset.tolist() == [1.7e9]
        assert np.abs(iteration.agent.observations.moments.mean) < 10


def test_a_run_that_goes_on_reads_it_as_before():
    whole = training(small(Clock, **CLOCK))
    start = next(whole).snapshot()
    assert equal(next(training(small(Clock, **CLOCK), start)).learner, next(whole).learner)
    # What is saved counts, not where the clock is now.
    start.learner["observations.offset"] = np.array([1.6e9], np.float32)
    following = next(training(small(Clock, **CLOCK), start))
    assert following.agent.observations.offset.tolist() == [1.6e9]
    del start.learner["observations.offset"]  # of a version that knew none
    assert next(training(small(Clock, **CLOCK), start)).agent.observations.offset.tolist() == [0.0]


def test_what_is_not_normalised_reaches_the_networks_as_it_is():
    with pytest.warns(EnvironmentAdvice, match="near 1.7e.09, where float32 numbers are 128 apart"):
        off = next(training(small(Clock, **{**CLOCK, "normalise_observations": False})))
    assert off.agent.observations.offset.tolist() == [0.0]


def test_switched_off_it_moves_nothing():
    learner, rollout, _ = first_rollout(small(walk("Discrete"), normalise_observations=False))
    rollout = jax.tree.map(jnp.asarray, rollout)
    np.testing.assert_array_equal(learner.observations.after(rollout)(rollout.obs), rollout.obs)


def test_the_statistics_of_a_rollout_count_after_its_update():
    # Else the update would see other numbers than those the actions were chosen by.
    config = small(walk("Discrete"), normalise_observations=True, normalise_rewards=True)
    before, rollout, _, after, _ = next(turns(config, 1))
    assert before.observations.moments.count == 0
    assert after.observations.moments.count == after.rewards.moments.count == rollout.mask.sum()


def test_evaluation_moves_nothing():
    config = small(walk("Box"), normalise_observations=True, steps=300)
    agent = list(training(config))[-1].agent
    before = [x.copy() for x in arrays((agent.policy, agent.observations))]
    for deterministic in (True, False):
        options = dict(episodes=7, deterministic=deterministic)
        first, second = (evaluate(agent, walk("Box"), **options) for _ in range(2))
        assert first == second
        assert len(set(first.returns)) > 1  # the walk is random: equal returns are no accident
    assert equal((agent.policy, agent.observations), before)


def test_the_statistics_are_compiled_in_as_arguments_not_as_constants():
    # A normaliser baked into a compiled function would stay at its first statistics for ever.
    act = jax.jit(lambda normaliser, obs: normaliser(obs))
    empty, obs = observation_normaliser(np.array([True])), jnp.array([25.0])
    assert act(empty, obs) == 25.0 and act(empty.after(TWO_EPISODES), obs) == 0.0
