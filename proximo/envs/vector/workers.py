"""A process that steps a share of the environments, seen from the process that learns."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import Any, TypeVar

from proximo.envs.vector.lifetime import LEARNERS, end_group, without_main_module
from proximo.envs.vector.memory import CLOSE, CONTEXT, RESTORE, SAVE, Shared
from proximo.envs.vector.semaphore import LOOK_SECONDS, SpinSemaphore
from proximo.envs.vector.worker import work
from proximo.errors import Misfit, WorkerError

Failure = TypeVar("Failure", bound=WorkerError)

WATCH_SECONDS = 0.2  # how often to look whether a worker that has not answered still lives
LOOK_BACK_SECONDS = 0.3  # for a process that hangs to write down where it is


class WorkerGone(WorkerError):
    """A worker process ended or hung; all its environments are lost with it."""


class Worker:
    """A process that steps environments `first` to `last` - 1.

    parcel how to make its `EnvironmentSlice`, as `packed` gives it
    limit  from what `Shared.at` holds to the seconds that it may stay so
    """

    def __init__(
        self,
        parcel: bytes,
        first: int,
        last: int,
        shared: Shared,
        limit: Callable[[int], float],
    ) -> None:
        self.first, self.last, self.limit = first, last, limit
        self._command, self._at, self._failed = (shared.arrays()[x] for x in ("command", "at", "failed"))
        self._failed[first] = False
        self._go, done = CONTEXT.Semaphore(0), CONTEXT.Semaphore(0)
        self._gate = SpinSemaphore(done)
        self._pipe, theirs = CONTEXT.Pipe()
        self._traces, their_traces = CONTEXT.Pipe(duplex=False)
        words = (parcel, first, last, shared, self._go, done, theirs, their_traces)
        # No daemon: an environment may start processes of its own. So nobody ends it but we, at exit too.
        self.process = CONTEXT.Process(target=work, args=words, daemon=False)
        with without_main_module(), _signals_blocked():
            self.process.start()
        self._kill = Finalize(self, _kill, args=(self.process,), exitpriority=0)  # happens once
        theirs.close()
        their_traces.close()
        self._started = False

    def begin(self, command: int, start: int | None = None) -> None:
        """Let it do a command with its environments, from `start` on; returns at once."""
        if not self._started and command != CLOSE:
            self.wait()  # until its environments are made
            self._started = True
        self._command[self.first] = command
        self._at[self.first] = self.first if start is None else start
        self._go.release()

    def wait(self) -> None:
        """Until it has done the command.

        Raises WorkerError for what its environment raised, WorkerGone if it ends or hangs.
        """
        if not self._gate.passed():
            self._watch(self._gate.passed)
        if self._failed[self.first]:
            raise self._failure(self._pipe.recv())

    def execute(self, command: int, start: int) -> None:
        """`begin` and `wait`."""
        self.begin(command, start)
        self.wait()

    def begin_save(self) -> None:
        """Let it save; returns at once."""
        self.begin(SAVE)

    def save(self) -> list[dict[str, Any] | None]:
        """What it saved, after `begin_save`. Raises as `wait`."""
        self._watch(self._pipe.poll)  # at first: it may be more than the pipe holds
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):  # before its answer, or amid it
            self.process.join(timeout=LOOK_SECONDS)  # its pipe closes a moment before it is gone
            raise self._gone() from None
        if not self._failed[self.first]:
            self.wait()
            return answer
        self._watch(self._gate.passed)
        raise self._failure(answer)

    def begin_restore(self, states: list[dict[str, Any]]) -> None:
        """Let it put back what `save` gave; `wait` tells how it went."""
        self.begin(RESTORE)
        self._pipe.send(states)

    def end(self, deadline: float) -> None:
        """Wait for the process to end, then end it and what its environments started.

        deadline  of the wait, as `time.monotonic` counts

        Raises WorkerError for what its environments raised while they were closed.
        """
        self.process.join(max(0.0, deadline - time.monotonic()))
        self._kill()
        self.process.join()
        if self._started and self._failed[self.first] and self._pipe.poll(0.0):
            raise self._failure(self._pipe.recv())

    def _watch(self, answered: Callable[[float], bool]) -> None:
        """Until it has answered, within the seconds it is given, while it lives and moves on.

        Raises WorkerGone.
        """
        seen, looked, waited = int(self._at[self.first]), time.monotonic(), 0.0
        while not answered(WATCH_SECONDS):
            now = time.monotonic()
            # While both processes were stopped (Ctrl-Z) time went on, but nobody looked.
            looked, waited = now, waited + min(now - looked, 2 * WATCH_SECONDS)
            if not self.process.is_alive():  # its sentinel may be held by what its environments forked
                if answered(0.0):  # in its last moment
                    return
                raise self._gone()
            at = int(self._at[self.first])
            if at != seen:
                seen, waited = at, 0.0
            elif waited > self.limit(at):
                what = "was not made or reset" if at < 0 else "did not finish a step"
                raise self._gone(f"it {what} within {self.limit(at):g} s; its process was killed")

    def _failure(self, report: tuple[int, str, str, bool]) -> WorkerError:
        self._failed[self.first] = False
        index, message, trace, misfit = report
        return _error(Misfit if misfit else WorkerError, index, message, trace)

    def _gone(self, message: str = "") -> WorkerGone:
        """The error for a process that has ended, or that `message` says what it failed to do."""
        at = int(self._at[self.first])
        trace = self._worker_traceback()
        return _error(WorkerGone, at if at >= 0 else ~at, message or _end_of(self.process.exitcode), trace)

    def _worker_traceback(self) -> str:
        """Where in its code it hangs or crashed, if it can still be told; it is dead afterwards."""
        told = hasattr(signal, "SIGUSR1")
        if told and self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGUSR1)
            time.sleep(LOOK_BACK_SECONDS)
        self._kill()
        self.process.join()
        found = b""
        while told and self._traces.poll(0.0):
            piece = os.read(self._traces.fileno(), 2**16)
            if not piece:
                break
            found += piece
        return found.decode(errors="replace")


def _kill(process: Any) -> None:
    end_group(process.pid)
    process.kill()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """What ends a process waits meanwhile, and for one that is started, until it obeys the learner alone."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEARNERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _error(kind: type[Failure], index: int, message: str, trace: str) -> Failure:
    error = kind(message)
    error.environment_index = index  # type: ignore[attr-defined]
    if trace:
        error.add_note(trace)
    return error


def _end_of(status: int | None) -> str:
    """How a process ended, and what to look for."""
    how = f"ended with exit status {status}"
    if status is not None and status < 0:
        names = {int(number): number.name for number in signal.Signals}
        how = f"was killed by signal {-status} ({names.get(-status, 'unknown')})"
    return f"its process {how}; possible causes are a crash in native code and too little memory"
