"""The cross-entropy method on environments whose best actor is known."""

import numpy as np
import pytest
from probes import Aim, Probe, RightAction, equal, small

from proximo import UserError
from proximo.control.config import validate
from proximo.control.cross_entropy import mean_returns
from proximo.control.streams import later_seeds, streams
from proximo.control.train import training
from proximo.envs import Episode
from proximo.learn.actor_steps import CrossEntropy

POPULATION = dict(num_envs=20, horizon=8, minibatch_size=8, actor_step=CrossEntropy(elite=5), hidden=())


def test_it_finds_the_best_action():
    # Reward -(a - 0.5)^2; the episodes of the last generations are near the best, and so is the mean.
    last = list(training(small(Aim, **{**POPULATION, "steps": 12_000})))[-1]
    assert last.agent.act(np.zeros(1, np.float32)) == pytest.approx(0.5, abs=0.05)
    assert last.mean_return > -0.05


def test_it_finds_what_depends_on_the_observation():
    last = list(training(small(RightAction, **{**POPULATION, "steps": 12_000, "until": 0.95})))[-1]
    assert last.mean_return >= 0.95
    assert last.agent.act(np.ones(1, np.float32)) == 1
    assert last.agent.act(-np.ones(1, np.float32)) == 0


def test_every_generation_plays_whole_episodes_and_counts_all_its_steps():
    class Lengths(Probe):
        """Environment after environment, episodes of 3 to 22 steps."""

        made = 0

        def __init__(self):
            Lengths.made += 1
            self.length = 2 + Lengths.made

        def begin(self):
            self.clock = 0

        def turn(self, action):
            self.clock += 1
            return 1.0, self.clock == self.length, False

    first = next(training(small(Lengths, **POPULATION)))
    returns = {e.env: e.episode_return for e in first.episodes}
    assert returns == {env: 3.0 + env for env in range(20)}  # each at least once, and whole
    # The longest has 22 steps: 3 rollouts of 8 rows. Each environment has one seam per episode that ended
    # before the last row; the others are steps.
    seams = {env: sum(row <= 22 for row in range(2 + env, 24, 4 + env)) for env in range(20)}
    assert first.steps == 20 * 24 - sum(seams.values())
    assert first.learner.steps == first.steps


def test_an_environment_that_never_ends_an_episode_is_refused():
    class Endless(Probe):
        """It goes on and on."""

        def begin(self):
            pass

        def turn(self, action):
            return 1.0, False, False

    with pytest.raises(UserError, match=r"has not ended an episode in 480 steps, .* give it a time limit"):
        next(training(small(Endless, **{**POPULATION, "steps": 400})))


def test_a_generations_episodes_are_its_own():
    class Counts(Probe):
        """Two steps; the observation counts the resets."""

        def begin(self):
            self.seen, self.clock = self.seen + 0.01, 0

        def turn(self, action):
            self.clock += 1
            return self.clock, self.clock == 2, False

    # 8 rows: two whole episodes of 2 rows and a seam, and 2 rows of a third; its rewards belong to nobody.
    for iteration, _ in zip(training(small(Counts, **POPULATION)), range(3), strict=False):
        assert {e.episode_return for e in iteration.episodes} == {3.0}


def test_the_same_seed_gives_the_same_generations():
    def last(seed):
        return list(training(small(Aim, seed=seed, **{**POPULATION, "steps": 400})))[-1]

    assert equal(last(1).learner, last(1).learner)
    assert not equal(last(1).learner.policy, last(2).learner.policy)


def test_generations_play_different_episodes():
    seeds = [tuple(later_seeds(streams(0).environments, number, 4)) for number in range(3)]
    assert len({seed for generation in seeds for seed in generation}) == 12
    assert later_seeds(streams(0).environments, 1, 4) == list(seeds[1])


def test_fitness_is_each_environments_own_mean():
    episodes = [Episode(1, 0, 4.0, 1, True), Episode(0, 0, 1.0, 1, True), Episode(1, 3, 8.0, 1, True)]
    np.testing.assert_array_equal(mean_returns(episodes, 2), [1.0, 6.0])


def test_a_population_of_one_is_one_too():
    one = {**POPULATION, "num_envs": 1, "actor_step": CrossEntropy(elite=1), "steps": 20}
    assert list(training(small(Aim, **one)))[-1].last


def test_an_elite_larger_than_the_population_is_refused():
    with pytest.raises(UserError, match="at most num_envs, 20"):
        validate(small(Aim, **{**POPULATION, "actor_step": CrossEntropy(elite=21)}))
