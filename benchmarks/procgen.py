"""What PPO learns in Procgen's games: on the levels it trains on, and on all others.

    python -m benchmarks.procgen            (runs what is missing, then prints the table)
    python -m benchmarks.procgen --table    (prints the table of what there is)

Training sees 200 easy levels. The agent then plays these, and the levels of the whole game, most of which it
never saw (Cobbe 2020). It draws its actions, as in training. A finished run is a file under
`results/procgen/` and is never run again. It needs EnvPool and the system's Qt 5 (docs/pixels.md).
"""

import json
import sys
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from proximo import Agent, evaluate, preset, training, with_options
from proximo.control.config import as_json

EPISODES = 100  # of each evaluation
TRAINED = {"num_levels": 200, "start_level": 0}
ALL = {"num_levels": 0, "start_level": 0}
MARKS = (1_000_000, 5_000_000)  # steps at which OpenAI's curves are read
RANGES = {"coinrun": (5.0, 10.0), "starpilot": (2.5, 64.0), "fruitbot": (-1.5, 32.4)}
"""The least and the most that a game pays, by which its return is normalised (Cobbe 2020, appendix C)."""
OPENAI = {  # mean return on training levels, on all; 3 seeds; from the curves in openai/train-procgen
    ("coinrun", 1_000_000): (7.7, 7.3),
    ("starpilot", 1_000_000): (7.1, 6.2),
    ("starpilot", 5_000_000): (18.9, 16.7),
    ("fruitbot", 1_000_000): (4.5, 3.9),
    ("fruitbot", 5_000_000): (23.8, 22.1),
}


@dataclass(frozen=True)
class Options:
    """Train, play levels seen and unseen, and print the table."""

    games: tuple[str, ...] = ("coinrun", "starpilot")
    """Games, as EnvPool names them in small letters."""
    steps: int = 5_000_000
    """Of each run."""
    seeds: int = 1
    """Runs of each game."""
    table: bool = False
    """Run nothing."""
    out: Path = Path("results/procgen")
    """Where the runs are kept."""


def env_of(game: str) -> str:
    """The id of a game."""
    return f"envpool/{game.capitalize()}Easy-v0"


def normalised(game: str, value: float) -> float:
    """(R - R_min) / (R_max - R_min)."""
    low, high = RANGES[game]
    return (value - low) / (high - low)


def played(agent: Agent, game: str, seed: int) -> dict[str, list[float]]:
    """The returns of episodes on the levels trained on, and on those of the whole game."""
    found = {}
    for name, levels in (("train", TRAINED), ("test", ALL)):
        result = evaluate(
            agent, env_of(game), episodes=EPISODES, seed=seed, env_kwargs=levels, deterministic=False
        )
        found[name] = [round(value, 4) for value in result.returns]
    return found


def run(path: Path, game: str, steps: int, seed: int) -> None:
    """Train one run; its file is written at every mark and at its end."""
    config = preset("default", env_of(game))
    config = with_options(config, steps=steps, seed=seed, env_kwargs=TRAINED)
    marks = [mark for mark in (*MARKS, steps) if mark <= steps]
    curve: list[tuple[int, float | None]] = []  # steps, and the mean return of the last 100 episodes
    scores: dict[int, dict[str, list[float]]] = {}
    content: dict[str, Any] = {
        "game": game,
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("proximo", "jax", "numpy", "envpool")},
        "config": as_json(config),
    }
    for iteration in training(config):
        mean = float(iteration.mean_return)
        curve.append((iteration.steps, round(mean, 3) if isfinite(mean) else None))
        if marks and iteration.steps >= marks[0]:
            scores[marks[0]] = played(iteration.agent, game, seed)
            marks = [mark for mark in marks if mark > iteration.steps]
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = {**content, "done": not marks, "curve": curve, "scores": scores}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(whole) + "\n")
            partial.replace(path)
            print(f"{path.name} at {iteration.steps:,} steps", flush=True)


def table(options: Options) -> str:
    """A row for each game and number of steps; `open` is not run."""
    rows = [
        "| game | steps | trained levels | all levels | OpenAI's, trained | all |",
        "| --- |" + " ---: |" * 5,
    ]
    for game in options.games:
        for mark in (mark for mark in MARKS if mark <= options.steps):
            paths = [options.out / f"{game}-{seed}.json" for seed in range(options.seeds)]
            runs = [json.loads(path.read_text())["scores"] for path in paths if path.exists()]
            cells = []
            for levels in ("train", "test"):
                means = [float(np.mean(one[str(mark)][levels])) for one in runs if str(mark) in one]
                cells.append(shown(game, float(np.mean(means))) if means else "open")
            theirs = OPENAI.get((game, mark))
            cells += [shown(game, value) for value in theirs] if theirs else ["-", "-"]
            rows.append(f"| {game} | {mark:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def shown(game: str, value: float) -> str:
    """A mean return, and what it is normalised."""
    return f"{value:.1f} ({normalised(game, value):.2f})"


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.procgen", description=__doc__)
    warnings.simplefilter("ignore")  # levels that differ from those of training are what is asked for
    for game in [] if options.table else options.games:
        for seed in range(options.seeds):
            path = options.out / f"{game}-{seed}.json"
            if not (path.exists() and json.loads(path.read_text())["done"]):
                run(path, game, options.steps, seed)
    print(table(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
