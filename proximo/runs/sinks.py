"""Where metrics go besides the run folder: TensorBoard, Weights & Biases.

A sink has two methods: `log(metrics, iteration)` after every iteration, and `close()`. A sink that fails is
disabled, with a line on standard error: a logger must not end a run. Sinks here use only `steps` of an
iteration, which language models have too.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from proximo.errors import UserError, reason, say
from proximo.options import also
from proximo.runs.extras import require_package


class Sink(Protocol):
    """Takes what an iteration gave: its metrics as they stand in metrics.jsonl, and the iteration itself."""

    def log(self, metrics: Mapping[str, float], iteration: Any) -> None: ...
    def close(self) -> None: ...


class Sinks:
    """Several sinks as one. A failing sink never ends the run."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = list(sinks)

    def log(self, metrics: Mapping[str, float], iteration: Any) -> None:
        """Hand an iteration to every sink."""
        for sink in list(self.sinks):
            self._attempt(sink, lambda sink=sink: sink.log(metrics, iteration))

    def close(self) -> None:
        """The run has ended."""
        for sink in list(self.sinks):
            self._attempt(sink, sink.close)

    def _attempt(self, sink: Sink, work: Any) -> None:
        try:
            work()
        except BaseException as raised:
            why = secret_free(reason(raised))
            self.sinks.remove(sink)
            say(f"{type(sink).__name__} failed and is disabled: {why}")


@dataclass(frozen=True)
class ReportOptions:
    """Where a run's metrics go besides its folder."""

    tensorboard: bool = False
    """Write TensorBoard's event files into RUN/tb."""
    wandb: Annotated[bool, also("--track")] = False
    """Report to Weights & Biases (log in with `wandb login`; WANDB_MODE=offline keeps it here)."""
    wandb_project: Annotated[str, also("--wandb-project-name")] = "proximo"
    """The project on Weights & Biases."""

    def check_reports(self) -> None:
        """Raises UserError for a package that is missing."""
        if self.tensorboard:
            require_package("tensorboardX", "tensorboard")
        if self.wandb:
            require_package("wandb", "wandb")

    def reports(self, path: Path, described: Any) -> list[Sink]:
        """The reports of the run in the folder `path`. Raises UserError if one cannot be used.

        described  the run's configuration, as plain data
        """
        found: list[Sink] = []
        if self.tensorboard:
            found.append(TensorBoard(path, described))
        if self.wandb:
            found.append(WeightsAndBiases(path, described, self.wandb_project))
        return found


class TensorBoard:
    """Event files in `tb/`, with the names of metrics.jsonl as tags, and the configuration as a text."""

    def __init__(self, path: Path, described: Any) -> None:
        self.folder, self.described = path / "tb", described
        self._library = require_package("tensorboardX", "tensorboard")
        self._writer: Any = None

    def log(self, metrics: Mapping[str, float], iteration: Any) -> None:
        """One point for each metric, over steps."""
        if self._writer is None:
            fresh = not self.folder.exists()
            # A resumed run writes another file; repeated steps replace the older points.
            purge = None if fresh else iteration.steps
            self._writer = self._library.SummaryWriter(
                str(self.folder),
                purge_step=purge,
                flush_secs=10,
                filename_suffix=f".{iteration.steps}",  # else two of one second are one
            )
            if fresh:
                text = json.dumps(self.described, indent=1)
                self._writer.add_text("config", f"```json\n{text}\n```", 0)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, iteration.steps)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, with files of its own in `wandb/`. It finds the key by itself."""

    def __init__(self, path: Path, described: Any, project: str) -> None:
        wandb = require_package("wandb", "wandb")
        try:
            self._run = wandb.init(
                project=project,
                name=path.name,
                dir=str(path),
                config=described,
                id=find_wandb_id(path / "wandb"),
                resume="allow",
                reinit="create_new",  # members of an ensemble report side by side
                settings=wandb.Settings(console="off", save_code=False),
            )
        except Exception as error:  # its errors have no common class over the versions
            raise UserError(
                f"Weights & Biases did not start ({secret_free(str(error))}): `wandb login` logs in, "
                "WANDB_MODE=offline needs no login"
            ) from error

    def log(self, metrics: Mapping[str, float], iteration: Any) -> None:
        """One row, over steps."""
        self._run.log(dict(metrics), step=iteration.steps)

    def close(self) -> None:
        """Wait until everything has been sent."""
        self._run.finish(quiet=True)


def find_wandb_id(folder: Path) -> str | None:
    """The id under which this run reported before it was interrupted; its folders are `...run-DATE-ID`."""
    earlier = sorted(folder.glob("*run-*-*"), key=lambda path: path.name.partition("run-")[2])
    return earlier[-1].name.rpartition("-")[2] if earlier else None


def secret_free(text: str) -> str:
    """The text on one line, without the key of Weights & Biases."""
    key = os.environ.get("WANDB_API_KEY", "")
    plain = " ".join(text.split())
    return plain.replace(key, "...") if key else plain
