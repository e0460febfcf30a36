"""An environment that fails by accident is named and made anew, and the run goes on; a mistake ends it."""

import itertools
import os
import re
import signal
import time
import warnings
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Misbehaves, Walk, WrongShape

from proximo.control.collect import Stream, collect
from proximo.envs import EpisodeStatistics, HostEnvs, make_envs
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import EnvironmentFault, EnvironmentRestarted, StateNotSaved

SEEDS = [7, 8, 9]  # environment 2 is unlucky
ACTIONS = np.array([0, 1, 1])


def parallel(make, num_workers=1, num_envs=3, **options):
    """With one worker, environment 0 runs here and the others there."""
    options = {"max_restarts": 10, **options}
    return HostEnvs(ParallelVectorEnv(make, make(), num_envs, num_workers, **options), "Walks")


def stream(envs, rows=12):
    """Copies of `rows` rows, and the warnings meanwhile."""
    with envs, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = [(np.array(envs.reset(SEEDS)), np.zeros(3), np.zeros(3, bool), np.zeros(3, bool))]
        for _ in range(rows):
            seen.append(tuple(np.array(x) for x in envs.step(ACTIONS)[:4]))
        assert envs.restarts == len(caught)
        assert all(warning.category is EnvironmentRestarted for warning in caught)
        return [np.stack(x) for x in zip(*seen, strict=True)], [warning.message for warning in caught]


@pytest.fixture(scope="module")
def undisturbed():
    return stream(parallel(partial(Misbehaves, unlucky=None, at=-1), 0))[0]


@pytest.mark.parametrize(
    ("how", "why", "trace"),
    [
        ("raise", "ZeroDivisionError: a bad day", "in misbehave"),
        ("kill", "its process was killed by signal 9 (SIGKILL)", None),
        ("crash", "its process was killed by signal 11 (SIGSEGV)", "in string_at"),
        ("exit", "its process ended with exit status 3", None),
        ("hang", "it did not finish a step within 1 s; its process was killed", "in misbehave"),
    ],
)
def test_a_worker_is_started_again(how, why, trace, undisturbed):
    started = time.monotonic()
    envs = parallel(partial(Misbehaves, how), step_timeout=1.0)
    (obs, reward, terminated, truncated), (warning,) = stream(envs)
    assert time.monotonic() - started < 20
    assert str(warning).startswith(f"environment 2 of Walks failed at step 5, after the action 1: {why}")
    assert "\n" not in str(warning) and str(warning).endswith("(restart 1 of at most 10)")
    notes = "".join(getattr(warning.__cause__, "__notes__", []))
    assert trace in notes if trace else not notes
    # Environment 2 could not finish row 5: the last good observation, reward 0, truncated; then a seam.
    lost = [2] if how == "raise" else [1, 2]
    assert np.argwhere(truncated).tolist() == [[5, index] for index in lost] and not terminated.any()
    np.testing.assert_array_equal(obs[5, 2], obs[4, 2])
    assert reward[5, 2] == 0 and (reward[6, lost] == 0).all()
    assert obs[6, lost, 1].tolist() == [0] * len(lost)  # clocks of new episodes
    assert obs[-1, lost, 1].tolist() == [6] * len(lost)
    # What it did not touch is what it would have been; environment 1 had finished row 5.
    kept = [index for index in range(3) if index not in lost]
    for mine, theirs in zip((obs, reward), undisturbed, strict=False):
        np.testing.assert_array_equal(mine[:, kept], theirs[:, kept])
        np.testing.assert_array_equal(mine[:5], theirs[:5])
        np.testing.assert_array_equal(mine[5, :2], theirs[5, :2])


def test_so_is_an_environment_in_this_process(undisturbed):
    runs = [stream(parallel(Misbehaves, 0)) for _ in range(2)]
    (obs, reward, _, truncated), (warning,) = runs[0]
    assert str(warning) == (
        "environment 2 of Walks failed at step 5, after the action 1: ZeroDivisionError: a bad day; "
        "it was restarted and its episode truncated (restart 1 of at most 10)"
    )
    assert isinstance(warning.__cause__, ZeroDivisionError)
    assert np.argwhere(truncated).tolist() == [[5, 2]] and reward[5, 2] == 0
    np.testing.assert_array_equal(obs[:, :2], undisturbed[0][:, :2])
    for one, other in zip(runs[0][0], runs[1][0], strict=True):  # its new seed is no accident
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_a_stopped_process_takes_no_worker_for_hanging(monkeypatch, undisturbed):
    # Ctrl-Z while a worker steps: once they go on, the clock has leapt by a day, and nothing hangs.
    calls = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 86_400.0 * (next(calls) > 0))
    monkeypatch.setattr("proximo.envs.vector.workers.time", clock)
    found, caught = stream(parallel(partial(Misbehaves, "nap"), step_timeout=30.0))
    assert not caught and next(calls) >= 3  # one wait looked twice or more often, the end once
    np.testing.assert_array_equal(found[0], undisturbed[0])


