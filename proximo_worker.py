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
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector.utils import CloudpickleWrapper, create_empty_array

TRIES = 5_000  # of a semaphore before sleeping on it: about 0.4 ms, several steps of most simulations
PATIENCE, SLEEPS = 4, 200  # waits in vain before sleeping, and for how many waits
LOOK_SECONDS = 1.0  # how often a sleeping process looks whether the other one still lives
LAST_SECONDS = 5.0  # that a worker may go on once the process that learns is gone
RESET, STEP, CLOSE, SAVE, RESTORE, READY, REMAKE = range(7)
ASKING = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # the learner for an end
LEARNERS = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang


class WorkerError(Exception):
    """What an environment did wrong, in one line; a traceback from a worker is a note of this one."""


class Misfit(WorkerError):
    """What an environment returns does not fit what it declares: it would do so again."""


def as_error(raised: BaseException) -> Exception:
    """What an environment raised, as an error: also where it asks for the end of the program (`sys.exit()`).

    Raises it again where it is not the environment's word: a KeyboardInterrupt that may be Ctrl-C.
    """
    if isinstance(raised, Exception):
        return raised
    if isinstance(raised, GeneratorExit) or (isinstance(raised, KeyboardInterrupt) and of_a_signal(raised)):
        raise raised
    kind = f"{type(raised).__name__}: {raised}" if str(raised) else type(raised).__name__
    error = WorkerError(f"it asked the program to end ({kind})")
    error.__cause__ = raised
    if hasattr(raised, "environment_index"):
        error.environment_index = raised.environment_index  # type: ignore[attr-defined]
    return error.with_traceback(raised.__traceback__)


