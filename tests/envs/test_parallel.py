"""Environments in worker processes give exactly the stream that they would have given in one process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import types
from functools import partial

import gymnasium as gym
import jax
import numpy as np
import pytest
from env_probes import Walk
from gymnasium.envs.classic_control import CartPoleEnv
from jax_probe import InJax

from proximo.envs import make_envs
from proximo.envs.host import HostEnvs
from proximo.envs.vector.parallel import ParallelVectorEnv, spare_workers
from proximo.errors import EnvironmentFault, UserError


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
    """Nor is it missed by what it defines."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "from proximo.envs import make_envs\n"
        "class Typed(CartPoleEnv):\n"
        "    def reset(self, **options):\n"
        "        obs, info = super().reset(**options)\n"
        "        return offset + 0 * obs, info\n"
        "offset = 3.0\n"
        "with make_envs(Typed, 2, vectorization_mode='async') as envs:\n"
        "    print(envs.reset([0, 1]).sum())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "once\n24.0\n", done.stderr
    assert done.returncode == 0, done.stderr


def test_a_worker_of_a_pool_steps_all_itself(monkeypatch):
    # multiprocessing: "daemonic processes are not allowed to have children".
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert spare_workers(4) == 0
    with pytest.raises(
        UserError,
        match="start worker processes in a worker of a multiprocessing pool: use vectorization_mode",
    ):
        make_envs("CartPole-v1", 2, vectorization_mode="async")


def test_an_environment_that_uses_jax_has_processes_too():
    """A fork would take JAX's locks along and hang; these are started anew."""
    jax.block_until_ready(jax.numpy.ones(3) + 1)  # this process has used it
    with make_envs(InJax, 1, vectorization_mode="async") as envs:
        envs.reset([3])
        found = [envs.step(np.zeros(1, int)).obs.copy() for _ in range(3)]
    with make_envs(Walk, 1) as envs:
        envs.reset([3])
        expected = [np.sin(envs.step(np.zeros(1, int)).obs) for _ in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: Walk(limit=1), partial(Walk, limit=1), "Lambda-v0"])
def test_functions_and_classes_move_to_processes_of_their_own(make):
    """Also what plain pickle cannot move: a function without a name, one in registered options."""

    class Local(Walk):
        def __init__(self, make):
            super().__init__(make())

    gym.register("Lambda-v0", Local, kwargs={"make": lambda: 1})
    try:
        with make_envs(make, 2, vectorization_mode="async") as envs:
            envs.reset([0, 1])
            assert envs.step(np.zeros(2, int)).truncated.all() and len(envs.vector.workers) == 2
    finally:
        del gym.registry["Lambda-v0"]


class Stays:
    """As a lock, an open file or a socket does, in the process where it was made."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("it stays here")


@pytest.mark.parametrize("mode", ["async", "parallel"])
def test_what_cannot_be_moved_is_said_and_sync_takes_it(mode, monkeypatch):
    monkeypatch.setattr("proximo.envs.make.spare_workers", lambda count: 1)
    gym.register("Stays-v0", "env_probes:Walk", kwargs={"limit": Stays()})
    says = r"cannot be sent to a worker process \(TypeError: it stays here\); --vectorization-mode sync"
    try:
        with pytest.raises(UserError, match=says) as raised:
            make_envs("Stays-v0", 2, vectorization_mode=mode)
        assert "\n" not in str(raised.value)
        make_envs("Stays-v0", 2, vectorization_mode="sync").close()
    finally:
        del gym.registry["Stays-v0"]


def test_so_is_what_a_process_of_its_own_does_not_find(monkeypatch):
    """A class of a module that only this process has."""
    module = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.Walk = type("Walk", (Walk,), {"__module__": "only_here"})
    with (
        make_envs(module.Walk, 1, vectorization_mode="async") as envs,
        pytest.raises(EnvironmentFault) as raised,
    ):
        envs.reset([0])
    says = "cannot be sent to a worker process (ModuleNotFoundError: No module named 'only_here'); --vect"
    assert says in str(raised.value)


def test_what_is_defined_in_the_program_that_was_typed_is_stepped_here(monkeypatch):
    # A worker process has another `__main__`, in which it would look for it in vain.
    monkeypatch.setattr("__main__.Typed", type("Typed", (CartPoleEnv,), {}), raising=False)
    gym.register("Typed-v0", "__main__:Typed", max_episode_steps=9)
    try:
        envs = make_envs("Typed-v0", 2, vectorization_mode="parallel")
        assert isinstance(envs.vector, ParallelVectorEnv) and not envs.vector.workers
        envs.close()
        with make_envs(
            "Typed-v0", 2, vectorization_mode="async"
        ) as envs:  # there it is moved, not looked for
            assert envs.reset([0, 1]).shape == (2, 4)
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
