"""Environments that move between processes while they are stepped: the stream is the same, bit for bit."""

import os
import signal
from functools import partial

import gymnasium as gym
import jax
import numpy as np
import pytest
from env_probes import Walk
from info_probes import Saves

from proximo.control.config import preset, with_options
from proximo.control.train import training
from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.pace import Pace
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import EnvironmentRestarted


class Every:
    """Changes over before every so-many-th step."""

    def __init__(self, steps=7):
        self.steps, self.count, self.changes = steps, 0, 0

    def due(self, now):
        self.count += 1
        return self.count % self.steps == 0

    def changed(self, now):
        self.changes += 1

    def done(self, now):
        pass


def adapting(env, count, workers=1, steps=7, **options):
    make = partial(gym.make, env, **options)
    vector = ParallelVectorEnv(make, make(), count, workers, max_restarts=3, restart_interval=0, adapt=True)
    assert type(vector.pace) is Pace
    vector.pace = Every(steps)
    return HostEnvs(vector, env)


def rows(envs, count, seed=0):
    """Copies of all that random steps give."""
    envs.action_space.seed(seed)
    steps = []
    for _ in range(count):
        step = envs.step(envs.action_space.sample())
        parts = (step.obs, step.reward, step.terminated, step.truncated, step.legal)
        steps.append([np.array(x) for x in parts if x is not None])
    return steps


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("env", "count", "workers"),
    [
        ("CartPole-v1", 1, 1),
        ("CartPole-v1", 5, 2),
        ("Pendulum-v1", 3, 3),
        ("HalfCheetah-v5", 1, 1),
        ("Hopper-v5", 3, 1),
        ("Ant-v5", 2, 1),
        ("Taxi-v4", 3, 1),  # it tells which actions are legal
    ],
)
def test_the_stream_is_that_of_one_process(env, count, workers):
    with make_envs(env, count, max_episode_steps=25) as alone:
        alone.reset(list(range(count)))
        expected = rows(alone, 120)
    with adapting(env, count, workers, max_episode_steps=25) as envs:
        for _ in range(2):  # a reset in the midst of it begins anew, wherever they are
            envs.reset(list(range(count)))
            assert_equal(rows(envs, 120), expected)
        assert envs.vector.pace.changes == 240 // 7
    assert sum(row[2].sum() + row[3].sum() for row in expected) >= 4 * count


def test_where_they_are_they_stay_without_a_reason():
    with adapting("CartPole-v1", 3, steps=10**9) as envs:
        envs.reset([0, 1, 2])
        assert len(envs.vector.envs) == 1
        envs.vector.change_over()
        assert len(envs.vector.envs) == 3 and envs.vector.workers == []
        envs.vector.change_over()
        assert len(envs.vector.envs) == 1 and len(envs.vector.workers) == 1


def test_the_state_is_the_same_wherever_they_are():
    """Saved here, put back in workers, and the other way round."""
    with adapting("HalfCheetah-v5", 2, steps=5) as envs, adapting("HalfCheetah-v5", 2, steps=4) as other:
        envs.reset([3, 4])
        other.reset([0, 0])
        rows(envs, 7)
        assert len(envs.vector.envs) == 2
        there = envs.state()
        other.restore(there)
        assert len(other.vector.envs) == 1
        expected = rows(envs, 30, seed=1)
        assert_equal(rows(other, 30, seed=1), expected)
        with make_envs("HalfCheetah-v5", 2) as alone:
            alone.reset([0, 0])
            alone.restore(there)
            assert_equal(rows(alone, 30, seed=1), expected)
            here = alone.state()
        for one in (envs, other):
            one.restore(here)
        assert_equal(rows(envs, 9, seed=2), rows(other, 9, seed=2))


@pytest.mark.parametrize("env", [Walk, Saves, lambda: gym.wrappers.NormalizeReward(gym.make("CartPole-v1"))])
def test_what_others_wrote_is_not_moved(env):
    """Also where it has a pair of methods: a run must not depend on whether they tell everything."""
    vector = ParallelVectorEnv(env, env(), 2, 1, adapt=True)
    assert vector.pace is None
    vector.close()


