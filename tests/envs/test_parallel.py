"""Environments in worker processes give exactly the stream that they would have given in one process."""

import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from proximo.envs import make_envs
from proximo.envs.host import HostEnvs
from proximo.envs.parallel import ParallelVectorEnv, spare_workers
from proximo.errors import EnvironmentFault


def stream(envs: HostEnvs, rows: int) -> list[tuple[np.ndarray, ...]]:
    """Copies of everything that `rows` random steps return."""
    rng = np.random.default_rng(0)
    first = np.array(envs.reset(list(range(7, 7 + envs.num_envs))))
    seen = [(first,)]
    for _ in range(rows):
        step = envs.step(rng.integers(0, 2, envs.num_envs))
        seen.append(tuple(np.array(x) for x in (step.obs, step.reward, step.terminated, step.truncated)))
    envs.close()
    return seen


def wrapped(num_envs: int, num_workers: int) -> HostEnvs:
    make = partial(gym.make, "CartPole-v1")
    return HostEnvs(ParallelVectorEnv(make, make(), num_envs, num_workers), "CartPole-v1")


@pytest.mark.parametrize(("num_envs", "num_workers"), [(3, 0), (1, 1), (3, 1), (5, 2), (3, 3)])
def test_the_stream_is_that_of_one_process(num_envs: int, num_workers: int) -> None:
    """60 random steps end several episodes of CartPole, so seams are compared too."""
    gymnasium = gym.vector.SyncVectorEnv([partial(gym.make, "CartPole-v1")] * num_envs)
    expected = stream(HostEnvs(gymnasium, "CartPole-v1"), 60)
    found = stream(wrapped(num_envs, num_workers), 60)
    assert sum(row[2].sum() for row in expected[1:]) >= 2 * num_envs
    for ours, theirs in zip(found, expected, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


class Breaks(gym.Env):
    """Raises at its third step if it was seeded with 9."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.unlucky, self.steps = seed == 9, 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.unlucky and self.steps == 3:
            raise ZeroDivisionError("the pole is gone")
        return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_names_the_environment_wherever_it_runs(num_workers: int) -> None:
    """Seeds 7, 8, 9: environment 2 is unlucky; with one worker it runs there, with none it runs here."""
    vector = ParallelVectorEnv(Breaks, Breaks(), 3, num_workers, max_restarts=0)
    with HostEnvs(vector, "Breaks") as envs:
        envs.reset([7, 8, 9])
        with pytest.raises(
            EnvironmentFault, match=r"environment 2 of Breaks failed at step 3.*the pole is gone"
        ):
            for _ in range(5):
                envs.step(np.zeros(3, int))


def test_a_killed_worker_is_named_and_not_waited_for() -> None:
    """One that has not made a step yet is not started again: it might die for ever."""
    envs = wrapped(2, 1)
    envs.reset([0, 1])
    os.kill(envs.vector.workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFault, match=r"environment 1 .*killed by signal 9 \(SIGKILL\)"):
        envs.step(np.zeros(2, int))
    envs.close()


def test_a_script_without_a_guard_is_not_run_again(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from proximo.envs import make_envs\n"
        "from proximo.envs.parallel import ParallelVectorEnv\n"
        "import gymnasium as gym, functools\n"
        "make = functools.partial(gym.make, 'CartPole-v1')\n"
        "vector = ParallelVectorEnv(make, make(), 2, 1)\n"
        "vector.reset(seed=0)\n"
        "vector.close()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "once\n", done.stderr
    assert done.returncode == 0, done.stderr


def test_a_worker_of_a_pool_steps_all_itself(monkeypatch):
    # multiprocessing: "daemonic processes are not allowed to have children".
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert spare_workers(4) == 0


def test_what_is_defined_in_the_program_that_was_typed_is_stepped_here(monkeypatch):
    # A worker process has another `__main__`, in which it would look for it in vain.
    monkeypatch.setattr("__main__.Typed", type("Typed", (CartPoleEnv,), {}), raising=False)
    gym.register("Typed-v0", "__main__:Typed", max_episode_steps=9)
    try:
        envs = make_envs("Typed-v0", 2, vectorization_mode="parallel")
        assert isinstance(envs.vector, ParallelVectorEnv) and not envs.vector.workers
        envs.close()
    finally:
        del gym.registry["Typed-v0"]


def test_workers_never_outnumber_what_can_be_busy() -> None:
    assert 0 <= spare_workers(1) <= 1
    assert spare_workers(4) <= 3


def test_an_instance_is_stepped_here_and_left_open() -> None:
    """It cannot be made a second time, in a worker or anywhere; and it is the caller's to close."""

    class Closes(Breaks):
        closed = False

        def close(self):
            self.closed = True

    env = Closes()
    with make_envs(env, 1, vectorization_mode="parallel") as envs:
        envs.reset([0])
        envs.step(np.zeros(1, int))
    assert not env.closed
