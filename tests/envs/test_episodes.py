"""Returns and lengths, by hand: two environments, two rollouts, seams between episodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core.types import Experience
from proximo.envs import Episode, EpisodeStatistics


def rows(reward, terminated, over, mask):
    """What statistics ask of experience; all [T, N]."""
    return Experience(None, None, reward[..., None], terminated, over & ~terminated, over, mask, None)


def test_an_episode_goes_on_over_rollouts_and_a_seam_is_no_step():
    statistics = EpisodeStatistics(num_envs=2)
    assert np.isnan(statistics.mean_return()) and np.isnan(statistics.mean_length())

    # Environment 0 terminates in row 1; row 2 is its seam, and its reward must not count. 1 goes on.
    reward = np.array([[1.0, 10.0], [2.0, 20.0], [99.0, 30.0]])
    terminated = np.array([[0, 0], [1, 0], [0, 0]], bool)
    mask = np.array([[1, 1], [1, 1], [0, 1]], np.float32)
    assert statistics.update(rows(reward, terminated, terminated, mask)) == [
        Episode(0, 1, 3.0, 2, terminated=True)
    ]
    assert statistics.return_so_far.tolist() == [0.0, 60.0]
    assert statistics.length_so_far.tolist() == [0, 3]

    # Environment 1 is cut in row 0 after 3 + 1 steps: 60 + 5. Environment 0 has two episodes of one step.
    reward = np.array([[4.0, 5.0], [0.0, 0.0], [6.0, 7.0]])
    terminated = np.array([[1, 0], [0, 0], [1, 0]], bool)
    truncated = np.array([[0, 1], [0, 0], [0, 0]], bool)
    mask = np.array([[1, 1], [0, 0], [1, 1]], np.float32)
    assert statistics.update(rows(reward, terminated, terminated | truncated, mask)) == [
        Episode(0, 0, 4.0, 1, terminated=True),
        Episode(1, 0, 65.0, 4, terminated=False),
        Episode(0, 2, 6.0, 1, terminated=True),
    ]
    assert statistics.return_so_far.tolist() == [0.0, 7.0]
    assert statistics.mean_return() == pytest.approx((3 + 4 + 65 + 6) / 4)
    assert statistics.mean_length() == pytest.approx((2 + 1 + 4 + 1) / 4)


def test_only_the_recent_episodes_are_averaged():
    statistics = EpisodeStatistics(num_envs=1, window=2)
    reward = np.array([[1.0], [2.0], [4.0]])
    statistics.update(rows(reward, np.ones((3, 1), bool), np.ones((3, 1), bool), np.ones((3, 1))))
    assert statistics.mean_return() == 3.0


def test_small_rewards_are_not_lost():
    """A million rewards of 0.1 in float32 add up to 100958, in float64 to 100000."""
    statistics = EpisodeStatistics(num_envs=1)
    reward, no = np.full((1000, 1), 0.1, np.float32), np.zeros((1000, 1), bool)
    for _ in range(1000):
        statistics.update(rows(reward, no, no, np.ones((1000, 1))))
    assert statistics.return_so_far[0] == pytest.approx(1e6 * float(np.float32(0.1)))


@given(st.integers(0, 1000), st.integers(1, 11))
def test_cutting_time_changes_nothing_and_garbage_in_a_seam_counts_for_nothing(seed, cut):
    generator = np.random.default_rng(seed)
    reward = generator.integers(0, 9, (12, 3)).astype(float)
    terminated, truncated = generator.random((2, 12, 3)) < 0.2
    over = terminated | truncated
    mask = (generator.random((12, 3)) < 0.8).astype(np.float32)
    whole, parts = EpisodeStatistics(3), EpisodeStatistics(3)
    expected = whole.update(rows(reward, terminated, over, mask))
    reward = np.where(mask == 0, np.nan, reward)
    arrays = (reward, terminated, over, mask)
    found = parts.update(rows(*(array[:cut] for array in arrays)))
    found += [
        e._replace(end_row=e.end_row + cut) for e in parts.update(rows(*(array[cut:] for array in arrays)))
    ]
    assert found == expected
    np.testing.assert_array_equal(whole.return_so_far, parts.return_so_far)
    np.testing.assert_array_equal(whole.length_so_far, parts.length_so_far)


def test_successes_are_those_of_the_last_episodes_that_told():
    # Row 0 ends nothing; rows 1 to 4 end an episode each: a success, a failure, silence, half of one.
    over = np.array([0, 1, 1, 1, 1], bool)[:, None]
    told = np.array([1.0, 1.0, 0.0, np.nan, 0.5])[:, None]
    statistics = EpisodeStatistics(1, window=2)
    assert statistics.metrics() == {}
    statistics.update(rows(np.zeros((5, 1)), over, over, np.ones((5, 1))), told)
    assert list(statistics.successes) == [0.0, 0.5]
    assert statistics.metrics() == {"rollout/success_rate": 0.25}
    again = EpisodeStatistics(1, window=2)
    again.restore(statistics.state())
    assert again.metrics() == statistics.metrics()
    old = {name: array for name, array in statistics.state().items() if name != "successes"}
    again.restore(old)
    assert again.metrics() == {}
