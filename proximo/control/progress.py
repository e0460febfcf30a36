"""What a person sees of a training: how far it is, and what the policy reaches."""

import math
from collections.abc import Generator
from typing import Protocol, TypeVar

from proximo.control.config import Config
from proximo.runs import progress
from proximo.runs.progress import Facts


class Reached(Protocol):
    """What is shown: an `Iteration` of one run, or an overview of several."""

    @property
    def steps(self) -> int: ...
    @property
    def mean_return(self) -> float: ...


Row = TypeVar("Row", bound=Reached)


def shown(
    rows: Generator[Row, None, None], config: Config, enabled: bool, steps: int | None = None
) -> Generator[Row, None, None]:
    """The same rows, with their progress on standard error if `enabled`.

    steps  of all runs, where they are several
    """
    return progress.shown(rows, facts, config.name, steps or config.steps, enabled)


def facts(row: Reached) -> Facts:
    """Where a run is, and the mean return of its last episodes."""
    unknown = math.isnan(row.mean_return)
    words = "no episode ended yet" if unknown else f"return {row.mean_return:,.1f}"
    return Facts(row.steps, words, row.steps)
