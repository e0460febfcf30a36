"""A list of runs and their state, read from the ends of their files: fast, and without JAX."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proximo.errors import UserError
from proximo.runs.files import CONFIG, METRICS, MODEL, OUTCOME
from proximo.runs.kinds import config_of, natural
from proximo.runs.lock import is_held

DEEPEST = 3  # OUT/seed-0, OUT/setting/seed-0, runs/OUT/setting/seed-0
LAST_LINE = 2**16  # bytes at the end of a log in which its last line lies
SCORES = {  # of a language model, most telling first -> what it is called
    "objective/scores": "reward",
    "eval_loss": "held-out loss",
    "loss": "loss",
}


@dataclass(frozen=True)
class RunSummary:
    """The state of a run.

    path     its folder
    kind     "control" or "language"
    env      the environment, or the command that trains a language model
    steps    environment steps so far; iterations of a language model
    planned  those that it is to make, where that is recorded
    score    mean return of the last 100 training episodes, or what `metric` says; None before there is one
    metric   "return", "reward" or "loss"
    state    "running", "finished", "stopped" or "diverged"
    date     when it was last written to
    """

    path: Path
    kind: str
    env: str
    preset: str | None
    seed: int | None
    steps: int
    planned: int | None
    score: float | None
    metric: str
    state: str
    date: datetime

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "path": str(self.path), "date": self.date.isoformat(timespec="seconds")}


@dataclass(frozen=True)
class Ensemble:
    """The runs of one folder, such as the seeds of `train --seeds`."""

    path: Path
    runs: list[RunSummary] = field(default_factory=list)

    @property
    def date(self) -> datetime:
        return max(run.date for run in self.runs)

    @property
    def score(self) -> float | None:
        """The mean over the runs that have one."""
        known = [run.score for run in self.runs if run.score is not None]
        return sum(known) / len(known) if known else None

    @property
    def state(self) -> str:
        """The state of all, or how many are in each."""
        states = [run.state for run in self.runs]
        found = [(states.count(state), state) for state in dict.fromkeys(states)]
        return found[0][1] if len(found) == 1 else ", ".join(f"{count} {state}" for count, state in found)


def overview(place: Path) -> list[RunSummary | Ensemble]:
    """All runs in a folder, newest first; several in one subfolder are grouped.

    Raises UserError where there is no such folder.
    """
    if not place.is_dir():
        raise UserError(f"there is no folder {place}: name a folder of runs, such as runs")
    found = [summary_of(path) for path in _runs_in(place, DEEPEST)]
    groups: dict[Path, list[RunSummary]] = {}
    for run in found:
        groups.setdefault(run.path.parent, []).append(run)
    entries: list[RunSummary | Ensemble] = []
    for parent, runs in groups.items():
        together = parent != place and len(runs) > 1
        entries += [Ensemble(parent, runs)] if together else runs
    return sorted(entries, key=lambda entry: entry.date, reverse=True)


def _runs_in(place: Path, depth: int) -> Iterator[Path]:
    if _is_run(config_of(place) if (place / CONFIG).is_file() else {}):
        yield place
    elif depth:
        with contextlib.suppress(OSError):  # no right to look inside
            for inner in sorted((path for path in place.iterdir() if path.is_dir()), key=natural):
                yield from _runs_in(inner, depth - 1)


def _is_run(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("env"), str) or _language_command(config) is not None


def _language_command(config: Mapping[str, Any]) -> str | None:
    command = config.get("command")
    return command if isinstance(command, str) and isinstance(config.get("options"), dict) else None


def summary_of(path: Path) -> RunSummary:
    """The state of the run in a folder; what cannot be read is left out."""
    config, last = config_of(path), _last_row(path / METRICS)
    command = _language_command(config)
    if command is not None:
        run_options = config["options"].get("run")
        seed = run_options.get("seed") if isinstance(run_options, dict) else None
        metric = next((name for name in SCORES if _number(last.get(name)) is not None), None)
        env, preset, planned, steps = f"lm {command}", None, None, _whole(last.get("step")) or 0
        score, word = (None, "reward") if metric is None else (_number(last[metric]), SCORES[metric])
    else:
        env, preset, seed = config["env"], config.get("preset"), config.get("seed")
        planned, steps = _whole(config.get("steps")), _whole(last.get("time/total_timesteps")) or 0
        score, word = _number(last.get("rollout/ep_rew_mean")), "return"
    return RunSummary(
        path=path,
        kind="control" if command is None else "language",
        env=_printable(env),
        preset=_printable(preset) if isinstance(preset, str) else None,
        seed=_whole(seed),
        steps=steps,
        planned=planned,
        score=score,
        metric=word,
        state=_state(path, config, steps, score),
        date=_date(path),
    )


def _state(path: Path, config: Mapping[str, Any], steps: int, score: float | None) -> str:
    if is_held(path):
        return "running"
    state = _row_of(path / OUTCOME).get("state")
    if state in ("finished", "stopped", "diverged"):
        return str(state)
    planned, until = (
        _whole(config.get("steps")),
        _number(config.get("until")),
    )  # older runs, and kills
    reached = until is not None and score is not None and score >= until
    whole = steps >= planned if planned is not None else (path / MODEL).is_dir()
    return "finished" if whole or reached else "stopped"


def _last_row(log: Path) -> dict[str, Any]:
    """The last whole line of a log, as the object that it is; empty where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LAST_LINE))
        for line in reversed(file.read().split(b"\n")):
            row = _parsed(line) if line.strip() else None
            if row is not None:
                return row
    return {}


