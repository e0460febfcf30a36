"""The progress of a training run: how far it is, and the mean return."""

import math
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from proximo.control.config import Config
from proximo.runs import progress
from proximo.runs.compiling import compile_seconds
from proximo.runs.progress import Facts

Row = TypeVar("Row")


def shown(
    rows: Generator[Row, None, None],
    config: Config,
    enabled: bool,
    steps: int | None = None,
    evaluating: Callable[[], float] = lambda: 0.0,
) -> Generator[Row, None, None]:
    """The same rows, with their progress on standard error if `enabled`.

    rows   iterations of a run, or whatever has `steps` and a `mean_return` for several
    steps  of all runs, where they are several
    evaluating  seconds so far that went into evaluations: they are no measure of the training
    """

    def aside() -> float:
        return compile_seconds() + evaluating()

    return progress.with_progress(rows, facts, config.name, steps or config.steps, enabled, aside=aside)


def facts(row: Any) -> Facts:
    """Where a run is, and the mean return of its last episodes."""
    unknown = math.isnan(row.mean_return)
    words = "no episode ended yet" if unknown else f"return {row.mean_return:,.1f}"
    return Facts(row.steps, words, row.steps)
