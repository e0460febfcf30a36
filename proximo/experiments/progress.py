"""What a person sees while a grid runs: one bar on a terminal, plain lines in a pipe."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from proximo.errors import say
from proximo.runs.progress import shown_while_possible

LINE_SECONDS = 30.0

Show = Callable[[int, int], None]  # runs finished, steps done


class Rate:
    """Steps per second since the first ones were reported: what comes before is compilation."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, steps: int) -> float:
        """The rate now, 0 before it is known."""
        now = time.perf_counter()
        if self._first is None and steps:
            self._first = now, steps
        if self._first is None or now == self._first[0]:
            return 0.0
        return (steps - self._first[1]) / (now - self._first[0])


@contextlib.contextmanager
def shown(title: str, runs: int, steps: int, enabled: bool) -> Generator[Show, None, None]:
    """A function that is told how far the grid is, and shows it on standard error if `enabled`.

    runs, steps  what is still to be done, all together
    """
    if not enabled or sys.stderr is None:
        yield lambda runs_done, steps_done: None
    elif sys.stderr.isatty():
        yield from _bar(title, runs, steps)
    else:
        yield _lines(title, runs, steps)


def _bar(title: str, runs: int, steps: int) -> Generator[Show, None, None]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    rate = Rate()
    bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
    with shown_while_possible(bar) as progress:
        task = progress.add_task(title, total=steps, facts=f"0/{runs} runs  compiling")

        def show(runs_done: int, steps_done: int) -> None:
            facts = f"{runs_done}/{runs} runs  {rate(steps_done):,.0f} steps/s"
            progress.update(task, completed=steps_done, facts=facts)

        yield show


def _lines(title: str, runs: int, steps: int) -> Show:
    rate, printed = Rate(), time.perf_counter()

    def show(runs_done: int, steps_done: int) -> None:
        nonlocal printed
        now, speed = time.perf_counter(), rate(steps_done)
        if now - printed < LINE_SECONDS or not speed:
            return
        printed = now
        left = f"{(steps - steps_done) / speed:,.0f} s left"
        say(f"{title}: {runs_done}/{runs} runs  {speed:,.0f} steps/s  {left}")

    return show
