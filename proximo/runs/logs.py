"""Logs of a resumed run: lines that a crash or a resumption made obsolete are moved away, not lost."""

import contextlib
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from proximo.errors import UserError
from proximo.runs.files import CONFIG, METRICS, StepOf
from proximo.runs.sealed import replace_file

SUPERSEDED = "superseded"  # the folder for them


def step_under(key: str) -> StepOf:
    """Reads what a line of JSON has under a key, such as "step"."""

    def step_of(line: str) -> int | None:
        try:
            return int(json.loads(line)[key])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    return step_of


def keep_until(path: Path, name: str, steps: int, step_of: StepOf) -> None:
    """Keep a log's lines up to `steps`; later and torn ones are moved to `superseded/`.

    What comes after the checkpoint is repeated, and would be logged twice.
    """
    log = path / name
    if not log.exists():
        return
    *lines, torn = log.read_bytes().split(b"\n")  # as they are: other ends of lines would be other bytes
    found = [step_of(line.decode(errors="replace")) for line in lines]
    kept = [line for line, at in zip(lines, found, strict=True) if at is not None and at <= steps]
    gone = [line for line, at in zip(lines, found, strict=True) if at is None or at > steps]
    gone += [torn] if torn else []
    if gone:
        (path / SUPERSEDED).mkdir(exist_ok=True)
        with (path / SUPERSEDED / name).open("ab") as file:
            file.writelines(line + b"\n" for line in gone)
        replace_file(log, b"".join(line + b"\n" for line in kept))


def last_seconds(path: Path) -> float:
    """When a run's last metrics were logged, in seconds since it began; 0 where that cannot be read."""
    return last_value(path, "time/time_elapsed")


def last_value(path: Path, name: str) -> float:
    """A number in the last line of a run's metrics; 0 where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return float(json.loads((path / METRICS).read_text().splitlines()[-1])[name])
    return 0.0


ROUNDING = 1e-3  # relative: what another way to compile does to a mean over an update


def compare(path: Path, key: str, number: int, metrics: Mapping[str, float]) -> str:
    """How metrics compare with those that a run has logged of its iteration `number`.

    path  the run's folder
    key   what the iteration's number is logged under

    Returns "bits" if all are equal, "rounding" if nearly, "other" if not, "unknown" where nothing is logged.
    """
    lines = (path / METRICS).read_text().splitlines() if (path / METRICS).exists() else []
    step_of = step_under(key)
    found = next((json.loads(line) for line in lines if step_of(line) == number), None)
    if found is None:
        return "unknown"
    pairs = [(found[name], value) for name, value in metrics.items() if name in found]
    if all(a == b for a, b in pairs):
        return "bits"
    near = all(math.isclose(a, b, rel_tol=ROUNDING, abs_tol=1e-6) for a, b in pairs)
    return "rounding" if near else "other"


def copy_logs(run: Path, out: Path, names: Iterable[str]) -> None:
    """Make a new folder with the logs of a run. Raises UserError if it is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, *names):
        if (run / name).exists():
            shutil.copyfile(run / name, out / name)