def test_a_hang_in_this_process_is_ended_by_an_alarm(undisturbed):
    # Three environments of 0.1 s each; once it is made anew, it goes on as after an exception.
    (obs, _, _, truncated), (warning,) = stream(parallel(partial(Misbehaves, "hang"), 0, step_timeout=0.1))
    what = (
        "environment 2 of Walks failed at step 5, after the action 1: it hangs: no result within 0.3 s; it "
    )
    assert str(warning).startswith(what + "was restarted")
    assert np.argwhere(truncated).tolist() == [[5, 2]]
    np.testing.assert_array_equal(obs[:, :2], undisturbed[0][:, :2])
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore::proximo.errors.EnvironmentRestarted")
@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_cut_episode_counts_as_truncated(how):
    with parallel(partial(Misbehaves, how)) as envs:
        rollout = collect(
            lambda obs, noise, start, carry: (ACTIONS, carry), Stream(envs, SEEDS), np.zeros((12, 3))
        )
        episodes = EpisodeStatistics(3).update(rollout)
    lost = [2] if how == "raise" else [1, 2]
    assert np.argwhere(rollout.mask == 0).tolist() == [[5, index] for index in lost]
    assert [(episode.env, episode.length, episode.terminated) for episode in episodes] == [
        (index, 5, False) for index in lost
    ]
    assert episodes[-1].episode_return == rollout.reward[:4, 2, 0].sum()


def test_a_worker_killed_between_two_steps(undisturbed):
    with parallel(partial(Misbehaves, unlucky=-1)) as envs:
        envs.reset(SEEDS)
        for _ in range(4):
            envs.step(ACTIONS)
        os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
        with pytest.warns(EnvironmentRestarted, match=r"step 5.*SIGKILL.*; environments 1 to 2 were rest"):
            step = envs.step(ACTIONS)
        np.testing.assert_array_equal(step.obs[1:], undisturbed[0][4, 1:])
        assert step.reward[1:].tolist() == [0, 0] and step.truncated.tolist() == [False, True, True]
        for _ in range(3):
            step = envs.step(ACTIONS)
        assert step.obs[:, 1].tolist() == [8, 2, 2] and not step.truncated.any()


def test_a_worker_killed_at_rest_costs_the_state_and_is_mended_by_the_next_step():
    with parallel(partial(gym.make, "CartPole-v1")) as envs:
        envs.reset(SEEDS)
        for _ in range(3):
            envs.step(ACTIONS)
        os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
        with pytest.warns(StateNotSaved, match=r"Walks failed to save its state \(.*SIGKILL"):
            assert envs.state() is None
        assert envs.state() is None
        with pytest.warns(EnvironmentRestarted, match=r"step 4.*SIGKILL.*; environments 1 to 2 were rest"):
            step = envs.step(ACTIONS)
        assert step.truncated.tolist() == [False, True, True] and step.reward.tolist() == [1, 0, 0]
        for _ in range(3):
            step = envs.step(ACTIONS)
        assert not (step.terminated | step.truncated).any() and step.reward.tolist() == [1, 1, 1]
        assert envs.restarts == 1 and envs.state()["restarts"] == 1


def test_the_state_of_an_environment_that_was_just_made_anew():
    """It goes on in a new process as it would have here, restarts counted."""
    make = partial(gym.make, "CartPole-v1")
    with parallel(make) as envs, parallel(make) as other:
        envs.reset(SEEDS)
        for _ in range(3):
            envs.step(ACTIONS)
        os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
        with pytest.warns(EnvironmentRestarted):
            envs.step(ACTIONS)
        other.reset([1, 2, 3])
        other.restore(envs.state())
        assert other.restarts == 1
        for _ in range(40):
            for mine, theirs in zip(other.step(ACTIONS)[:4], envs.step(ACTIONS)[:4], strict=True):
                np.testing.assert_array_equal(mine, theirs)


