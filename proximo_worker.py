"""What a process that steps environments does, and what it shares with the one that learns.

A module of its own, beside the package: a worker needs neither JAX nor the rest, and importing the package
would cost each worker a second and 200 MB.
"""

import multiprocessing
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np

TRIES = 5_000  # of a semaphore before sleeping on it: about 0.4 ms, several steps of most simulations
PATIENCE, SLEEPS = 4, 200  # waits in vain before sleeping, and for how many waits
LOOK_SECONDS = 1.0  # how often a sleeping process looks whether the other one still lives
RESET, STEP, CLOSE = 0, 1, 2
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


class WorkerError(Exception):
    """What an environment did wrong, in one line; a traceback from a worker is a note of this one."""


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [1]       what to do next: RESET, STEP or CLOSE
    failed      [N]       a worker's first environment stands for it: its report is in the pipe
    seeds       [N]       for RESET
    actions     [N, ...]  for STEP
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]
    """

    def __init__(self, num_envs: int, observation: gym.Space, action: gym.Space) -> None:
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "command": ((1,), np.dtype(np.int64)),
            "failed": ((num_envs,), np.dtype(bool)),
            "seeds": ((num_envs,), np.dtype(np.int64)),
            "actions": ((num_envs, *(action.shape or ())), np.dtype(action.dtype)),
            "obs": ((num_envs, *(observation.shape or ())), np.dtype(observation.dtype)),
            "reward": ((num_envs,), np.dtype(np.float64)),
            "terminated": ((num_envs,), np.dtype(bool)),
            "truncated": ((num_envs,), np.dtype(bool)),
        }
        self.memory = {
            name: CONTEXT.RawArray("b", max(1, int(np.prod(shape)) * dtype.itemsize))
            for name, (shape, dtype) in self.specs.items()
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The memory as arrays, in whichever process asks."""
        return {
            name: np.frombuffer(self.memory[name], dtype, int(np.prod(shape))).reshape(shape)
            for name, (shape, dtype) in self.specs.items()
        }


class Chunk:
    """Environments `first` to `last` - 1 of a vector, stepped one after another."""

    def __init__(self, make: Callable[[], gym.Env], first: int, last: int, shared: Shared) -> None:
        self.first = first
        self.envs = [make() for _ in range(first, last)]
        self.seam = [False] * len(self.envs)
        self.arrays = shared.arrays()

    def obey(self, command: int) -> None:
        """RESET, STEP or CLOSE all of them; an exception is told which environment raised it."""
        index = self.first
        try:
            for position, env in enumerate(self.envs):
                index = self.first + position
                if command == STEP:
                    self._step(env, position, index)
                elif command == RESET:
                    self._reset(env, position, index, int(self.arrays["seeds"][index]))
                else:
                    env.close()
        except Exception as error:
            error.environment_index = index  # type: ignore[attr-defined]
            raise

    def _reset(self, env: gym.Env, position: int, index: int, seed: int | None) -> None:
        obs, _ = env.reset(seed=seed)
        row = self.arrays["obs"][index]
        if np.shape(obs) != np.shape(row):
            raise WorkerError(
                f"it returned an observation of shape {np.shape(obs)}, its space declares {np.shape(row)}; "
                "correct its observation_space or what it returns"
            )
        self.arrays["obs"][index] = obs
        self.seam[position] = False

    def _step(self, env: gym.Env, position: int, index: int) -> None:
        """One NEXT_STEP row: an environment that ended before answers with its next episode's start."""
        arrays = self.arrays
        if self.seam[position]:
            self._reset(env, position, index, None)
            arrays["reward"][index] = 0.0
            arrays["terminated"][index] = arrays["truncated"][index] = False
            return
        obs, reward, terminated, truncated, _ = env.step(arrays["actions"][index])
        arrays["obs"][index], arrays["reward"][index] = obs, reward
        arrays["terminated"][index], arrays["truncated"][index] = terminated, truncated
        self.seam[position] = terminated or truncated


class Worker:
    """A process that steps a chunk, seen from the process that learns."""

    def __init__(self, make: Callable[[], gym.Env], first: int, last: int, shared: Shared) -> None:
        self.first = first
        self._command, self._failed = (shared.arrays()[name] for name in ("command", "failed"))
        self._go, done = CONTEXT.Semaphore(0), CONTEXT.Semaphore(0)
        self._gate = Gate(done)
        self._pipe, theirs = CONTEXT.Pipe(duplex=False)
        words = (make, first, last, shared, self._go, done, theirs)
        self.process = CONTEXT.Process(target=work, args=words, daemon=True)
        with nobody_main():
            self.process.start()
        theirs.close()
        self._started = False

    def begin(self, command: int) -> None:
        """Let it do a command; returns at once."""
        if not self._started and command != CLOSE:
            self.wait()  # until its environments are made
            self._started = True
        self._command[0] = command
        self._go.release()

    def wait(self) -> None:
        """Until it has done the command. Raises WorkerError for what its environment raised, or its death."""
        while not self._gate.passed():
            if not self.process.is_alive():
                error = WorkerError(
                    f"its process ended with exit status {self.process.exitcode}; look for a crash in native "
                    "code, or too little memory"
                )
                error.environment_index = self.first  # type: ignore[attr-defined]
                raise error
        if self._failed[self.first]:
            index, message, trace = self._pipe.recv()
            error = WorkerError(message)
            error.add_note(trace)
            error.environment_index = index  # type: ignore[attr-defined]
            raise error

    def end(self) -> None:
        """Wait for the process to end, and end it if it does not."""
        self.process.join(timeout=5.0)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


class Gate:
    """Waiting for another process: by trying for a moment, or asleep where trying does not pay.

    A try costs no switch of threads, so an answer that comes soon is had at once. But on a core that both
    processes share, whoever tries keeps the other from answering: after a few waits in vain it sleeps
    instead, and looks again later whether the core has become free.
    """

    def __init__(self, semaphore: Any) -> None:
        self.semaphore = semaphore
        self._in_vain = 0
        self._asleep = 0  # waits that are still to be slept through

    def passed(self) -> bool:
        """Take the semaphore; False if it was not to be had within a second."""
        acquire = self.semaphore.acquire
        if self._asleep:
            self._asleep -= 1
            return bool(acquire(True, LOOK_SECONDS))
        for _ in range(TRIES):
            if acquire(False):
                self._in_vain = 0
                return True
        self._in_vain += 1
        if self._in_vain == PATIENCE:
            self._in_vain, self._asleep = 0, SLEEPS
        return bool(acquire(True, LOOK_SECONDS))


def work(
    make: Callable[[], gym.Env], first: int, last: int, shared: Shared, go: Any, done: Any, pipe: Connection
) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that learns decides what Ctrl-C means
    learner, gate = multiprocessing.parent_process(), Gate(go)
    try:
        chunk = Chunk(make, first, last, shared)
        command = chunk.arrays["command"]
        done.release()
        while learner is None or learner.is_alive():
            if gate.passed():
                chunk.obey(int(command[0]))
                done.release()
                if command[0] == CLOSE:
                    return
    except Exception as error:
        index = getattr(error, "environment_index", first)
        kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
        shared.arrays()["failed"][first] = True
        pipe.send((index, f"{kind}{error}", traceback.format_exc()))
        done.release()


@contextmanager
def nobody_main() -> Iterator[None]:
    """A new process would import the caller's script, and run what is not guarded in it; not so here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
