"""Run folders as plain data, whatever their state; `problems` says what could not be read."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proximo.errors import UserError
from proximo.runs.files import RESUMED_WITH
from proximo.runs.kinds import language_advice, language_command, natural
from proximo.runs.statistics import STUDENT

FILES = ("config.json", "metrics.jsonl", "episodes.csv")
STEP = "time/total_timesteps"
DEEPEST = 3  # OUT/seed-0, OUT/setting/seed-0, runs/OUT/setting/seed-0
WINDOW = 100  # training episodes in a score, as in rollout/ep_rew_mean
UNKNOWN = "unknown environment"


class Series(NamedTuple):
    """A number over the steps of training."""

    steps: np.ndarray
    values: np.ndarray


class Episodes(NamedTuple):
    """Training episodes in the order in which they ended."""

    steps: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class RunData:
    """What a run folder tells.

    config      `config.json`; empty where it is missing
    metrics     one series for each name in `metrics.jsonl`
    evaluation  `evaluation.json`, where there is one
    started     when the folder was made, as the date of `config.json` says
    written     when the last metrics were written
    saved       whether a model lies there: training has come to an end
    problems    what could not be read, a sentence each
    unit        what `metrics` are drawn over: environment "steps", or "iterations" of a language model
    score_of    the metric that sums it up where there are no episodes
    samples     of a language model's answers, in the order in which they were written
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Series]
    episodes: Episodes
    evaluation: dict[str, Any] | None
    started: datetime | None
    written: datetime | None
    saved: bool
    problems: list[str]
    unit: str = "steps"
    score_of: str = "rollout/ep_rew_mean"
    samples: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The last two folders of its path: enough to find it, and nobody's home folder."""
        return "/".join(self.path.absolute().parts[-2:])

    @property
    def env(self) -> str:
        env = self.config.get("env")
        return env if isinstance(env, str) and env else UNKNOWN

    @property
    def seed(self) -> int | None:
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def planned(self) -> int | None:
        """The steps it was to make; None where they are not recorded."""
        steps = self.config.get(self.unit)
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def steps(self) -> int:
        """The steps it has made."""
        known = [series for series in (self.metrics.get(STEP), self.episodes) if series is not None]
        return int(max((series.steps[-1] for series in known if len(series.steps)), default=0))

    @property
    def score(self) -> float | None:
        """Mean return of the last 100 training episodes; None before the first has ended.

        Of a language model the last value of what it learns by: reward, accuracy, or loss.
        """
        if len(self.episodes.returns):
            return float(np.mean(self.episodes.returns[-WINDOW:]))
        return self.last(self.score_of)

    def last(self, *metrics: str) -> float | None:
        """The last value of the first of these metrics that is there, or None."""
        found = (self.metrics[name].values for name in metrics if name in self.metrics)
        return next((float(values[-1]) for values in found if len(values)), None)

    def state(self, now: datetime) -> str:
        """Whether it has come to its end, in a few words."""
        if not self.steps:
            return f"no {self.unit[:-1]} is recorded yet"
        if self.planned is None or self.steps >= self.planned:
            return "finished"
        share = f"{self.steps:,} of {self.planned:,} {self.unit}"
        until, score = self.config.get("until"), self.score
        if isinstance(until, int | float) and score is not None and score >= until:
            return f"reached {until:g} after {share}"
        if self.saved:
            return f"ended early: {share}"
        minutes = max(0.0, (now - self.written).total_seconds() / 60) if self.written else 0.0
        return f"running or interrupted: {share}, last update {minutes:,.0f} min ago"


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The run folders named, of control and of language models, and those in the folders named; each once.

    Of several places, those without a run are left out: `runs/*` has other things too. Raises UserError for
    one that is not there, and where there is no run at all.
    """
    found: dict[Path, Path] = {}
    for place in places:
        try:
            inside = list(_runs_in(place, DEEPEST)) if place.is_dir() else []
        except OSError as error:
            raise UserError(f"cannot read {place}: {error.strerror}") from error
        inside = [run for run in inside if language_command(run) or language_advice(run) is None]
        if not inside and (len(places) == 1 or not place.exists()):
            advice = language_advice(place)
            if advice is not None:
                raise UserError(f"a report needs runs, but {advice}")
            raise UserError(f"{place} {_what_it_is(place)}")
        for run in inside:
            found.setdefault(run.resolve(), run)
    if not found:
        raise UserError(f"there is no run among {', '.join(map(str, places[:3]))}, ...: name run folders")
    return list(found.values())


def _what_it_is(place: Path) -> str:
    """In place of a run."""
    if place.is_dir():
        return f"is not a run folder and contains none: a run folder has {' or '.join(FILES)}"
    return "is a file: name its run folder" if place.exists() else "does not exist"


def _runs_in(place: Path, depth: int) -> Iterator[Path]:
    if any((place / name).is_file() for name in FILES):
        yield place
    elif depth:
        for inner in sorted((path for path in place.iterdir() if path.is_dir()), key=natural):
            yield from _runs_in(inner, depth - 1)


def read_run(path: Path) -> RunData:
    """Everything a run folder tells, and what of it could not be read. Raises nothing."""
    if (command := language_command(path)) is not None:
        return _language_run(path, command)
    problems: list[str] = []
    return RunData(
        path=path,
        config=_json(path / "config.json", problems, needed=True) or {},
        metrics=_metrics(_text(path / "metrics.jsonl", problems, needed=True), problems),
        episodes=_episodes(_text(path / "episodes.csv", problems, needed=True), problems),
        evaluation=_evaluation(_json(path / "evaluation.json", problems, needed=False), problems),
        started=_date(path / "config.json"),
        written=_date(path / "metrics.jsonl"),
        saved=(path / "model" / "model.json").is_file(),
        problems=problems,
    )


def _language_run(path: Path, command: str) -> RunData:
    """A run of `proximo lm`: its options flat, beside what it is called in the place of an environment."""
    problems: list[str] = []
    content = _json(path / "config.json", problems, needed=True) or {}
    options = flat_parts(content.get("options"))
    kept: dict[str, Any] = {
        name: content[name] for name in ("versions", "fingerprint", "iterations") if name in content
    }
    metrics = _metrics(_text(path / "metrics.jsonl", problems, needed=True), problems, "step")
    lines = _text(path / "completions.jsonl", problems, needed=False).split("\n")
    rows = [
        row for line in lines if (row := _parsed(line)) is not None and finite(row.get("step")) is not None
    ]
    stands = superseding_rows(np.array([float(row["step"]) for row in rows]))
    return RunData(
        path=path,
        config={**options, **kept, "env": f"lm {command}", "options": content.get("options")},
        metrics=metrics,
        episodes=Episodes(*(np.array([]) for _ in Episodes._fields)),
        evaluation=None,
        started=_date(path / "config.json"),
        written=_date(path / "metrics.jsonl"),
        saved=(path / "model" / "config.json").is_file(),
        problems=problems,
        unit="iterations",
        score_of=next((name for name in LANGUAGE_SCORES if name in metrics), "loss"),
        samples=tuple(row for row, is_kept in zip(rows, stands, strict=True) if is_kept),
    )


# What a language model learns by, the most telling first.
LANGUAGE_SCORES = ("objective/scores", "eval_accuracy", "accuracy", "rewards/accuracies", "loss")


BESIDE = ("versions", "fingerprint", "iterations", RESUMED_WITH)  # the options, in config.json


def flat_parts(options: Any) -> dict[str, Any]:
    """Recorded options in one row: a part of several has no name, an option that is one of some has."""
    flat: dict[str, Any] = {}
    for name, value in (options if isinstance(options, dict) else {}).items():
        flat |= flat_parts(value) if isinstance(value, dict) and "name" not in value else {name: value}
    return flat


def _date(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _text(path: Path, problems: list[str], *, needed: bool) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        problems += [f"{path.name} is missing"] if needed else []
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
    return ""


def _parsed(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(path: Path, problems: list[str], *, needed: bool) -> dict[str, Any] | None:
    text = _text(path, problems, needed=needed)
    value = _parsed(text)
    if text and value is None:
        problems.append(f"{path.name} is not a JSON object: ignored")
    return value


def finite(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _metrics(text: str, problems: list[str], step: str = STEP) -> dict[str, Series]:
    """The series of `metrics.jsonl`; a run that was taken up again overwrites what it repeats.

    step  what they are drawn over; it is called `STEP` here
    """
    lines = [line for line in text.split("\n") if line.strip()]
    rows = [_parsed(line) for line in lines]
    if rows and rows[-1] is None and not text.endswith("\n"):
        problems.append("the last line of metrics.jsonl is incomplete: ignored")
        rows.pop()
    good = [row for row in rows if row is not None and finite(row.get(step)) is not None]
    good = [{STEP: row[step], **{k: v for k, v in row.items() if k != step}} for row in good]
    if len(good) < len(rows):
        problems.append(f"{len(rows) - len(good)} lines of metrics.jsonl cannot be read: ignored")
    kept = np.flatnonzero(superseding_rows(np.array([float(row[STEP]) for row in good])))
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in (good[index] for index in kept):
        for name, value in row.items():
            number = finite(value)
            if number is not None:
                steps, values = found.setdefault(name, ([], []))
                steps.append(float(row[STEP]))
                values.append(number)
    return {name: Series(np.array(steps), np.array(values)) for name, (steps, values) in found.items()}


def superseding_rows(steps: np.ndarray) -> np.ndarray:
    """Which rows stand: where the steps jump back, those from there on replace what lies beyond."""
    stands = np.ones(len(steps), bool)
    for jump in np.flatnonzero(np.diff(steps) < 0) + 1:
        stands[:jump] &= steps[:jump] < steps[jump]
    return stands


def _episodes(text: str, problems: list[str]) -> Episodes:
    if text and not text.endswith("\n"):  # half a number is a number too: 48 of 489
        problems.append("the last line of episodes.csv is incomplete: ignored")
        text = text[: text.rfind("\n") + 1]
    header, *rows = list(_rows(text)) or [[]]
    names = ("step", "return", "length")
    missing = [name for name in names if name not in header]
    if missing:
        problems += [f"episodes.csv has no column {missing[0]}: ignored"] if text else []
        return Episodes(*(np.array([]) for _ in names))
    found = [[_number(row, header.index(name)) for name in names] for row in rows]
    good = [numbers for numbers in found if None not in numbers]
    if len(good) < len(found):
        problems.append(f"{len(found) - len(good)} lines of episodes.csv cannot be read: ignored")
    table = np.array(good, float).reshape(-1, len(names))
    return Episodes(*table[superseding_rows(table[:, 0])].T)


def _rows(text: str) -> Iterator[list[str]]:
    """The rows of a CSV file; an empty one in the place of a field without end."""
    try:
        yield from csv.reader(io.StringIO(text, newline=""))
    except csv.Error:
        yield []


def _number(row: list[str], column: int) -> float | None:
    """What stands in a column, if it is a finite number."""
    try:
        return finite(float(row[column]))
    except (ValueError, IndexError):
        return None


def _evaluation(content: dict[str, Any] | None, problems: list[str]) -> dict[str, Any] | None:
    """The numbers of `evaluation.json` that are numbers, if its mean is one."""
    if content is None:
        return None
    lists = {
        name: [number for number in map(finite, content[name]) if number is not None]
        for name in ("returns", "lengths")
        if isinstance(content.get(name), list)
    }
    numbers = {name: finite(content.get(name)) for name in ("mean", "std", "low", "high", "episodes")}
    if numbers["mean"] is None:
        problems.append("evaluation.json has no mean: ignored")
        return None
    how = content.get("interval")  # older files do not say it
    told = how if isinstance(how, str) else STUDENT
    bounded = numbers["low"] is not None and numbers["high"] is not None
    return numbers | {"interval": told if bounded else None, "returns": [], "lengths": []} | lists