class ResetsBadly(Walk):
    """Its third reset fails, if it was seeded with 3."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        self.seeded = self.seeded if seed is None else seed
        if self.resets == 3 and self.seeded == 3:
            raise ZeroDivisionError("no third chance")
        return super().reset(seed=seed)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_reset_that_fails_between_episodes(num_workers):
    """The row of the seam becomes another seam: nothing is counted twice."""
    with parallel(ResetsBadly, num_workers, 1) as envs:
        stream = Stream(envs, [3])
        with pytest.warns(EnvironmentRestarted, match=r"at step .*no third chance"):
            rollout = collect(lambda *_: (np.zeros(1, int), ()), stream, np.zeros((20, 1)))
    second = np.flatnonzero((rollout.terminated | rollout.truncated)[:, 0])[1]
    assert rollout.mask[second : second + 4, 0].tolist() == [1, 0, 0, 1]
    assert rollout.obs[second + 3, 0, 1] == 0  # the clock of the new episode


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_reset_of_all_that_fails(num_workers):
    """It gives what it would have given, with the seed that was asked for."""
    with parallel(ResetsBadly, num_workers, 1) as envs:
        first = np.array(envs.reset([3]))
        envs.step(np.zeros(1, int))
        envs.step(np.zeros(1, int))
        envs.reset([3])
        with pytest.warns(EnvironmentRestarted, match=r"at its reset: .*no third chance"):
            np.testing.assert_array_equal(envs.reset([3]), first)


def refused(envs, rows=40):
    """The fault that ends a run."""
    with envs, pytest.raises(EnvironmentFault) as raised:
        envs.reset(SEEDS[: envs.num_envs])
        for _ in range(rows):
            envs.step(ACTIONS[: envs.num_envs])
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(("how", "most"), [("raise", 3), ("kill", 1)])
def test_restarts_are_bounded(how, most):
    make = partial(Misbehaves, how, unlucky=None)
    with pytest.warns(EnvironmentRestarted) as caught:
        message = refused(parallel(make, 1, 1, max_restarts=most, restart_interval=0.0))
    assert len(caught) == most
    assert f"failed at step {5 + most * 6}," in message  # a seam and 5 steps each
    assert f"it was not restarted: max_restarts is {most}" in message


@pytest.mark.parametrize("num_workers", [0, 1])
def test_restarts_are_spaced_out(num_workers):
    with pytest.warns(EnvironmentRestarted) as caught:
        message = refused(parallel(partial(Misbehaves, unlucky=None), num_workers, 1))
    assert len(caught) == 1 and "failed at step 11," in message
    assert re.search("not restarted: the last restart was . s ago, and restart_interval is 60 s", message)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "make", [partial(Misbehaves, at=1), partial(WrongShape, at=2), partial(WrongShape, at=0)]
)
def test_a_mistake_is_no_accident(make, num_workers):
    """An error in the very first step, or an observation that does not fit: it would happen again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", EnvironmentRestarted)
        message = refused(parallel(make, num_workers))
    assert "it was not restarted" not in message
    assert "ZeroDivisionError" in message or "but its space declares (2,)" in message


def test_nor_is_what_fails_at_once_again():
    made = []

    class Worse(Misbehaves):
        def __init__(self):
            made.append(self)
            super().__init__(at=5 if len(made) <= 3 else 1, unlucky=None)

    with pytest.warns(EnvironmentRestarted):
        message = refused(parallel(Worse, 0, restart_interval=0.0))
    assert "it was not restarted: it had just been restarted" in message


def test_a_first_step_may_take_its_time():
    """It may compile; the time-out of a step holds from the second one on."""
    envs = parallel(partial(Misbehaves, "nap", at=1), step_timeout=1.0)
    assert stream(envs)[1] == []


def test_options_through_make_envs():
    envs = make_envs("CartPole-v1", 2, vectorization_mode="parallel", vector_kwargs={"max_restarts": 3})
    with envs:
        assert envs.vector.restarts.most == 3 and envs.restarts == 0


def test_a_worker_needs_no_jax():
    """For the state of its environments neither."""
    with parallel(partial(gym.make, "CartPole-v1")) as envs:
        envs.reset(SEEDS)
        assert envs.state() is not None
        maps = f"/proc/{envs.vector.workers[0].process.pid}/maps"
        if not os.path.exists(maps):
            pytest.skip("needs Linux")
        with open(maps) as file:
            assert "jaxlib" not in file.read()
