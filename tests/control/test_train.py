"""The loop: what it counts, when it ends, and what it does when something goes wrong."""

import math

import gymnasium as gym
import numpy as np
import pytest
from probes import Aim, Ends, Probe, equal, small

from proximo import Config, preset, training, with_options
from proximo.control.arena import environments
from proximo.control.streams import environment_seeds, later_seeds, streams
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault, UserError

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1)


def test_seam_rows_are_no_steps():
    # Two environments, 16 rows: rows 0 1 2 and a seam, four times over: 12 steps each.
    iterations = list(training(small(Ends, steps=70, **TINY)))
    assert [i.steps for i in iterations] == [24, 48, 72]
    assert [i.number for i in iterations] == [1, 2, 3]
    assert [int(i.learner.steps) for i in iterations] == [24, 48, 72]
    # Two episodes of 3 steps end in each environment and turn: 4 x 2 = 8.
    assert [len(i.episodes) for i in iterations] == [8, 8, 8]
    assert all(episode.length == 3 for i in iterations for episode in i.episodes)
    # Ends pays 1 + 10 * 0.01 * count: in its first episode 1.1 + 1.2 + 1.3
    assert iterations[0].episodes[0].episode_return == pytest.approx(3.6)


def test_the_learning_rate_comes_down_to_zero_over_the_steps():
    # Known before each turn: 1 - 0/72, 1 - 24/72, 1 - 48/72 of 0.3
    iterations = training(small(Ends, steps=72, learning_rate=0.3, **TINY))
    rates = [i.metrics["train/learning_rate"] for i in iterations]
    np.testing.assert_allclose(rates, [0.3, 0.2, 0.1], rtol=1e-6)


def test_it_ends_where_100_episodes_are_good_enough():
    # Probe returns 1 in each episode of one step: 2 x 8 = 16 episodes a turn, so 7 turns for 100.
    iterations = list(training(small(Probe, until=1.0, **TINY)))
    assert len(iterations) == 7 and iterations[-1].mean_return == 1.0
    assert len(list(training(small(Probe, until=1.1, steps=320, **TINY)))) == 20


def test_before_the_first_episode_has_ended_its_mean_is_unknown():
    class Long(Probe):
        def turn(self, action):
            return 1.0, False, False

    first = next(training(small(Long, **TINY)))
    assert math.isnan(first.mean_return) and first.episodes == []


def test_rewards_are_scaled_for_the_learner_and_raw_for_the_reader():
    class Rich(Probe):
        def turn(self, action):
            return 1000.0 + self.np_random.normal(), True, False

    first = next(training(small(Rich, normalise_rewards=True, **TINY)))
    assert first.mean_return == pytest.approx(1000.0, abs=2.0)
    assert first.metrics["train/value_loss"] < 100.0  # rewards are held within +-10


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    def last(seed):
        return list(training(small(Aim, seed=seed, steps=64, **TINY)))[-1]

    a, b, c = last(3), last(3), last(4)
    assert equal(a.learner, b.learner) and a.metrics == b.metrics
    assert not equal(a.learner.policy, c.learner.policy)


def test_streams_are_independent_and_the_first_seeds_do_not_depend_on_how_many_there_are():
    seeds = environment_seeds(streams(0).environments, 8)
    assert environment_seeds(streams(0).environments, 3) == seeds[:3]
    assert len(set(seeds)) == 8
    # Evaluation and training never play the same episodes, nor do two runs.
    others = environment_seeds(streams(0).evaluation, 8) + environment_seeds(streams(1).environments, 8)
    assert not set(seeds) & set(others)


def test_seeds_of_environments_fit_a_c_int():
    """2^31 - 1 is the most that one holds; of seeds below 2^32 every other one would be too much."""
    of_both = [s for seed in range(20) for s in (streams(seed).environments, streams(seed).evaluation)]
    seeds = [seed for sequence in of_both for seed in environment_seeds(sequence, 50)]
    seeds += [seed for number in range(20) for seed in later_seeds(streams(0).environments, number, 50)]
    assert max(seeds) < 2**31 and np.int32(max(seeds)) > 2**30 and min(seeds) >= 0
    assert len(set(seeds)) == len(seeds) == 3000


