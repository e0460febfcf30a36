"""A lost life ends the value of what follows, and neither the game, nor the memory, nor the score."""

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from proximo import preset, training, with_options
from proximo.control.collect import Stream, collect
from proximo.core import gae
from proximo.envs import make_envs
from proximo.envs.episodes import EpisodeStatistics
from proximo.errors import UserError


class Cat(gym.vector.VectorEnv):
    """Two cats with three lives: one loses a life in every second step, the other none. A mouse pays 5."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    num_envs = 2
    single_observation_space = spaces.Box(0, 100, (1,), np.float32)
    single_action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 100, (2, 1), np.float32)
    action_space = spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed=None, options=None):
        self.clock, self.lives, self.over = 0, np.array([3, 3]), np.zeros(2, bool)
        return self.seen(), {"lives": self.lives}

    def seen(self):
        return np.full((2, 1), self.clock, np.float32)

    def step(self, actions):
        self.clock += 1
        self.lives[self.over] = 3  # the row after an end: a new game
        lost = np.array([self.clock % 2 == 0, False]) & ~self.over
        reward = np.where(self.over, 0.0, 5.0)
        self.lives -= lost
        self.over = self.lives == 0
        return self.seen(), reward, self.over.copy(), np.zeros(2, bool), {"lives": self.lives}


def rollout(life_loss, rows=9):
    envs = make_envs(Cat())
    envs.life_loss = life_loss
    stream = Stream(envs, [0, 1])

    def still(obs, noise, start, carry):
        return np.zeros(2, np.int32), carry

    return collect(still, stream, np.zeros((rows, 2)))


def test_a_lost_life_is_terminated_and_only_the_last_one_is_over():
    found = rollout(True)
    # Steps 2, 4 and 6 cost a life each; the third one ends the game, row 6 is the seam, step 8 costs again.
    np.testing.assert_array_equal(found.terminated[:, 0], [0, 1, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(found.over[:, 0], [0, 0, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.mask[:, 0], [1, 1, 1, 1, 1, 1, 0, 1, 1])
    # A memory forgets where a game begins, not where a life does: the first row, and the one after the seam.
    np.testing.assert_array_equal(np.flatnonzero(found.start[:, 0]), [0, 7])
    assert not found.terminated[:, 1].any()


def test_the_value_is_cut_and_the_reward_kept():
    found = rollout(True, rows=3)
    # Without a critic, gamma and lambda 1, the advantage is the sum of the rewards up to the lost life.
    zero = np.zeros((3, 2))
    discount, same = 1.0 - found.terminated, 1.0 - found.over
    sums = gae(*map(jnp.asarray, (found.reward[..., 0], zero, zero, discount, same)), 1.0)
    np.testing.assert_allclose(sums, [[10, 15], [5, 10], [5, 5]])


@pytest.mark.parametrize("life_loss", [True, False])
def test_the_score_is_of_the_whole_game(life_loss):
    statistics = EpisodeStatistics(2)
    (game,) = statistics.update(rollout(life_loss))
    assert (game.episode_return, game.length, game.env) == (30.0, 6, 0)


def test_without_the_option_lives_mean_nothing():
    assert np.array_equal(rollout(False).terminated, rollout(False).over)


def test_the_learner_takes_the_sign_of_the_reward_and_logs_the_score():
    options = dict(horizon=16, minibatch_size=32, epochs=1, steps=32, normalise_rewards=False)
    metrics = {}
    for clip in (True, False):
        config = with_options(preset("default", Cat()), **options, life_loss=True, clip_rewards=clip)
        metrics[clip] = next(training(config))
    assert metrics[True].mean_return == metrics[False].mean_return == 27.5  # games of 6 and of 5 steps
    one, other = (metrics[clip].metrics["train/value_loss"] for clip in (True, False))
    assert other > 10 * one  # targets of 5 a step, and of 1


class Lifeless(gym.Env):
    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_where_no_lives_are_told_the_option_is_refused():
    config = with_options(preset("default", Lifeless), life_loss=True)
    with pytest.raises(UserError, match="no 'lives', which life_loss needs"):
        next(training(config))
