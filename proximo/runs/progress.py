"""What a person sees while a run goes on: a bar on a terminal, plain lines in a pipe."""

import contextlib
import math
import sys
import time
from collections.abc import Generator, Iterator
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from proximo.control.config import Config
from proximo.errors import say

LINE_SECONDS = 5.0


class Progress(Protocol):
    """What is shown: an `Iteration` of one run, or an overview of several."""

    @property
    def steps(self) -> int: ...
    @property
    def mean_return(self) -> float: ...


Row = TypeVar("Row", bound=Progress)


def shown(
    rows: Iterator[Row], config: Config, enabled: bool, steps: int | None = None, begun: int = 0
) -> Generator[Row, None, None]:
    """The same rows, with their progress on standard error if `enabled`.

    steps  of all runs
    begun  how many of them were made before, by the run that is resumed
    """
    if not enabled or sys.stderr is None:
        yield from rows
    elif sys.stderr.isatty():
        yield from _bar(rows, config.name, steps or config.steps, begun)
    else:
        yield from _lines(rows, steps or config.steps, begun)


def _bar(rows: Iterator[Row], name: str, steps: int, begun: int) -> Iterator[Row]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps  {task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    started = time.perf_counter()
    with shown_while_possible(Bar(*columns, console=Console(stderr=True), refresh_per_second=4)) as progress:
        task = progress.add_task(name, total=steps, completed=begun, facts="compiling")
        for row in rows:
            progress.update(task, completed=row.steps, facts=_facts(row, started, begun))
            yield row


@contextlib.contextmanager
def shown_while_possible(progress: Bar) -> Iterator[Bar]:
    """A bar on the terminal, whose end is not the run's: it may be closed meanwhile."""
    with contextlib.suppress(OSError, ValueError):
        progress.start()
    try:
        yield progress
    finally:
        with contextlib.suppress(OSError, ValueError):
            progress.stop()


def _lines(rows: Iterator[Row], steps: int, begun: int) -> Iterator[Row]:
    started = printed = time.perf_counter()
    for row in rows:
        if time.perf_counter() - printed > LINE_SECONDS:
            printed = time.perf_counter()
            left = (steps - row.steps) * (printed - started) / (row.steps - begun)
            line = f"{row.steps:,}/{steps:,} steps  {_facts(row, started, begun)}  {left:.0f} s left"
            say(line)
        yield row


def _facts(row: Progress, started: float, begun: int) -> str:
    rate = (row.steps - begun) / (time.perf_counter() - started)
    reached = "no episode ended yet" if math.isnan(row.mean_return) else f"return {row.mean_return:,.1f}"
    return f"{reached}  {rate:,.0f} steps/s"
