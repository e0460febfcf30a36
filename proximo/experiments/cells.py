"""Finished runs on disk: one small JSON file each, written completely or not at all."""

import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from proximo.control.config import Config, as_json
from proximo.envs.scaling import OLDER_FILES
from proximo.errors import UserError
from proximo.experiments.grid import Cell
from proximo.runs.lock import Lock
from proximo.runs.sealed import write_file, writing

FORMAT = 1
LAST = 100  # a run's score is the mean return of its last 100 training episodes, as in the paper
POINTS = 50  # of a learning curve
VERSIONS = ("proximo", "jax", "gymnasium", "mujoco")
KEPT = "finished runs are kept, and the same command continues with the rest"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with the folders above it. Raises UserError where that fails."""
    write_file(path, content, f": fix that; {KEPT}")


def read(path: Path, *needed: str) -> dict[str, Any] | None:
    """A file's content, None without a file.

    needed  what it must have

    Raises UserError if it is unreadable, of another format, or lacks something.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {mismatch_message(path)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path} is not in format {FORMAT}, which this version reads: {mismatch_message(path)}"
        )
    if lacking := [name for name in needed if name not in content]:
        raise UserError(f"{path} was changed: it has no {lacking[0]}: {mismatch_message(path)}")
    return content


def mismatch_message(path: Path) -> str:
    """What to do about a file that does not fit."""
    return f"move {path.name} away, or choose another --results"


# ---- the grid's own file


def description_path(results: Path, grid: str) -> Path:
    """What all runs of a grid share: versions, machines, names of options."""
    return results / grid / "grid.json"


def read_description(results: Path, grid: str) -> dict[str, Any]:
    """The grid's own file as it lies there, or as it would be written now."""
    found = read(description_path(results, grid), "versions", "options", "machines")
    if found is not None:
        return found
    return {"format": FORMAT, "versions": versions(), "options": sorted(flat(Config("ENV"))), "machines": []}


def versions() -> dict[str, str | None]:
    """The versions that a run's score depends on; None for what is not installed."""
    found: dict[str, str | None] = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def lock(results: Path, grid: str) -> Lock:
    """Held while runs of a grid are made here. Raises UserError where another command makes some."""
    path = results / grid
    with writing(path, f": fix that; {KEPT}"):
        path.mkdir(parents=True, exist_ok=True)
    return Lock(path, "another `proximo reproduce`")


def ensure_description(results: Path, grid: str) -> None:
    """Before a grid's first run here: write its file, or see that the one there fits.

    Raises UserError if what lies there was made with other versions: its scores and new ones would not
    be of one kind.
    """
    description, now = read_description(results, grid), versions()
    path = description_path(results, grid)
    for name, there in description["versions"].items():
        if there != now.get(name):
            raise UserError(
                f"{path.parent} was made with {name} {there}, but {now.get(name)} is installed here: "
                f"install {there}, or choose another --results"
            )
    if not path.exists():
        write_json(path, description)


def add_machine(results: Path, grid: str, machine: dict[str, Any]) -> None:
    """Note that runs of this grid come from such a machine too."""
    description = read_description(results, grid)
    if machine not in description["machines"]:
        description["machines"].append(machine)
        write_json(description_path(results, grid), description)


def write_json(path: Path, content: Any) -> None:
    """A small file for people too."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


# ---- one run


def flat(config: Config) -> dict[str, Any]:
    """A configuration as plain data, each option under its own name."""
    content = as_json(config)
    parts = content.pop("update"), content.pop("network")
    return {**content, **parts[0], **parts[1]}


def digest(config: Config, known: list[str]) -> str:
    """Twelve digits of the SHA-256 of a configuration as JSON.

    known  the names of all options there were when the grid began. An option that is newer counts
           where it is not at its default, or as older runs had it: new options leave finished runs valid, new
           values do not.
    """
    if config.vectorization_mode == "auto":  # the same numbers, under the word that recipes had before it
        config = replace(config, vectorization_mode="parallel")
    defaults = flat(Config(config.env)) | OLDER_FILES
    options = {
        name: value for name, value in flat(config).items() if name in known or value != defaults.get(name)
    }
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]


def cell_path(results: Path, cell: Cell) -> Path:
    """Where a run's result lies."""
    return results / f"{cell.name}.json"


