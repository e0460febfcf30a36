"""What a worker process of a grid does: one ensemble after another, each run written when it is done."""

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from proximo.envs import make_one
from proximo.errors import UpdateDiverged, UserError
from proximo.experiments import cells
from proximo.experiments.grid import Group, RandomPolicy, Task
from proximo.runs.machine import fingerprint
from proximo.runs.process import prepare_process

REPORT_SECONDS = 1.0
RANDOM_EPISODES = 100


@dataclass(frozen=True)
class OutputFolders:
    """Where results go, and which options their digests cover.

    results   the folder of the results, which are committed
    episodes  the folder of all episodes, which are not
    known     per grid the names of the options
    """

    results: Path
    episodes: Path
    known: dict[str, list[str]]


@dataclass(frozen=True)
class Ready:
    """The process has started, on such a machine."""

    machine: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """So far: steps of the ensemble that is under way, and runs of it that are written."""

    steps: int
    cells: int


@dataclass(frozen=True)
class Finished:
    """The task is done; the next one may come."""


@dataclass(frozen=True)
class Failed:
    """The task cannot be done: why, in one line, and where in the code."""

    message: str
    trace: str


Report = Callable[[Progress], None]


def work(pipe: Connection, places: OutputFolders, train: Callable[..., Any]) -> None:
    """The life of a worker process: tasks come through the pipe, None ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    if "JAX_PLATFORMS" not in os.environ:  # networks this small are fastest where the environments are
        jax.config.update("jax_platforms", "cpu")
    prepare_process()
    with contextlib.suppress(EOFError, ConnectionError):  # whoever started this is gone: so is the reason
        pipe.send(Ready(fingerprint()))
        while (task := pipe.recv()) is not None:
            pipe.send(outcome(task, places, train, pipe.send))


def outcome(
    task: Task, places: OutputFolders, train: Callable[..., Any], report: Report
) -> Finished | Failed:
    """Do a task; what goes wrong with it becomes a message."""
    try:
        if isinstance(task, RandomPolicy):
            run_random(task, places)
        else:
            run_group(task, places, train, report)
    except ConnectionError:
        raise
    except UserError as error:
        return Failed(str(error), traceback.format_exc())
    except Exception as error:  # an error of ours must reach the person who waits, in one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Failed(f"{task.name} failed ({reason})", traceback.format_exc())
    return Finished()


def run_group(group: Group, places: OutputFolders, train: Callable[..., Any], report: Report) -> None:
    """Train an ensemble, and write each run when it is done.

    A member whose update diverges is finished: that is a result too, and the others continue.
    Raises UserError when nothing can be written, when an environment fails, or for unusable options.
    """
    started = reported = time.perf_counter()
    records = [cells.Record(cell) for cell in group.cells]
    with contextlib.closing(iterate_members(records, train)) as iterations:
        for turn in iterations:
            for record, iteration in zip(records, turn, strict=True):
                if iteration is None or record.over:
                    continue
                record.add(iteration)
                if record.over:
                    known, seconds = places.known[record.cell.grid], time.perf_counter() - started
                    record.save(places.results, places.episodes, known, seconds, len(records))
            finished = sum(record.over for record in records)
            if time.perf_counter() - reported >= REPORT_SECONDS or finished == len(records):
                reported = time.perf_counter()
                report(Progress(sum(steps_done(record) for record in records), finished))
            if finished == len(records):
                return
    unfinished = next(record for record in records if not record.over)
    raise RuntimeError(f"{unfinished.cell.name} ended after {unfinished.steps} steps")


def iterate_members(
    records: list[cells.Record], train: Callable[..., Any]
) -> Generator[list[Any], None, None]:
    """The ensemble's iterations; of a single member, the one that diverged comes as an error."""
    try:
        with contextlib.closing(train([record.cell.config for record in records])) as iterations:
            yield from iterations
    except UpdateDiverged as diverged:
        yield [diverged.iteration]


def steps_done(record: cells.Record) -> int:
    """Steps that are behind a run, those that a diverged one will never make included."""
    return record.cell.config.steps if record.over else record.steps


def run_random(task: RandomPolicy, places: OutputFolders) -> None:
    """Mean return of full episodes with uniformly random actions, written as a file."""
    env = make_one(task.env)
    try:
        env.action_space.seed(0)
        returns = [_episode(env, seed=0 if number == 0 else None) for number in range(RANDOM_EPISODES)]
    finally:
        env.close()
    content = {
        "format": cells.FORMAT,
        "grid": task.grid,
        "env": task.env,
        "episodes": RANDOM_EPISODES,
        "score": cells.round_mean(returns, 5),
    }
    cells.write_json(cells.random_path(places.results, task.grid, task.env), content)


def _episode(env: Any, seed: int | None) -> float:
    env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        total, over = total + float(reward), terminated or truncated
    return total