def reason(raised: BaseException) -> str:
    """What went wrong in code of the user's, in one line. Raises as `as_error`."""
    error = as_error(raised)
    kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def of_a_signal(interrupt: KeyboardInterrupt) -> bool:
    """Whether an interrupt can come from a signal: its handler, one in Python, stands in the traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        return False
    code = getattr(handler, "__code__", None)  # Python's own handler has none, and leaves no trace
    return code is None or any(
        frame.f_code is code for frame, _ in traceback.walk_tb(interrupt.__traceback__)
    )


class Shared:
    """Arrays over the environments, in memory that all processes see.

    command     [N]       what to do next; in this and the next two a worker's first environment stands for it
    at          [N]       where to begin, then the environment that is being stepped; ~index while it is made
                          or reset, which may take longer
    failed      [N]       whether a report is in the pipe
    seeds       [N]       for RESET, READY and REMAKE
    actions     [N, ...]  for STEP
    obs         [N, ...]  the answers, with reward, terminated and truncated, each [N]; observations in parts
                          are dicts and tuples of such arrays, as Gymnasium has them
    """

    def __init__(self, num_envs: int, observation: gym.Space, action: gym.Space) -> None:
        self.specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "command": ((num_envs,), np.dtype(np.int64)),
            "at": ((num_envs,), np.dtype(np.int64)),
            "failed": ((num_envs,), np.dtype(bool)),
            "seeds": ((num_envs,), np.dtype(np.int64)),
            "actions": ((num_envs, *(action.shape or ())), np.dtype(action.dtype)),
            "reward": ((num_envs,), np.dtype(np.float64)),
            "terminated": ((num_envs,), np.dtype(bool)),
            "truncated": ((num_envs,), np.dtype(bool)),
        }

        def named(shape: tuple[int, ...], dtype: Any) -> Any:
            name = f"obs {len(self.specs)}"
            self.specs[name] = (shape, np.dtype(dtype))
            return name

        self.obs: Any = create_empty_array(observation, num_envs, named)  # the tree, with names for arrays
        self.memory = {
            name: CONTEXT.RawArray("b", max(1, int(np.prod(shape)) * dtype.itemsize))
            for name, (shape, dtype) in self.specs.items()
        }

    def arrays(self) -> dict[str, Any]:
        """The memory as arrays, in whichever process asks."""
        arrays = {
            name: np.frombuffer(self.memory[name], dtype, int(np.prod(shape))).reshape(shape)
            for name, (shape, dtype) in self.specs.items()
        }
        return {**arrays, "obs": each(arrays.__getitem__, self.obs)}


class Chunk:
    """Environments `first` to `last` - 1 of a vector, stepped one after another.

    make    makes one of them
    spaces  that all must have: of observations and of actions
    made    the first of them, where it is made already
    """

    def __init__(
        self,
        make: Callable[[], gym.Env],
        spaces: tuple[gym.Space, gym.Space],
        first: int,
        last: int,
        shared: Shared,
        made: gym.Env | None = None,
    ) -> None:
        self.make, self.spaces, self.first, self.last = make, spaces, first, last
        arrays = shared.arrays()
        self.at, self.seeds, self.actions = arrays["at"], arrays["seeds"], arrays["actions"]
        self.obs, self.reward = arrays["obs"], arrays["reward"]
        self.terminated, self.truncated = arrays["terminated"], arrays["truncated"]
        self.look = alone("returned")
        self.form = self.look.form_of(self.obs, 1)
        self.whole = isinstance(self.obs, np.ndarray)  # an observation is one array
        self.seam = [False] * (last - first)
        self.envs = [] if made is None else [made]
        for index in range(first + len(self.envs), last):
            self.envs.append(self._made(index))

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
                    self._reset(index, int(self.seeds[index]))
                elif command == READY:
                    self._ready(index)
                else:
                    self.envs[index - self.first].close()
        except BaseException as raised:
            error = as_error(raised)
            self.look.blame(error, index)
            raise error from error.__cause__

    def save(self) -> list[dict[str, Any] | None]:
        """The state of each environment; None where it cannot be known."""
        states = [alone("snapshot").save(env) for env in self.envs]
        return [
            None if state is None else {"seam": seam, "layers": state}
            for seam, state in zip(self.seam, states, strict=True)
        ]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Put back what `save` gave, after a reset. Raises ValueError if it does not fit."""
        for env, state in zip(self.envs, states, strict=True):
            alone("snapshot").restore(env, state["layers"])
        self.seam = [bool(state["seam"]) for state in states]

    def _reset(self, index: int, seed: int | None) -> None:
        self._put(index, self.look.from_reset(self._began(index, seed)))
        self.seam[index - self.first] = False

    def _step(self, index: int) -> None:
        """One NEXT_STEP row: an environment that ended before answers with its next episode's start.

        What is as it should be is seen to be so at once; `look` has the rest.
        """
        position = index - self.first
        if self.seam[position]:
            self._reset(index, None)
            self.reward[index], self.terminated[index], self.truncated[index] = 0.0, False, False
            return
        self.at[self.first] = index
        action = self.actions[index].copy()  # it may keep it, and the next step writes over ours
        result = self.envs[position].step(action)
        if type(result) is not tuple or len(result) != 5:
            result = self.look.from_step(result)
        obs, reward, terminated, truncated, _ = result
        kind = type(reward)
        if kind is not float and kind is not np.float64:
            reward = self.look.number(reward)
        if terminated is not False and terminated is not True:
            terminated = self.look.flag(terminated, "terminated")
        if truncated is not False and truncated is not True:
            truncated = self.look.flag(truncated, "truncated")
        self._put(index, obs)  # after all that may fail: the last good one is still needed then
        self.reward[index], self.terminated[index], self.truncated[index] = reward, terminated, truncated
        self.seam[position] = terminated or truncated

    def _put(self, index: int, obs: Any) -> None:
        form = self.form
        if self.whole and type(obs) is np.ndarray and obs.shape == form.shape and obs.dtype == form.dtype:
            self.obs[index] = obs
        else:
            self.look.put(self.obs, index, self.look.fitted(obs, form))

    def _began(self, index: int, seed: int | None) -> Any:
        """What its reset returned."""
        self.at[self.first] = ~index
        return self.envs[index - self.first].reset(seed=seed)

    def _ready(self, index: int) -> None:
        self._began(index, int(self.seeds[index]))
        self.seam[index - self.first] = True

    def _remake(self, index: int) -> None:
        with suppress(Exception, SystemExit):  # what has failed may fail to close too
            self.envs[index - self.first].close()
        self.envs[index - self.first] = self._made(index)
        self._ready(index)

    def _made(self, index: int) -> gym.Env:
        """A new environment. Raises Misfit if it has other spaces than the rest."""
        self.at[self.first] = ~index
        try:
            env = self.make()
            self.look.require_spaces(env, self.spaces)
        except BaseException as raised:
            error = as_error(raised)
            self.look.blame(error, index)
            raise error from error.__cause__
        return env


class SaidOnce:
    """What MuJoCo warns of: each text once in a process, where it would say it at every environment.

    Of a model that is only read, the process that learns has said it already, for all its workers.
    """

    def __init__(self) -> None:
        self.said: set[str] = set()
        self.reading = False

    def __call__(self, text: str) -> None:
        if text in self.said:
            return
        self.said.add(text)
        if not (self.reading and multiprocessing.parent_process()):
            with suppress(OSError, ValueError):
                print(f"MuJoCo: {' '.join(text.split())}", file=sys.stderr, flush=True)


def hear_mujoco(spec: Any) -> SaidOnce | None:
    """MuJoCo's warnings go to a `SaidOnce`, if an environment needs MuJoCo and nobody else hears them."""
    if isinstance(spec.entry_point, str):
        load_env_creator(spec.entry_point)  # it imports what it needs
    mujoco: Any = sys.modules.get("mujoco")
    if mujoco is None:
        return None
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(SaidOnce())
    hearer = mujoco.get_mju_user_warning()
    return hearer if isinstance(hearer, SaidOnce) else None