def test_one_that_was_asked_for_stays():
    for mode, moves in (("parallel", False), ("sync", False), ("async", False), ("auto", True)):
        with make_envs("CartPole-v1", 2, vectorization_mode=mode) as envs:
            assert (envs.vector.pace is not None) == (moves and bool(envs.vector.workers))


def test_a_worker_that_is_gone_moves_nothing():
    """They stay where they are for good: in the process that learns if it was idle."""
    with adapting("CartPole-v1", 3, steps=10**9) as envs, make_envs("CartPole-v1", 3) as alone:
        for one in (envs, alone):
            one.reset([0, 1, 2])
        envs.vector.change_over()
        process = envs.vector._elsewhere[1][0].process
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        envs.vector.change_over()
        assert envs.vector.pace is None and len(envs.vector.envs) == 3
        assert_equal(rows(envs, 40), rows(alone, 40))


def test_a_busy_worker_that_is_gone_is_mended_by_the_next_step():
    with adapting("CartPole-v1", 3, steps=10**9) as envs:
        envs.reset([0, 1, 2])
        rows(envs, 3)
        os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
        envs.vector.change_over()
        assert envs.vector.pace is None and len(envs.vector.envs) == 1
        with pytest.warns(EnvironmentRestarted, match="SIGKILL"):
            step = rows(envs, 1)[0]
        assert step[3].tolist() == [False, True, True]


def test_what_is_made_anew_moves_too():
    """Environment 0 fails here, and is another object afterwards; the others go on with it."""
    with adapting("CartPole-v1", 2, steps=3) as envs:
        envs.reset([0, 1])
        rows(envs, 3)  # both are here now
        broken = envs.vector.envs[0]

        def fails(action):
            raise ZeroDivisionError("gone")

        broken.step = fails
        with pytest.warns(EnvironmentRestarted, match="environment 0 .*gone"):
            rows(envs, 1)
        rows(envs, 6)  # there, and back
        assert envs.vector.pace is not None and envs.vector.envs[0] is not broken
        assert len(envs.vector.envs) == 2


def test_none_is_left_behind():
    """Neither a process nor an open environment, wherever they were at the end."""
    for moves in range(3):
        envs = adapting("CartPole-v1", 3, steps=10**9)
        envs.reset([0, 1, 2])
        processes = [worker.process for worker in envs.vector.workers]
        for _ in range(moves):
            envs.vector.change_over()
        envs.close()
        assert not any(process.is_alive() for process in processes)


def test_a_run_is_the_same_and_so_is_one_that_goes_on(monkeypatch):
    """`auto` that changes over all the time, `sync`, and those that go on from a snapshot of the other."""
    monkeypatch.setattr("proximo.envs.vector.parallel.Pace", Every)
    monkeypatch.setattr("proximo.envs.vector.parallel.granted_cores", lambda: 2)
    options = dict(steps=192, num_envs=2, horizon=32, minibatch_size=32, epochs=1, hidden=(8,))
    auto = with_options(preset("default", "Hopper-v5"), **options)
    assert auto.vectorization_mode == "auto"
    sync = with_options(auto, vectorization_mode="sync")

    def learned(config, start=None):
        return [
            (iteration.learner.policy, iteration.snapshot() if iteration.number == 2 else None)
            for iteration in training(config, start)
        ]

    runs = {name: learned(config) for name, config in (("auto", auto), ("sync", sync))}
    expected = jax.tree.leaves(runs["sync"][-1][0])
    found = {
        "auto": runs["auto"],
        "auto after sync": learned(auto, runs["sync"][1][1]),
        "sync after auto": learned(sync, runs["auto"][1][1]),
    }
    for name, run in found.items():
        for mine, theirs in zip(jax.tree.leaves(run[-1][0]), expected, strict=True):
            assert np.asarray(mine).tobytes() == np.asarray(theirs).tobytes(), name
