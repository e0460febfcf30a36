"""How a training of a language model is carried out and kept."""

from dataclasses import dataclass, field
from pathlib import Path

from proximo.errors import UserError
from proximo.runs.sinks import ReportOptions

LARGEST_SEED = 2**63 - 1  # of JAX's keys


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out and kept."""

    out: Path | None = None
    """The run folder; a new one under `runs/` unless said otherwise."""
    seed: int = 0
    """Every random stream is split from it."""
    checkpoint_every: float = 60.0
    """Seconds of work that a crash may cost; 0 for a checkpoint after every iteration."""
    max_time: float | None = None
    """End in good time before so many seconds, with a checkpoint to go on from."""
    reports: ReportOptions = field(default_factory=ReportOptions)

    def checked(self) -> "RunOptions":
        """Itself; raises UserError for a seed that no random key has, for times that cannot be, and for
        reports whose package is missing.
        """
        self.reports.check_reports()
        if not self.checkpoint_every >= 0:
            raise UserError(f"checkpoint_every is {self.checkpoint_every:g}: it must be at least 0 seconds")
        if self.max_time is not None and not self.max_time >= 0:
            raise UserError(f"max_time is {self.max_time:g}: it must be at least 0 seconds")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"seed is {self.seed}: it must be at least 0 and at most {LARGEST_SEED}")
        return self
