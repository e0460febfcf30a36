"""What a process that steps environments does, and what it shares with the one that learns.

A module of its own, beside the package: a worker needs neither JAX nor the rest, and importing the package
would cost each worker a second and 200 MB.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

TRIES = 5_000  # of a semaphore before sleeping on it: about 0.4 ms, several steps of most simulations
PATIENCE, SLEEPS = 4, 200  # waits in vain before sleeping, and for how many waits
LOOK_SECONDS = 1.0  # how often a sleeping process looks whether the other one still lives
LAST_SECONDS = 5.0  # that a worker may go on once the process that learns is gone
RESET, STEP, CLOSE, SAVE, RESTORE, READY, REMAKE = range(7)
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


class WorkerError(Exception):
    """What an environment did wrong, in one line; a traceback from a worker is a note of this one."""


class Misfit(WorkerError):
    """What an environment returns does not fit what it declares: it would do so again."""


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [N]       what to do next; in this and the next two a worker's first environment stands for it
    at          [N]       where to begin, then the environment that is being stepped; ~index while it is made
                          or reset, which may take longer
    failed      [N]       whether a report is in the pipe
    seeds       [N]       for RESET, READY and REMAKE
    actions     [N, ...]  for STEP
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]
    """

    def __init__(self, num_envs: int, observation: gym.Space, action: gym.Space) -> None:
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "command": ((num_envs,), np.dtype(np.int64)),
            "at": ((num_envs,), np.dtype(np.int64)),
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
        self.make, self.first, self.last = make, first, last
        self.arrays = shared.arrays()
        self.at = self.arrays["at"]
        self.seam = [False] * (last - first)
        self.envs: list[gym.Env] = []
        for index in range(first, last):
            self.at[first] = ~index
            self.envs.append(make())

    def obey(self, command: int, start: int) -> None:
        """RESET, STEP or CLOSE them from `start` on; an exception is told which environment raised it.

        READY lets their next step begin an episode; REMAKE does so with `start` alone, made anew.
        """
        index = start
        try:
            if command == REMAKE:
                self._remake(index)
                return
            for index in range(start, self.last):
                if command == STEP:
                    self._step(index)
                elif command == RESET:
                    self._reset(index, int(self.arrays["seeds"][index]))
                elif command == READY:
                    self._ready(index)
                else:
                    self.envs[index - self.first].close()
        except Exception as error:
            error.environment_index = index  # type: ignore[attr-defined]
            raise

    def save(self) -> list[dict[str, Any] | None]:
        """The state of each environment; None where it cannot be known."""
        states = [snapshot().save(env) for env in self.envs]
        return [
            None if state is None else {"seam": seam, "layers": state}
            for seam, state in zip(self.seam, states, strict=True)
        ]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Put back what `save` gave, after a reset. Raises ValueError if it does not fit."""
        for env, state in zip(self.envs, states, strict=True):
            snapshot().restore(env, state["layers"])
        self.seam = [bool(state["seam"]) for state in states]

    def _reset(self, index: int, seed: int | None) -> None:
        self.at[self.first] = ~index
        obs, _ = self.envs[index - self.first].reset(seed=seed)
        row = self.arrays["obs"][index]
        if np.shape(obs) != np.shape(row):
            raise misfit(obs, row)
        self.arrays["obs"][index] = obs
        self.seam[index - self.first] = False

    def _step(self, index: int) -> None:
        """One NEXT_STEP row: an environment that ended before answers with its next episode's start."""
        arrays, position = self.arrays, index - self.first
        if self.seam[position]:
            self._reset(index, None)
            arrays["reward"][index] = 0.0
            arrays["terminated"][index] = arrays["truncated"][index] = False
            return
        self.at[self.first] = index
        obs, reward, terminated, truncated, _ = self.envs[position].step(arrays["actions"][index])
        arrays["reward"][index] = reward
        arrays["terminated"][index], arrays["truncated"][index] = terminated, truncated
        row = arrays["obs"]
        try:
            row[index] = obs  # after all that may fail: the last good one is still needed then
        except ValueError as error:
            if np.shape(obs) == np.shape(row[index]):
                raise
            raise misfit(obs, row[index]) from error
        self.seam[position] = terminated or truncated

    def _ready(self, index: int) -> None:
        self.at[self.first] = ~index
        self.envs[index - self.first].reset(seed=int(self.arrays["seeds"][index]))
        self.seam[index - self.first] = True

    def _remake(self, index: int) -> None:
        self.at[self.first] = ~index
        with suppress(Exception):  # what has failed may fail to close too
            self.envs[index - self.first].close()
        self.envs[index - self.first] = self.make()
        self._ready(index)