def load(results: Path, cell: Cell, known: list[str]) -> dict[str, Any] | None:
    """A finished run; None if it is still to be done.

    Raises UserError if the file there is of another format or was made with another configuration.
    """
    path = cell_path(results, cell)
    content = read(path, "configuration", "score", "curve", "episodes")
    if content is not None and content["configuration"] != digest(cell.config, known):
        raise UserError(
            f"{path} was made with another configuration than the grid has now ({cell.command}): "
            f"{mismatch_message(path)}"
        )
    return content


def random_path(results: Path, grid: str, env: str) -> Path:
    """Where the random policy's score lies."""
    return results / grid / env / "random.json"


class Record:
    """What a run leaves behind, gathered during training.

    steps     learned from so far
    last      the last iteration
    diverged  the step at which an update diverged, None if none did
    over      whether there is nothing more to gather
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.steps, self.over = cell, 0, False
        self.last: Any = None
        self.diverged: int | None = None
        self.ends: list[int] = []
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.terminated: list[int] = []

    def add(self, iteration: Any) -> None:
        """Take in one `Iteration`."""
        before, config = self.steps, self.cell.config
        self.steps, self.last = iteration.steps, iteration
        taken = self.steps - before
        one_rollout = taken <= config.num_envs * config.horizon
        for episode in iteration.episodes:
            share = (episode.end_row + 1) / config.horizon if one_rollout else 1.0
            self.ends.append(before + round(share * taken))
            self.returns.append(float(episode.episode_return))
            self.lengths.append(int(episode.length))
            self.terminated.append(int(episode.terminated))
        if not all(math.isfinite(value) for value in iteration.metrics.values()):
            self.diverged = self.steps
        self.over = self.diverged is not None or self.steps >= self.cell.config.steps

    def result(self, known: list[str], seconds: float, members: int) -> dict[str, Any]:
        """The file's content.

        known    the names of the options that the digest covers
        seconds  since its ensemble began
        members  of that ensemble
        """
        cell = self.cell
        content = {
            "format": FORMAT,
            "grid": cell.grid,
            "env": cell.env,
            "setting": cell.setting,
            "seed": cell.seed,
            "command": cell.command,
            "configuration": digest(cell.config, known),
            "steps": self.steps,
            "episodes": len(self.returns),
            "score": round_mean(self.returns[-LAST:], 5),
            "training_score": round_mean(self.returns, 5),
            "curve": curve(self.ends, self.returns, cell.config.steps),
            "seconds": round(seconds, 1),
            "members": members,
        }
        return content if self.diverged is None else {**content, "diverged": self.diverged}

    def save(self, results: Path, episodes: Path, known: list[str], seconds: float, members: int) -> None:
        """Write every episode into the folder `episodes`, then the result. Raises UserError if it cannot."""
        result = self.result(known, seconds, members)
        whole = {
            **{name: result[name] for name in ("format", "command", "configuration")},
            "end_step": self.ends,
            "return": [round_significant(value, 6) for value in self.returns],
            "length": self.lengths,
            "terminated": self.terminated,
        }
        packed = gzip.compress(json.dumps(whole, separators=(",", ":")).encode(), mtime=0)
        write_atomically(episodes / f"{self.cell.name}.json.gz", packed)
        line = json.dumps(result, separators=(",", ":"), allow_nan=False)
        write_atomically(cell_path(results, self.cell), line.encode() + b"\n")


def curve(ends: list[int], returns: list[float], steps: int) -> list[float | None]:
    """Per fiftieth of the training, the mean return of the episodes that ended in it; None without any."""
    sums: list[list[float]] = [[] for _ in range(POINTS)]
    for end, value in zip(ends, returns, strict=True):
        # The step at which a fiftieth ends belongs to it; what lies beyond the training to the last.
        sums[min(max(end - 1, 0) * POINTS // steps, POINTS - 1)].append(value)
    return [round_mean(values, 4) for values in sums]


def round_mean(values: Sequence[float], digits: int) -> float | None:
    """The mean to so many significant digits; None without any value."""
    return round_significant(float(np.mean(values)), digits) if values else None


def round_significant(value: float, digits: int) -> float:
    """To so many significant digits; a whole number stays short in JSON."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
