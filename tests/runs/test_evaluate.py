"""Evaluation plays whole episodes, as many as were asked for, and says how sure their mean is."""

import numpy as np
import pytest
from probes import Probe, small, walk

from proximo import Evaluation, evaluate, training
from proximo.errors import UserError
from proximo.runs.bench import bench
from proximo.runs.evaluate import summary


@pytest.fixture(scope="module")
def agent():
    """Anything that acts on one number with two actions."""
    return next(training(small(Probe, num_envs=2, minibatch_size=32, epochs=1))).agent


def test_a_summary_by_hand():
    # Returns 1 2 3 4: mean 2.5, std sqrt(5/3) = 1.290994; t(0.975, 3) = 3.182446
    # half the interval is 3.182446 * 1.290994 / sqrt(4) = 2.054260
    found = summary([1.0, 2.0, 3.0, 4.0], [10, 10, 10, 10])
    assert found == Evaluation(
        mean=2.5,
        std=pytest.approx(1.290994, rel=1e-6),
        low=pytest.approx(2.5 - 2.054260, rel=1e-6),
        high=pytest.approx(2.5 + 2.054260, rel=1e-6),
        episodes=4,
        returns=[1.0, 2.0, 3.0, 4.0],
        lengths=[10, 10, 10, 10],
    )
    assert summary([7.0], [3]).low == summary([7.0], [3]).high == 7.0


class Numbered(Probe):
    """Episode k, counted from 1, has k steps and the return k; so has every environment."""

    episode = 0

    def begin(self):
        self.episode += 1
        self.clock = 0

    def turn(self, action):
        self.clock += 1
        over = self.clock == self.episode
        return 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1


def test_episodes_are_shared_out_evenly(agent):
    # 20 over 16 environments: two in the first four, one in the others. Seams count as no step.
    found = evaluate(agent, Numbered, episodes=20)
    assert found.returns == [1.0, 2.0] * 4 + [1.0] * 12
    assert found.lengths == [1, 2] * 4 + [1] * 12
    assert found.episodes == 20 and found.mean == pytest.approx(24 / 20)


def test_few_episodes_take_few_environments(agent):
    assert evaluate(agent, Numbered, episodes=3).returns == [1.0, 1.0, 1.0]


def test_the_seed_decides(agent):
    class Random(Probe):
        def turn(self, action):
            return self.np_random.normal(), True, False

    a, b, c = (evaluate(agent, Random, episodes=5, seed=seed).returns for seed in (0, 0, 1))
    assert a == b != c
    assert len(set(a)) == 5  # each environment has a seed of its own


def test_sampled_actions_vary_and_the_most_likely_do_not(agent):
    class Counting(Probe):
        def turn(self, action):
            return float(action), True, False

    assert len(set(evaluate(agent, Counting, episodes=40, deterministic=False).returns)) == 2
    assert len(set(evaluate(agent, Counting, episodes=40).returns)) == 1


def test_an_impossible_number_of_episodes_is_refused(agent):
    with pytest.raises(UserError, match="episodes is 0"):
        evaluate(agent, Probe, episodes=0)


def test_an_environment_with_other_spaces_is_not_played(agent):
    with pytest.raises(UserError):
        evaluate(agent, walk("Discrete"), episodes=1)


def test_a_bench_measures_every_part():
    rates = bench(small(Probe, num_envs=2, minibatch_size=32, epochs=1), repeats=1)
    for name in ("env_only", "act", "collect", "update", "loop"):
        assert np.isfinite(getattr(rates, name)) and getattr(rates, name) > 0, name
    assert rates.floor_share == rates.loop / rates.env_only
    # A part takes no longer than what contains it; a factor of 3 for a busy machine.
    assert rates.loop < 3 * rates.collect