def _row_of(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        return _parsed(path.read_bytes()[:LAST_LINE]) or {}
    return {}


def _parsed(text: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        return found if isinstance(found, dict) else None
    return None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _printable(text: str) -> str:
    """A name from a file, which may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:60]


def _date(path: Path) -> datetime:
    for name in (METRICS, CONFIG):
        with contextlib.suppress(OSError):
            return datetime.fromtimestamp((path / name).stat().st_mtime, UTC)
    return datetime.fromtimestamp(0, UTC)


# ---- as a table

HEAD = ("run", "kind", "environment", "preset", "seed", "steps", "result", "state", "date")
RIGHT = ("seed", "steps")


def table(entries: Sequence[RunSummary | Ensemble], place: Path) -> list[str]:
    """The lines of an aligned table; the runs of an ensemble stand indented below it."""
    rows: list[tuple[str, ...]] = [HEAD]
    for entry in entries:
        if isinstance(entry, Ensemble):
            rows.append(_ensemble_row(entry, place))
            rows += [_row(run, f"  {run.path.name}") for run in entry.runs]
        else:
            rows.append(_row(entry, _within(entry.path, place)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for name, cell, width in zip(HEAD, row, widths, strict=True):
        yield cell.rjust(width) if name in RIGHT else cell.ljust(width)


def _row(run: RunSummary, name: str) -> tuple[str, ...]:
    steps = f"{run.steps:,}"
    if run.planned is not None and run.state != "finished":
        steps += f" of {run.planned:,}"
    seed = "-" if run.seed is None else str(run.seed)
    result = _result(run.metric, run.score)
    return (name, run.kind, run.env, run.preset or "-", seed, steps, result, run.state, _local(run.date))


def _ensemble_row(group: Ensemble, place: Path) -> tuple[str, ...]:
    first = group.runs[0]
    same = all((run.kind, run.env, run.preset) == (first.kind, first.env, first.preset) for run in group.runs)
    kind, env, preset = (first.kind, first.env, first.preset or "-") if same else (first.kind, "several", "-")
    result = _result(f"mean {first.metric}", group.score if same else None)
    steps, seeds = f"{sum(run.steps for run in group.runs):,}", f"{len(group.runs)} runs"
    return (
        _within(group.path, place),
        kind,
        env,
        preset,
        seeds,
        steps,
        result,
        group.state,
        _local(group.date),
    )


def _result(metric: str, score: float | None) -> str:
    return "-" if score is None else f"{metric} {score:,.4g}" if abs(score) < 1 else f"{metric} {score:,.1f}"


def _within(path: Path, place: Path) -> str:
    return str(path.relative_to(place)) if path != place else path.name


def _local(date: datetime) -> str:
    return date.astimezone().strftime("%Y-%m-%d %H:%M")
