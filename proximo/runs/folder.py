"""The run folder: what a run leaves behind, readable by people and programs."""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proximo.errors import UserError
from proximo.paths import absolute
from proximo.runs.checkpoints import Checkpoints, quarantine
from proximo.runs.files import CONFIG, MODEL, OUTCOME, RESUMED_WITH, Entry, RunFiles
from proximo.runs.kinds import config_of
from proximo.runs.lock import Lock
from proximo.runs.logs import copy_logs, keep_until, last_seconds
from proximo.runs.machine import machine, warn_of_another_machine
from proximo.runs.sealed import replace_file
from proximo.runs.sinks import Sinks


class RunFolder:
    """One folder per run: `config.json`, `metrics.jsonl` and other logs, `checkpoints/`, `model/`.

    path   where it lies
    files  what they hold
    lock   nobody else writes there before it is released
    sinks  additional loggers of every iteration; by default none
    """

    def __init__(self, path: Path, files: RunFiles, lock: Lock | None = None) -> None:
        self.path, self.files = absolute(path), files
        self.lock = Lock(path) if lock is None else lock
        self.sinks = Sinks()
        self.checkpoints = Checkpoints(self.path / "checkpoints", files.keep)
        self._before: Mapping[str, Any] = {}  # what config.json said when the run was resumed
        self._is_known = False  # what the first iteration has to tell for it
        self._started = time.perf_counter()
        self.saving_seconds = 0.0  # that a checkpoint took at most

    @classmethod
    def create(cls, files: RunFiles, out: str | Path | None = None) -> "RunFolder":
        """Make the folder `out`, or one under `runs/`; raises UserError if a run lies there already.

        One that ended before its first iteration, by a mistake in its options say, has left nothing to keep.
        """
        try:
            path = new_folder(_default_path(files)) if out is None else absolute(out)
        except OSError as error:
            raise UserError(f"cannot make a run folder under {absolute('runs')}: {error.strerror}") from error
        found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        heads = files.heads.items()
        unused = {"versions", "fingerprint"} <= {*config_of(path)} and found <= {
            CONFIG,
            OUTCOME,
            *files.heads,
        }
        unused = unused and all((path / n).read_bytes() == head.encode() for n, head in heads if n in found)
        if CONFIG in found and not unused:
            raise UserError(f"{path} already holds a run: choose another --out, or move that run away")
        if (found and not unused) or (path.exists() and not path.is_dir()):
            raise UserError(f"{path} is not an empty folder: choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path, files)  # its lock first: a run that has just begun looks unused
        (path / OUTCOME).unlink(missing_ok=True)
        folder._begin_logs("a" if unused else "x")  # where no lock can be held, they say who was first
        folder._describe()
        return folder

    @classmethod
    def reopen(
        cls,
        run: Path,
        taken: Path,
        steps: int,
        files: RunFiles,
        out: Path | None = None,
        typed: Sequence[str] = (),
    ) -> "RunFolder":
        """The folder of a resumed run, as it was at a checkpoint; its clock continues too.

        Later lines of its logs and damaged checkpoints are moved out of the way, not lost.

        run           its folder
        taken, steps  the checkpoint to resume from, and its number of steps
        out           continue in this new folder, which gets the logs so far
        typed         the words after `proximo`, kept beside those of earlier times

        Warns if the run started on another machine. Raises UserError if another process writes there, if
        `out` is not empty, and if nothing can be written.
        """
        before = config_of(run)
        warn_of_another_machine(before)
        path = run if out is None else out
        try:
            if out is not None:
                copy_logs(run, out, files.logs)
            lock = Lock(path)
            if out is None:
                quarantine(run, taken)
                (run / OUTCOME).unlink(missing_ok=True)
            for name, step_of in files.logs.items():
                keep_until(path, name, steps, step_of)
        except OSError as error:
            raise UserError(
                f"cannot write in {path} ({error.strerror}): fix that, then resume again"
            ) from error
        folder = cls(path, files, lock)
        earlier = before.get(RESUMED_WITH)
        again = [*(earlier if isinstance(earlier, list) else ()), list(typed)]
        folder._before = {**before, **({RESUMED_WITH: again} if typed else {})}
        folder._describe()  # it may have been asked for more steps
        folder._begin_logs("a")
        folder._started -= last_seconds(path)
        return folder

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between its parts."""
        return time.perf_counter() - self._started

    def log(self, entry: Entry, iteration: Any) -> None:
        """Append an iteration's entry to the logs, and tell the sinks of it."""
        if not self._is_known and (known := entry.described()):
            self._describe(known)
        self._is_known = True
        with self.writing():
            for name, lines in entry.logs.items():
                if lines:
                    self._append(name, lines)
        self.sinks.log(entry.metrics, iteration)

    def checkpoint(self, entry: Entry) -> Path:
        """Write a checkpoint, as `Checkpoints.save`."""
        began = time.perf_counter()
        with self.writing():
            path = self.checkpoints.save(entry.steps, entry.checkpoint())
        self.saving_seconds = max(self.saving_seconds, time.perf_counter() - began)
        return path

    def save(self, entry: Entry) -> Path:
        """Write the model; returns its folder."""
        with self.writing():
            entry.save(self.path / MODEL)
        return self.path / MODEL

    def end(self, state: str) -> None:
        """Write how the run ended: "finished", "stopped" (it can be resumed) or "diverged"."""
        with self.writing():
            self.write_json(OUTCOME, {"state": state})

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that fails is for the user to fix: its files stay, and the run can be resumed from them."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}): fix that, then resume from the last "
                f"checkpoint with `{self.files.resume} {self.path}`"
            ) from error

    def _describe(self, known: Mapping[str, Any] | None = None) -> None:
        """Write `config.json`."""
        content = {**self._before, **self.files.described, **machine(), **(known or {})}
        with self.writing():
            self.write_json(CONFIG, content)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of plain data, whole or not at all. Raises OSError."""
        replace_file(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def _begin_logs(self, mode: str) -> None:
        for name, head in self.files.heads.items():
            place = self.path / name
            if mode == "x" or not place.exists() or not place.stat().st_size:
                with self.writing():
                    self._append(name, head, mode)

    def _append(self, name: str, lines: str, mode: str = "a") -> None:
        try:
            with (self.path / name).open(mode, newline="") as file:
                file.write(lines)
        except FileExistsError:
            raise UserError(f"{self.path} was just taken by another run: choose another --out") from None


def file_name(name: str) -> str:
    """The name of an environment as part of a file's: what no system or shell reads in a way of its own."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "environment"


def _default_path(files: RunFiles) -> Path:
    return absolute("runs") / f"{files.name}-{_date()}"


def ensemble_folder(name: str, members: int) -> Path:
    """Make a folder under `runs/` for the runs of an ensemble on an environment of this name."""
    try:
        return new_folder(absolute("runs") / f"{file_name(name)}-{members}-seeds-{_date()}")
    except OSError as error:
        raise UserError(f"cannot make a run folder under {absolute('runs')}: {error.strerror}") from error


def _date() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def new_folder(path: Path) -> Path:
    """Make a folder that nobody else has, also where several ask for it at once: `path`, `path-2`, ...

    Raises OSError where none can be made.
    """
    for number in itertools.count(1):
        place = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        return place
    raise AssertionError
