"""A limit on the time that environments of this process may take."""

import math
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import gymnasium as gym
import pytest
from env_probes import Misbehaves
from probes import Endless

from proximo.control.arena import environments
from proximo.control.config import Config
from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.timeout import Timeout
from proximo.errors import EnvironmentFault, WorkerError
from proximo.options import with_options

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")


def test_what_takes_too_long_is_interrupted():
    started = time.monotonic()
    with pytest.raises(WorkerError, match=r"it hangs: no result within 0.05 s"), Timeout(0.05):
        time.sleep(20)
    assert time.monotonic() - started < 10


def test_it_rings_once():
    # A second error, on the way out of the first, could leave the block with its timer still running.
    with Timeout(0.05):
        with pytest.raises(WorkerError):
            time.sleep(20)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [None, 20.0, 1e10, math.inf, math.nan])
def test_what_is_in_time_is_left_alone(seconds):
    with Timeout(seconds):
        time.sleep(0.01)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_process_that_was_stopped_has_not_hung():
    """Ctrl-Z for longer than the limit: the timer runs on meanwhile, but nothing hung."""
    code = (
        "import time\n"
        "from proximo.envs.vector.timeout import Timeout\n"
        "with Timeout(2.0):\n"
        "    print('in', flush=True)\n"
        "    time.sleep(0.3)\n"
        "print('out')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == "out\n" and process.returncode == 0


def test_an_alarm_that_is_somebody_elses_stays():
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        with Timeout(0.01):
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_another_thread_has_no_limit():
    slept = []

    def sleep():
        with Timeout(0.01):
            time.sleep(0.05)
        slept.append(True)

    thread = threading.Thread(target=sleep)
    thread.start(), thread.join()
    assert slept


def test_a_hang_in_gymnasiums_sync_vector_is_named():
    vector = gym.vector.SyncVectorEnv([partial(Misbehaves, "hang", at=2)] * 3)
    with HostEnvs(vector, "Walks") as envs:
        envs.step_timeout = 0.1
        envs.reset([4, 9, 6])  # 9 is unlucky
        envs.step([0, 1, 0])
        with pytest.raises(
            EnvironmentFault, match=r"environment 1 of .* at step 2, after the action 1: it hangs"
        ):
            envs.step([0, 1, 0])


def test_a_reset_may_take_longer_than_a_step():
    class SlowToBegin(Endless):
        def begin(self):
            super().begin()
            time.sleep(0.2)

    for vector in (
        HostEnvs(gym.vector.SyncVectorEnv([SlowToBegin]), "Slow"),
        make_envs(SlowToBegin, 1, vector_kwargs={"step_timeout": 0.1}),
    ):
        with vector as envs:
            envs.step_timeout = 0.1
            envs.reset([1])
            for _ in range(13):  # episodes of five steps; the row behind each begins the next one
                envs.step([0])
            assert envs.restarts == 0


def test_training_sets_the_limit():
    """Seconds of each environment; of the batch of four that a vector of the caller's steps in one call."""
    options = dict(num_envs=4, step_timeout=7.0)
    with environments(with_options(Config("CartPole-v1"), **options), 4) as envs:
        assert envs.vector.step_timeout == 7.0 and envs.step_timeout is None
    passed = gym.vector.SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 4)
    with environments(with_options(Config(passed), **options), 4) as envs:
        assert envs.step_timeout == 28.0


def test_what_is_not_trained_has_no_limit():
    """A window may be dragged, a debugger may wait."""
    with make_envs("CartPole-v1", 1) as envs:
        assert envs.vector.step_timeout == envs.vector.reset_timeout == math.inf
