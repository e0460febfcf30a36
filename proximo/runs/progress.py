"""What a person sees while a run goes on: a bar on a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Generator, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from proximo.config import Config
from proximo.learn.train import Iteration

LINE_SECONDS = 5.0


def shown(iterations: Iterator[Iteration], config: Config, enabled: bool) -> Generator[Iteration, None, None]:
    """The same iterations, with their progress on standard error if `enabled`."""
    if not enabled:
        yield from iterations
    elif sys.stderr.isatty():
        yield from _bar(iterations, config)
    else:
        yield from _lines(iterations, config)


def _bar(iterations: Iterator[Iteration], config: Config) -> Iterator[Iteration]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps  {task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    started = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(config.name, total=config.steps, facts="compiling")
        for iteration in iterations:
            progress.update(task, completed=iteration.steps, facts=_facts(iteration, started))
            yield iteration


def _lines(iterations: Iterator[Iteration], config: Config) -> Iterator[Iteration]:
    started = printed = time.perf_counter()
    for iteration in iterations:
        if time.perf_counter() - printed > LINE_SECONDS:
            printed = time.perf_counter()
            left = (config.steps - iteration.steps) * (printed - started) / iteration.steps
            line = (
                f"{iteration.steps:,}/{config.steps:,} steps  {_facts(iteration, started)}  {left:.0f} s left"
            )
            print(line, file=sys.stderr, flush=True)
        yield iteration


def _facts(iteration: Iteration, started: float) -> str:
    rate = iteration.steps / (time.perf_counter() - started)
    return f"return {iteration.mean_return:,.1f}  {rate:,.0f} steps/s"
