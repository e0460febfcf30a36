"""What the committed runs say, in the words of a comparison: scores, steps to a score, what an update costs.

Everything is read from the raw files of `results` and computed again; nothing is stored between calls.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proximo.control.config import Config
from proximo.experiments.cells import POINTS, round_significant
from proximo.experiments.grid import cells
from proximo.experiments.grids import find_grid
from proximo.experiments.summary import DIGITS, LAST, Finished, load_finished, scale
from proximo.runs import statistics

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
FIGURE_3, TABLE_1, PPO = "figure3", "table1", "clip-0.2"


@cache
def runs(grid: str) -> Finished:
    """Setting -> environment -> its finished runs."""
    return load_finished(find_grid(grid), RESULTS)


@cache
def normalised(grid: str, setting: str) -> tuple[np.ndarray, ...]:
    """Per environment the scores of a setting's runs, as the grid's table has them."""
    found, scores = find_grid(grid), []
    for env in found.environments:
        ends = scale(found, env, runs(grid), RESULTS)
        assert ends is not None, env
        scores.append(np.array([statistics.normalised(run[LAST], *ends) for run in runs(grid)[setting][env]]))
    return tuple(scores)


@cache
def mean_score(grid: str, setting: str) -> statistics.Estimate:
    """The mean of a setting's normalised scores with its 95% interval, to the digits of the grid's table."""
    found = statistics.mean(normalised(grid, setting))
    value, low, high = (round_significant(number, DIGITS) for number in found[:3] if number is not None)
    return statistics.Estimate(value, low, high, found.method)


@cache
def raw(file: str) -> Any:
    """A raw file of `results`, by its path in that folder."""
    return json.loads((RESULTS / file).read_text())


def environments(grid: str) -> tuple[str, ...]:
    """Those of a grid."""
    return tuple(find_grid(grid).environments)


def config_of(grid: str, setting: str) -> Config:
    """What a setting's runs were trained with; the same in each environment but for its name."""
    return cells(find_grid(grid), settings=[setting])[0].config


def score(grid: str, setting: str, env: str) -> float:
    """Mean raw return of the last 100 training episodes, over seeds."""
    return float(np.mean([run[LAST] for run in runs(grid)[setting][env]]))


def curves(grid: str, setting: str, env: str) -> np.ndarray:
    """Learning curves [seeds, points]; NaN where no episode ended."""
    found = [run["curve"] for run in runs(grid)[setting][env]]
    return np.array([[np.nan if value is None else value for value in curve] for curve in found])


def share_to(grid: str, setting: str, env: str, level: float) -> float | None:
    """The share of training after which the mean curve over seeds is first at a score, None if it never is.

    A curve's points are fiftieths of the training: so fine is the answer.
    """
    reached = np.flatnonzero(statistics.band(curves(grid, setting, env))[0] >= level)
    return (int(reached[0]) + 1) / POINTS if len(reached) else None


def gradient_steps(config: Config) -> float:
    """Steps of the actor along a gradient, per environment step.

    An actor that learns with the critic moves once per minibatch and epoch; another once per rollout.
    """
    update = config.update
    if config.population is not None:
        return 0.0  # no gradient
    if update.actor_step.joint:
        return update.epochs / update.minibatch_size
    return 1.0 / (config.num_envs * config.horizon)


class Race(NamedTuple):
    """How PPO gets to another method's final score on one task.

    ours, theirs  shares of training at which the mean curves first reach it; `ours` is None for never
    """

    env: str
    ours: float | None
    theirs: float


def races(other: str, grid: str = FIGURE_3, ours: str = PPO) -> list[Race]:
    """On each task of a grid; a method whose mean curve stays below its own last 100 episodes takes all."""
    found = []
    for env in environments(grid):
        level = score(grid, other, env)
        theirs = share_to(grid, other, env, level)
        found.append(Race(env, share_to(grid, ours, env, level), theirs or 1.0))
    return found


def update_cost(method: str) -> statistics.Estimate:
    """Time of a method's update over that of PPO's on the same rollout: median, lowest and highest of the
    interleaved rounds."""
    seconds = raw("speed/grid.json")["update_seconds"]
    ratios = np.array(seconds[method]) / np.array(seconds["paper"])
    return statistics.Estimate(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))