def misfit(obs: Any, row: Any) -> Misfit:
    """The error for an observation of the wrong shape."""
    return Misfit(
        f"it returned an observation of shape {np.shape(obs)}, its space declares {np.shape(row)}; "
        "correct its observation_space or what it returns"
    )


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

    def passed(self, seconds: float = LOOK_SECONDS) -> bool:
        """Take the semaphore; False if it was not to be had within so many seconds."""
        acquire = self.semaphore.acquire
        if self._asleep:
            self._asleep -= 1
            return bool(acquire(True, seconds))
        for _ in range(TRIES):
            if acquire(False):
                self._in_vain = 0
                return True
        self._in_vain += 1
        if self._in_vain == PATIENCE:
            self._in_vain, self._asleep = 0, SLEEPS
        return bool(acquire(True, seconds))


def work(
    make: Callable[[], gym.Env],
    first: int,
    last: int,
    shared: Shared,
    go: Any,
    done: Any,
    pipe: Connection,
    traces: Connection,
) -> None:
    """The life of a worker process."""
    obey_the_learner_alone()
    if hasattr(faulthandler, "register"):
        faulthandler.enable(traces)  # tells where native code crashed
        faulthandler.register(signal.SIGUSR1, traces)  # and, when asked, where it hangs
    learner, gate, arrays = multiprocessing.parent_process(), Gate(go), shared.arrays()
    threading.Thread(target=end_after, args=(learner,), daemon=True).start()

    def tell(error: Exception) -> None:
        """The process that learns, of an exception."""
        index = getattr(error, "environment_index", first)
        kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
        arrays["failed"][first] = True
        pipe.send((index, f"{kind}{error}", traceback.format_exc(), isinstance(error, Misfit)))

    try:
        chunk = Chunk(make, first, last, shared)
    except Exception as error:
        tell(error)
        done.release()
        return
    done.release()
    while learner is None or learner.is_alive():
        if not gate.passed():
            continue
        command = int(arrays["command"][first])
        try:
            if command == SAVE:
                pipe.send(chunk.save())
            elif command == RESTORE:
                chunk.restore(pipe.recv())
            else:
                chunk.obey(command, int(arrays["at"][first]))
        except Exception as error:
            tell(error)
        done.release()
        if command == CLOSE:
            return


def obey_the_learner_alone() -> None:
    """Leave Ctrl-C and SIGTERM, which reach the whole group, to it: its last checkpoint needs this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not SIG_IGN: a program that an environment starts would inherit that, and could not be ended by it.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.siginterrupt(signal.SIGTERM, False)  # native code need not expect an interrupted call
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def end_after(learner: Any) -> None:
    """End this process, whatever its environments are doing, soon after the one that learns."""
    if learner is not None:
        wait([learner.sentinel])
        time.sleep(LAST_SECONDS)
        os._exit(1)


@cache
def snapshot() -> Any:
    """proximo/envs/snapshot.py by itself: with the package around it, JAX would come along."""
    package = find_spec("proximo")
    assert package is not None and package.origin is not None
    place = Path(package.origin).parent / "envs" / "snapshot.py"
    spec = spec_from_file_location("proximo_snapshot", place)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def nobody_main() -> Iterator[None]:
    """A new process would import the caller's script, and run what is not guarded in it; not so here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
