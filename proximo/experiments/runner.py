"""The grid's runner: worker processes, one per core, train the missing runs."""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.util import Finalize
from typing import Any

from proximo.envs.vector.lifetime import LEARNERS, without_main_module
from proximo.errors import UserError
from proximo.experiments import cells
from proximo.experiments.grid import Task
from proximo.experiments.worker import Failed, Finished, OutputFolders, Progress, Ready, work
from proximo.runs.process import graceful_stop
from proximo.runs.progress import Rate, display

LINE_SECONDS = 30.0  # between two lines of progress in a pipe
LOOK_SECONDS = 0.5  # how often to look whether somebody asked for the end
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with JAX's threads may hang

Show = Callable[[int, int], None]  # runs finished, steps done


def usable_cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Worker:
    """A worker process, seen from the one that started it.

    task  what it is busy with, None while it waits
    """

    def __init__(self, core: int, places: OutputFolders, train: Callable[..., Any]) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=work, args=(theirs, places, train), daemon=True)
        with without_main_module(), _pinned(core), _no_interrupt():
            self.process.start()
        Finalize(self, self.process.kill, exitpriority=0)  # else the interpreter's end would wait for it
        theirs.close()
        self.task: Task | None = None
        self._made: dict[str, Progress] = {}  # of each task

    @property
    def progress(self) -> Progress:
        """Of all its tasks so far."""
        made = self._made.values()
        return Progress(sum(one.steps for one in made), sum(one.cells for one in made))

    def assign(self, task: Task | None) -> None:
        """The next task, or None for the end."""
        self.task = task
        with contextlib.suppress(ConnectionError):  # `receive` says what became of it
            self.pipe.send(task)

    def receive(self) -> Any:
        """Its next message. Raises UserError if it failed, or ended without a word."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise UserError(self._exit_message()) from None
        if isinstance(message, Progress) and self.task is not None:
            self._made[self.task.name] = message
        elif isinstance(message, Failed):
            error = UserError(message.message)
            error.add_note(message.trace)
            raise error
        return message

    def end(self) -> None:
        """End the process at once, whatever it does: files are whole or not there."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _exit_message(self) -> str:
        self.process.join(timeout=5.0)
        busy = f" at {self.task.name}" if self.task else ""
        return (
            f"a worker process ended with exit status {self.process.exitcode}{busy}; it may have "
            f"run out of memory or crashed in native code; {cells.KEPT}"
        )


@contextlib.contextmanager
def shown(title: str, runs: int, steps: int, enabled: bool) -> Generator[Show, None, None]:
    """A function that takes the progress of the grid, and shows it on standard error if `enabled`.

    runs, steps  what is still to be done, all together
    """
    rate = Rate()
    with display(title, steps, enabled, LINE_SECONDS) as told:

        def show(runs_done: int, steps_done: int) -> None:
            speed = rate(steps_done)
            told(steps_done, f"{runs_done}/{runs} runs" + (f"  {speed:,.0f} steps/s" if speed else ""))

        yield show


def run(
    tasks: Sequence[Task], places: OutputFolders, train: Callable[..., Any], *, processes: int, show: Show
) -> int:
    """Do all tasks, in this order, over worker processes; each finished run is a file.

    tasks      what is missing
    places     where results go
    train      `ensemble`, or a function like it that can be imported by name
    processes  how many at a time, each on a core of its own while there are enough
    show       takes how many runs and steps are done

    Returns 0, or the exit status of Ctrl-C or SIGTERM, if one asked for the end: the workers end at once, and
    what was not finished starts over next time. Raises UserError if a worker failed or died, after ending
    the others.
    """
    waiting, cores, workers = deque(tasks), usable_cores(), list[Worker]()
    grids = sorted({grid for task in tasks for grid in _grids(task)})
    with graceful_stop() as stop:
        try:
            for index in range(min(processes, len(tasks))):
                workers.append(Worker(cores[index % len(cores)], places, train))
                workers[-1].assign(waiting.popleft())
            while any(worker.task for worker in workers) and not stop.requested:
                ready = connection.wait([worker.pipe for worker in workers if worker.task], LOOK_SECONDS)
                for worker in workers:
                    if worker.pipe in ready:
                        _handle_message(worker, waiting, grids, places)
                made = [worker.progress for worker in workers]
                show(sum(one.cells for one in made), sum(one.steps for one in made))
        finally:
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                worker.end()
        return stop.status


def _handle_message(
    worker: Worker, waiting: deque[Task], grids: Iterable[str], places: OutputFolders
) -> None:
    """Take in a worker's message, and give it the next task when it has none."""
    message = worker.receive()
    if isinstance(message, Ready):
        for grid in grids:
            cells.add_machine(places.results, grid, message.machine)
    elif isinstance(message, Finished):
        worker.assign(waiting.popleft() if waiting else None)


def _grids(task: Task) -> set[str]:
    return {task.grid} if not hasattr(task, "cells") else {cell.grid for cell in task.cells}


@contextlib.contextmanager
def _pinned(core: int) -> Generator[None, None, None]:
    """A process started here stays on this core, from its first instruction on."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _no_interrupt() -> Generator[None, None, None]:
    """A process started here never meets Ctrl-C, SIGTERM and their like: of a group, one must answer."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # to start it unblocks these signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *LEARNERS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
