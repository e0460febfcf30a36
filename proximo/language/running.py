"""The run folder of a language model: log, completions, checkpoints, and the model at the end.

OUT/config.json         the command and its options, with versions
OUT/metrics.jsonl       a line per iteration
OUT/completions.jsonl   samples, with what they were given for
OUT/checkpoints/NUMBER/ all that goes on from there
OUT/model/              a folder of the Hugging Face Hub's kind
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from proximo.errors import UserError
from proximo.language.train.job import Iteration, Trainer, training
from proximo.options import as_json
from proximo.paths import absolute
from proximo.runs.checkpoints import finished, hide, newest_valid, set_aside
from proximo.runs.folder import fingerprint, new_folder, versions
from proximo.runs.lock import Lock
from proximo.runs.named import filled, named_arrays
from proximo.runs.resume import keep_until
from proximo.runs.sealed import arrays_from, parsed, read_folder, replace_file, write_folder
from proximo.runs.sinks import Sinks

CONFIG, METRICS, COMPLETIONS = "config.json", "metrics.jsonl", "completions.jsonl"
ARRAYS, STATE = "state.safetensors", "state.json"
FORMAT = 1  # of checkpoints
KEPT = 2  # checkpoints


class LanguageRun:
    """A run folder that is written to.

    path     where it lies
    started  when the run began, on this process's clock; earlier, by what was spent already, if resumed
    """

    def __init__(self, path: Path, spent: float = 0.0, lock: Lock | None = None) -> None:
        self.path = absolute(path)
        self.lock = Lock(path) if lock is None else lock  # nobody else writes there before it is released
        self.started = time.perf_counter() - spent
        self.sinks = Sinks()  # who else is told of every iteration

    @classmethod
    def create(cls, command: str, options: Any, out: Path | None, **more: Any) -> "LanguageRun":
        """Make the folder `out`, or one under `runs/`. Raises UserError if anything lies there already.

        more  what else `config.json` says of the run, as plain data
        """
        date = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = absolute("runs") / f"lm-{command}-{options.run.seed}-{date}" if out is None else absolute(out)
        if out is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists and is not an empty folder: choose another --out")
        try:
            if out is None:
                path = new_folder(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
        run = cls(path)
        described = {"command": command, "options": as_json(options), **more}
        described |= {"versions": versions(), "fingerprint": fingerprint()}
        with run.writing():
            replace_file(path / CONFIG, (json.dumps(described, indent=1) + "\n").encode())
        return run

    def log(self, iteration: Iteration) -> dict[str, float]:
        """Append an iteration's metrics and completions; returns the metrics as they were written."""
        elapsed = time.perf_counter() - self.started
        row = {"step": iteration.number, "time/time_elapsed": elapsed, **iteration.metrics}
        with self.writing():
            with (self.path / METRICS).open("a") as file:
                file.write(json.dumps(row) + "\n")
            if iteration.completions:
                with (self.path / COMPLETIONS).open("a") as file:
                    rows = ({"step": iteration.number, **sample} for sample in iteration.completions)
                    file.writelines(json.dumps(sample) + "\n" for sample in rows)
        self.sinks.log({name: x for name, x in row.items() if name != "step"}, iteration)
        return row

    def checkpoint(self, iteration: Iteration) -> Path:
        """Write all that goes on from here, and remove what is older than the newest two."""
        arrays = named_arrays(iteration.state)
        for name, array in arrays.items():
            if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                raise UserError(f"{name} is not finite: no checkpoint is written")
        state = {"format": FORMAT, "number": iteration.number, "elapsed": time.perf_counter() - self.started}
        path = self.path / "checkpoints" / f"{iteration.number:012d}"
        with self.writing():
            write_folder(path, {ARRAYS: safetensors.numpy.save(arrays), STATE: json.dumps(state).encode()})
            for old in finished(path.parent)[KEPT:]:
                hide(old, "gone")
            for gone in path.parent.glob(".*.gone"):
                shutil.rmtree(gone, ignore_errors=True)
        return path

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that fails is the user's to mend: what is on it stays, and the run can go on from there."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}): mend that, then `--resume {self.path}`"
            ) from error


def described(run: Path) -> dict[str, Any]:
    """What `config.json` says of a run: its "command", its "options" as plain data, and more.

    Raises UserError if there is no such run.
    """
    try:
        content = parsed((run / CONFIG).read_bytes(), run / CONFIG)
    except OSError as error:
        raise UserError(f"{run} is not a run of `proximo lm` (no {CONFIG} in it)") from error
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("command"), str)
        or "options" not in content
    ):
        raise UserError(f"{run / CONFIG} is not of a run of `proximo lm`")
    return content


def restored(run: Path, trainer: Trainer) -> tuple[LanguageRun, Any, int]:
    """A run to go on with: its folder, the state of its newest whole checkpoint, and iterations done.

    A damaged checkpoint is named in a warning and an older one taken; without any, raises UserError: a run
    never starts over in silence. Logs are cut back to the checkpoint.
    """
    template = jax.eval_shape(trainer.begin)

    def load(path: Path) -> tuple[Any, int, float]:
        files = read_folder(path, [ARRAYS, STATE])
        number, elapsed = _counted(files[STATE], path / STATE)
        return filled(template, arrays_from(files[ARRAYS], path / ARRAYS), path / ARRAYS), number, elapsed

    path, (state, number, elapsed) = newest_valid(run, load)
    lock = Lock(run)
    set_aside(run, path)
    for name in (METRICS, COMPLETIONS):
        keep_until(run, name, number, step_of)
    return LanguageRun(run, elapsed, lock), state, number


def _counted(content: bytes, place: Path) -> tuple[int, float]:
    """Iterations and seconds that a checkpoint has behind it."""
    said = parsed(content, place)
    try:
        if said["format"] != FORMAT:
            raise UserError(f"{place} is of format {said['format']!r}; this version reads {FORMAT}")
        return int(said["number"]), float(said["elapsed"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{place} does not describe a checkpoint ({error!r}): it was changed") from error


def step_of(line: str) -> int | None:
    """The iteration that a line of a log belongs to; None if it is torn."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def recorded(
    trainer: Trainer, run: LanguageRun, every: float, state: Any = None, number: int = 0
) -> Iterator[Iteration]:
    """The trainer's iterations, each logged, with a checkpoint now and then, and one wherever it ends.

    every  seconds between two checkpoints; 0 for one after each iteration
    """
    last, saved, due = None, 0, time.perf_counter() + every
    with contextlib.ExitStack() as later:
        later.callback(run.lock.release)
        later.callback(run.sinks.close)
        try:
            for last in training(trainer, state, number):
                run.log(last)
                if time.perf_counter() >= due:
                    run.checkpoint(last)
                    saved, due = last.number, time.perf_counter() + every
                yield last
        finally:
            if last is not None and saved != last.number:
                run.checkpoint(last)
            state = state if last is None else last.state
            if state is not None:  # without an iteration too: a run may have been killed before its model
                with run.writing():
                    trainer.save(state, run.path / "model")