def test_the_numbers_of_environments_leaves_the_first_one_its_episodes():
    class Random(Probe):
        def begin(self):
            self.seen = self.np_random.uniform(-1, 1)

    def first_seen(num_envs):
        envs = make_envs(Random, num_envs)
        return envs.reset(environment_seeds(streams(0).environments, num_envs))[0]

    assert first_seen(1) == first_seen(5)


def test_what_a_broken_loop_leaves_behind():
    closed = []

    class Closing(Probe):
        def close(self):
            closed.append(True)

    iterations = training(small(Closing, **TINY))
    next(iterations)
    iterations.close()
    assert len(closed) == 2


def test_an_environment_that_fails_midway():
    class Failing(Probe):
        steps = 0

        def turn(self, action):
            self.steps += 1
            if self.steps == 20:
                raise RuntimeError("out of coins")
            return 1.0, False, False

    iterations = training(small(Failing, **TINY))
    good = next(iterations)
    with pytest.raises(EnvironmentFault, match=r"environment 0 of Failing failed at step 20.*out of coins"):
        next(iterations)
    assert good.agent.act(np.zeros(1, np.float32)) in (0, 1)  # what was yielded stays good


def test_a_learner_that_leaves_the_finite_numbers_is_not_handed_out():
    class Overflowing(Probe):
        def turn(self, action):
            return 1e30, True, False  # finite, but not its square

    with pytest.raises(UserError, match=r"after 0 steps|inf|nan") as caught:
        next(training(small(Overflowing, **TINY)))
    assert "is discarded" in str(caught.value) and "--learning-rate" in str(caught.value)


def test_options_are_checked_before_an_environment_is_made():
    def never():
        raise AssertionError("made")

    with pytest.raises(UserError, match="gamma is 3"):
        next(training(small(never, gamma=3.0)))


def test_every_source_of_environments_can_be_trained_on():
    gym.register("Probe-v0", Probe)
    try:
        for env in ("Probe-v0", Probe, lambda: Probe(), gym.vector.SyncVectorEnv([Probe] * 2)):
            assert next(training(small(env, **TINY))).steps == 16
        assert next(training(small(Probe(), **(TINY | dict(num_envs=1, minibatch_size=16))))).steps == 8
    finally:
        del gym.registry["Probe-v0"]


def test_an_environment_of_the_caller_stays_open():
    closed = []

    class Closing(Probe):
        def close(self):
            closed.append(True)

    list(training(small(Closing(), **(TINY | dict(num_envs=1, minibatch_size=16, steps=8)))))
    assert not closed


def test_a_configuration_is_plain_data_that_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config("CartPole-v1").seed = 3


def test_how_long_to_wait_and_how_often_to_restart_are_options():
    options = dict(max_restarts=3, restart_interval=0.5, step_timeout=7.0, vectorization_mode="parallel")
    envs = environments(small("CartPole-v1", **TINY, **options), 2)
    assert envs.vector.restarts.most == 3 and envs.vector.restarts.interval == 0.5
    envs.close()
    of_three_members = environments(small("CartPole-v1", **TINY, **options), 6)  # each has its own
    assert of_three_members.vector.restarts.most == 9
    of_three_members.close()
    environments(small("CartPole-v1", **TINY, max_restarts=3), 2).close()  # the others have no such thing


def test_one_environment_that_was_made_already_whatever_the_mode():
    # MuJoCo's recipe asks for our own vector, which makes its environments itself; an instance goes without.
    config = preset("default", gym.make("Hopper-v5"))
    assert (config.vectorization_mode, config.num_envs) == ("auto", 1)
    iterations = list(training(with_options(config, steps=32, horizon=32, minibatch_size=32, epochs=1)))
    assert iterations[-1].steps >= 32
