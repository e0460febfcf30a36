"""How a training of a language model is carried out and kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from proximo.core.ranges import at_least, between
from proximo.options import also
from proximo.runs.sinks import ReportOptions

LARGEST_SEED = 2**63 - 1  # of JAX's keys


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out and kept."""

    out: Annotated[Path | None, also("--output-dir")] = None
    """The run folder; a new one under `runs/` unless said otherwise."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Every random stream is split from it."""
    checkpoint_every: Annotated[float, at_least(0, infinite=True)] = 60.0
    """Seconds of work that a crash may cost; 0 for a checkpoint after every iteration."""
    max_time: Annotated[float | None, at_least(0, infinite=True)] = None
    """End in good time before so many seconds, with a checkpoint to go on from."""
    reports: ReportOptions = field(default_factory=ReportOptions)
