"""The progress of a run: a bar on a terminal, plain lines in a pipe."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from proximo.errors import say
from proximo.runs.compiling import compile_seconds

LINE_SECONDS = 5.0
FOUND = logging.getLogger("proximo")
"""What a run found as it began, a line each, at level INFO: `with_progress` shows it."""

Row = TypeVar("Row")
Aside = Callable[[], float]
Show = Callable[[float, str], None]
"""How much is done, and how it goes, in words."""


class Facts(NamedTuple):
    """What is shown of an iteration.

    done    how much of the whole run
    words   how it goes, such as `return 21.5`
    amount  done so far of what its speed is counted in
    """

    done: int
    words: str
    amount: int


class Rate:
    """How much a second since the first report of any: what comes before it is the start.

    aside  seconds so far that went into something else, such as compilation; they do not count
    """

    def __init__(self, aside: Aside = lambda: 0.0) -> None:
        self._first: tuple[float, float] | None = None
        self._aside = aside

    def __call__(self, amount: float) -> float:
        """The rate now, 0 before it is known."""
        now = time.perf_counter() - self._aside()
        if self._first is None and amount:
            self._first = now, amount
        if self._first is None or now <= self._first[0]:
            return 0.0
        return (amount - self._first[1]) / (now - self._first[0])


class TimeLeft:
    """The time that is left, in words; nothing before it is known.

    total, aside  of what is done in all; as in `Rate`
    """

    def __init__(self, total: float, aside: Aside) -> None:
        self.total, self._rate = total, Rate(aside)

    def __call__(self, done: float) -> str:
        speed = self._rate(done)
        return f"{max(0.0, self.total - done) / speed:,.0f} s left" if speed > 0 else ""


def with_progress(
    rows: Generator[Row, None, None],
    facts: Callable[[Row], Facts],
    title: str,
    total: int,
    enabled: bool,
    units: tuple[str, str] = ("steps", "steps"),
    aside: Aside = compile_seconds,
) -> Generator[Row, None, None]:
    """The same rows, with their progress on standard error if `enabled`; closing these closes those.

    facts  what is shown of a row
    total  of the whole run
    units  what is done, and what the speed is counted in
    aside  as in `Rate`
    """
    rate, shown = Rate(aside), display(title, total, enabled, LINE_SECONDS, aside)
    with contextlib.closing(rows), shown as show, found(enabled):
        for row in rows:
            done, words, amount = facts(row)
            speed = rate(amount)
            told = [f"{done:,}/{total:,} {units[0]}", words, f"{speed:,.0f} {units[1]}/s" if speed else ""]
            show(done, "  ".join(filter(None, told)))
            yield row


@contextlib.contextmanager
def found(enabled: bool) -> Generator[None, None, None]:
    """Show what is told to `FOUND` meanwhile on standard error, if `enabled`."""
    handler, level = logging.Handler(), FOUND.level
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    if enabled:
        FOUND.addHandler(handler)
        FOUND.setLevel(logging.INFO)
    try:
        yield
    finally:
        if enabled:
            FOUND.removeHandler(handler)
            FOUND.setLevel(level)


@contextlib.contextmanager
def display(
    title: str, total: float, enabled: bool, line_seconds: float, aside: Aside = lambda: 0.0
) -> Generator[Show, None, None]:
    """A function that takes the progress, and shows it on standard error if `enabled`.

    total         of what is done in all
    line_seconds  between two lines, where there is no terminal
    aside         as in `Rate`
    """
    if not enabled or sys.stderr is None:
        yield lambda done, words: None
    elif sys.stderr.isatty():
        yield from _bar(title, total, TimeLeft(total, aside))
    else:
        yield _lines(title, TimeLeft(total, aside), line_seconds)


def _bar(title: str, total: float, time_left: TimeLeft) -> Generator[Show, None, None]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TextColumn("{task.fields[left]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
    task = bar.add_task(title, total=total, words="compiling", left="")
    try:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be closed: no end of the run
            bar.start()
        yield lambda done, words: bar.update(task, completed=done, words=words, left=time_left(done))
    finally:
        with contextlib.suppress(OSError, ValueError):
            bar.stop()


def _lines(title: str, time_left: TimeLeft, line_seconds: float) -> Show:
    printed = time.perf_counter()

    def show(done: float, words: str) -> None:
        nonlocal printed
        now, left = time.perf_counter(), time_left(done)
        if now - printed < line_seconds:
            return
        printed = now
        say("  ".join(filter(None, [f"{title}: {words}", left])))

    return show
