"""What a run writes: the interface between `runs` and the training of control and of language models.

Training yields iterations; `RunFiles` turns each into an `Entry`, and the rest is the same for all: the
folder and its logs (`folder`), checkpoints, and what is written when (`record`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONFIG, METRICS, MODEL = "config.json", "metrics.jsonl", "model"
OUTCOME = "outcome.json"  # how a run ended: its "state"
BEST = "best"  # the best model of a run that is evaluated while it trains
RESUMED_WITH = "resumed_with"  # in config.json: what was typed each time, after "command"

StepOf = Callable[[str], int | None]
"""A line of a log -> the steps that it tells of, as in `Entry.steps`; None if it is torn."""


class Entry(NamedTuple):
    """What is written of an iteration.

    steps       what its metrics are drawn over: environment steps, or iterations. A checkpoint is called by
                it, and logs are cut at it
    metrics     for additional loggers
    logs        a log's name -> what is added to it
    checkpoint  makes the content of its files, by their names. Raises UserError if a number is not finite
    save        writes the model into a folder
    last        the training has come to its end
    sound       it can be resumed from; False if an update diverged
    lasting     `checkpoint` is still valid during the next iteration; False if environments move on
    described   what has become known of the run by its first iteration, for `config.json`
    """

    steps: int
    metrics: Mapping[str, float]
    logs: Mapping[str, str]
    checkpoint: Callable[[], Mapping[str, bytes]]
    save: Callable[[Path], None]
    last: bool
    sound: bool = True
    lasting: bool = False
    described: Callable[[], Mapping[str, Any]] = dict


class RunFiles(NamedTuple):
    """What the files of a run hold.

    name       what its folder is called, before the date, where nobody says so
    resume     the command that resumes, before the folder: `proximo train --resume`
    described  what `config.json` says of it, as plain data
    entry      (an iteration, seconds since the run began) -> what is written of it
    logs       `metrics.jsonl`, of which each line has "time/time_elapsed", and others
    heads      logs that are there from the beginning, and how they begin: they mark a folder as taken
    keep       how many of the newest checkpoints are kept
    """

    name: str
    resume: str
    described: Mapping[str, Any]
    entry: Callable[[Any, float], Entry]
    logs: Mapping[str, StepOf]
    heads: Mapping[str, str]
    keep: int
