"""Worker processes end with the process that learns, and not before it: whoever tells the group to end."""

import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from env_probes import Parent, Walk

from proximo.envs import HostEnvs, make_envs
from proximo.envs.handlers import preserve_handlers
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.workers import WorkerGone
from proximo.errors import EnvironmentNotClosed, EnvironmentRestarted

STILL = np.zeros(2, int)

SCRIPT = """
import functools, multiprocessing, os, sys, time
import gymnasium as gym
sys.path.insert(0, {here!r})
from env_probes import Misbehaves, Parent, Walk
from proximo.envs.vector.parallel import ParallelVectorEnv

make = {make}
vector = ParallelVectorEnv(make, make(), 2, 1)
# A process of the caller's, forked, holds what would tell the worker of its end; it may live on for a while.
multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,), daemon=True).start()
obs, _ = vector.reset(seed=[0, 9])
print(vector.workers[0].process.pid, *(obs[1] if make is Parent else ()), flush=True)
"""


def script(make, ending):
    """A process of its own that steps environments, and the numbers of its worker and what that started."""
    text = SCRIPT.format(here=os.path.dirname(__file__), make=make) + ending
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    return process, [int(number) for number in process.stdout.readline().split()]


def is_gone(number, seconds):
    """Whether a process ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True
        ).stdout
        if not state or state.startswith("Z"):  # whoever inherits the dead may let them lie
            return True
        time.sleep(0.1)
    return False


def parallel(make):
    return HostEnvs(ParallelVectorEnv(make, make(), 2, 1, max_restarts=10), "Walks")


def test_a_worker_leaves_sigterm_to_the_process_that_learns():
    with parallel(Walk) as envs:
        number = envs.vector.workers[0].process.pid
        os.kill(number, signal.SIGTERM)  # before it has begun to work, perhaps
        envs.reset([0, 1])
        os.kill(number, signal.SIGTERM)
        time.sleep(0.2)
        for _ in range(3):
            envs.step(STILL)
        assert envs.restarts == 0
    assert is_gone(number, 1)


class Starts(Walk):
    """Starts a program, and asks it to end when it is reset."""

    def reset(self, *, seed=None, options=None):
        program = subprocess.Popen(["sleep", "60"])
        program.terminate()
        assert program.wait(timeout=10) == -signal.SIGTERM
        return super().reset(seed=seed)


def test_a_program_that_an_environment_starts_can_be_ended():
    with parallel(Starts) as envs:
        envs.reset([0, 1])


class EndsAtOnce(Walk):
    """Forks processes, and asks each to end before it has run at all."""

    def reset(self, *, seed=None, options=None):
        for _ in range(10):
            if not (number := os.fork()):
                time.sleep(2)
                os._exit(0)
            os.kill(number, signal.SIGTERM)
            assert os.waitpid(number, 0)[1] == signal.SIGTERM
        return super().reset(seed=seed)


@pytest.mark.filterwarnings("ignore:.*fork")  # JAX warns of any, for what it may hold at that moment
def test_a_process_that_an_environment_forks_hears_what_comes_at_once():
    """A fork forgets signals that arrive before the new process has handlers of its own."""
    with parallel(EndsAtOnce) as envs:
        envs.reset([0, 1])
    with preserve_handlers({signal.SIGTERM: lambda number, frame: None}):  # in the process that learns, too
        EndsAtOnce().reset()


def test_a_vector_that_nobody_closed_does_not_keep_its_process_from_ending():
    process, others = script("Parent", "")
    assert process.wait(timeout=20) == 0
    assert len(others) == 4 and all(is_gone(other, 1) for other in others)


@pytest.mark.parametrize("ends", ["closes", "is killed", "ends them itself"])
def test_what_an_environment_started_ends_with_its_worker(ends, monkeypatch):
    """A worker may have children of its own, and leaves none behind."""
    # It waits for those that nobody ended.
    monkeypatch.setattr("proximo.envs.vector.parallel.CLOSE_SECONDS", 0.5)
    with HostEnvs(ParallelVectorEnv(Parent, Parent(), 1, 1, max_restarts=1), "Parents") as envs:
        envs.reset([0])
        others = envs.vector.observations()[0].tolist()
        envs.step(STILL[:1])
        if ends == "is killed":
            os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
            with pytest.warns(EnvironmentRestarted):
                envs.step(STILL[:1])
            assert all(is_gone(other, 1) for other in others)
            others = envs.step(STILL[:1]).obs[0].tolist()
        elif ends == "ends them itself":
            envs.step(STILL[:1] + 1)
        assert envs.restarts == (ends == "is killed")
    assert len(set(others)) == 3 and all(is_gone(other, 1) for other in others)


def test_nor_does_one_that_nobody_has_any_more():
    envs = parallel(Walk)
    envs.reset([0, 1])
    worker = envs.vector.workers[0].process
    del envs
    gc.collect()
    worker.join(timeout=5)
    assert worker.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("make", ["Parent", "functools.partial(Misbehaves, 'hang', at=1)"])
def test_a_worker_ends_after_the_process_that_learns(make):
    """Even if an environment hangs, and nobody watches it any more."""
    process, others = script(make, "vector.step([0, 0])\n" if "hang" in make else "time.sleep(60)")
    time.sleep(0.5)
    process.kill()
    process.wait()
    assert all(is_gone(other, 15) for other in others)


class ClosesBadly(Walk):
    """Fails to close once it has made a step."""

    closed: list[int] = []  # noqa: RUF012

    def close(self):
        if getattr(self, "clock", 0):
            self.closed.append(1)
            raise RuntimeError("the window is\nalready gone")


@pytest.mark.parametrize("mode", ["sync", "parallel", "async"])
def test_an_environment_that_fails_to_close_is_a_warning(mode):
    envs = make_envs(ClosesBadly, 2, vectorization_mode=mode)
    envs.reset([0, 1])
    envs.step(STILL)
    with pytest.warns(
        EnvironmentNotClosed, match="ClosesBadly failed to close: RuntimeError: the window is al"
    ) as caught:
        envs.close()
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


def test_the_others_of_its_share_and_the_workers_are_closed_all_the_same():
    ClosesBadly.closed.clear()
    envs = HostEnvs(ParallelVectorEnv(ClosesBadly, ClosesBadly(), 5, 1), "Walks")
    envs.reset(range(5))
    envs.step(np.zeros(5, int))
    with pytest.warns(EnvironmentNotClosed, match="Walks failed to close"):
        envs.close()
    assert len(ClosesBadly.closed) == 2  # here; the other three there
    assert envs.vector.workers[0].process.exitcode == 0


class Heavy(Walk):
    """Tells a state of 8 MB."""

    def get_state(self):
        return {"position": self.position, "clock": self.clock, "ballast": np.zeros(10**6)}

    def set_state(self, state):
        self.position, self.clock = state["position"], state["clock"]


def test_a_worker_that_is_killed_while_it_tells_its_state_is_mended_by_the_next_step():
    """In the middle of an answer, which is more than a pipe holds."""
    with parallel(Heavy) as envs:
        envs.reset([0, 1])
        for _ in range(3):
            envs.step(STILL)
        assert envs.state() is not None
        worker = envs.vector.workers[0]
        worker.begin_save()
        assert worker._pipe.poll(10)
        time.sleep(0.2)  # as much as the pipe holds
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerGone, match="SIGKILL"):
            worker.save()
        with pytest.warns(EnvironmentRestarted, match=r"step 4.*SIGKILL"):
            envs.step(STILL)
        assert envs.step(STILL).obs[:, 1].tolist() == [5, 0] and envs.state() is not None