def make_quietly(spec: Any, **kwargs: Any) -> gym.Env:
    """`gymnasium.make`, with each of MuJoCo's warnings said once."""
    hearer = hear_mujoco(spec)
    if hearer is None:
        return gym.make(spec, **kwargs)
    hearer.reading = True
    try:
        return gym.make(spec, **kwargs)
    finally:
        hearer.reading = False


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
    parcel: bytes,
    first: int,
    last: int,
    shared: Shared,
    go: Any,
    done: Any,
    pipe: Connection,
    traces: Connection,
) -> None:
    """The life of a worker process. `parcel` is what `packed` made of how to make its `Chunk`."""
    obey_the_learner_alone()
    if hasattr(faulthandler, "register"):
        faulthandler.enable(traces)  # tells where native code crashed
        faulthandler.register(signal.SIGUSR1, traces)  # and, when asked, where it hangs
    learner, gate, arrays = multiprocessing.parent_process(), Gate(go), shared.arrays()
    threading.Thread(target=end_after, args=(learner,), daemon=True).start()

    def tell(raised: BaseException) -> None:
        """The process that learns, of an exception."""
        error = as_error(raised)
        index = getattr(error, "environment_index", first)
        kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
        arrays["failed"][first] = True
        pipe.send((index, f"{kind}{error}", traceback.format_exc(), isinstance(error, Misfit)))

    try:
        chunk = unpacked(parcel)(first, last, shared)
    except BaseException as error:
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
        except BaseException as error:
            tell(error)
        done.release()
        if command == CLOSE:
            return


def packed(chunk: Callable[..., Chunk]) -> bytes:
    """How to make a `Chunk`, for another process; also where that is code of the program that was typed.

    Raises WorkerError if it cannot be moved there.
    """
    try:
        return bytes(ForkingPickler.dumps(CloudpickleWrapper(chunk)))
    except Exception as error:
        raise _immovable(error) from error


def unpacked(parcel: bytes) -> Callable[..., Chunk]:
    """What was given to `packed`. Raises WorkerError if this process lacks what it takes."""
    try:
        return ForkingPickler.loads(parcel).fn
    except Exception as error:
        raise _immovable(error) from error


def _immovable(error: Exception) -> WorkerError:
    return WorkerError(
        f"it cannot be moved to a process of its own ({type(error).__name__}: {error}); "
        "--vectorization-mode sync steps it in the one that learns"
    )


def obey_the_learner_alone() -> None:
    """Leave Ctrl-C, SIGTERM and their like to it: its last checkpoint needs this process.

    A process group of its own does so for what a terminal or `timeout` sends, and makes all that the
    environments start easy to end; systemd and SLURM send signals to every process.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    for number in (signal.SIGINT, *LEARNERS):
        # Not SIG_IGN: a program that an environment starts would inherit that, and could not be ended by it.
        signal.signal(number, lambda number, frame: None)
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)  # native code need not expect an interrupted call
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_hear_again)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEARNERS)


def _hear_again() -> None:
    """In a process that an environment forks: it is the environment's to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in LEARNERS:
        signal.signal(number, signal.SIG_DFL)


def end_after(learner: Any) -> None:
    """End this process, whatever its environments are doing, and theirs, soon after the one that learns."""
    if learner is not None:
        # Its sentinel alone may be held by a process that it forked, and that lives on.
        while not wait([learner.sentinel], LOOK_SECONDS) and os.getppid() == learner.pid:
            pass
        time.sleep(LAST_SECONDS)
        end_group(os.getpid())
        os._exit(1)


def end_group(number: int) -> None:
    """End the process of a worker and what its environments started, which may outlive it otherwise."""
    with suppress(OSError, AttributeError):  # it has not come so far as to have a group; Windows has none
        os.killpg(number, signal.SIGKILL)


@cache
def alone(name: str) -> Any:
    """A module of proximo/envs by itself: with the package around it, JAX would come along."""
    package = find_spec("proximo")
    assert package is not None and package.origin is not None
    place = Path(package.origin).parent / "envs" / f"{name}.py"
    spec = spec_from_file_location(f"proximo_{name}", place)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def each(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same dicts and tuples, with what `function` makes of everything in them."""
    if isinstance(tree, dict):
        return {key: each(function, part) for key, part in tree.items()}
    return tuple(each(function, part) for part in tree) if isinstance(tree, tuple) else function(tree)


@contextmanager
def nobody_main() -> Iterator[None]:
    """A new process would import the caller's script, and run what is not guarded in it; not so here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
