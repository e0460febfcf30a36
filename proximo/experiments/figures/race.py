"""The committed runs of figure 3 and of table 1 as a race: learning curves by steps or gradient steps."""

from typing import Any

import numpy as np

from proximo.experiments.cells import POINTS, round_significant
from proximo.experiments.grids import find_grid
from proximo.experiments.measured import (
    FIGURE_3,
    PPO,
    TABLE_1,
    config_of,
    curves,
    environments,
    gradient_steps,
)
from proximo.runs import statistics

DIGITS = 4  # as the raw curves have them


def race() -> dict[str, Any]:
    """The numbers of the figure.

    methods  by name: label, the grids that have it, the actor's gradient steps of the whole training; per
             task the mean curve, half of its 95% interval (Student's t over 3 seeds), and the seeds
             themselves for those of figure 3
    """
    methods: dict[str, dict[str, Any]] = {}
    for grid in (FIGURE_3, TABLE_1):
        for setting in find_grid(grid).settings:
            if setting.name in methods:
                methods[setting.name]["grids"].append(grid)  # PPO, whose runs both have
                continue
            config = config_of(grid, setting.name)
            methods[setting.name] = {
                "label": setting.label,
                "grids": [grid],
                "gradient_steps": round(config.steps * gradient_steps(config)),
                "tasks": [_curves(grid, setting.name, env) for env in environments(grid)],
            }
    return {
        "tasks": [env.removesuffix("-v5") for env in environments(FIGURE_3)],
        "steps": config_of(FIGURE_3, PPO).steps,
        "points": POINTS,
        "methods": methods,
    }


def _curves(grid: str, setting: str, env: str) -> dict[str, Any]:
    seeds = curves(grid, setting, env)
    middle, _, high = statistics.band(seeds)
    found = {"mean": _short(middle), "half": _short(high - middle, 2)}
    return found | ({"seeds": [_short(seed) for seed in seeds]} if grid == FIGURE_3 else {})


def _short(values: np.ndarray, digits: int = DIGITS) -> list[float | None]:
    return [round_significant(float(x), digits) if np.isfinite(x) else None for x in values]
