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
GROUPS = {
    FIGURE_3: ("PPO and other methods", ("clip-0.2", "trpo", "vanilla-policy-gradient", "a2c")),
    TABLE_1: ("objectives of PPO", ("clip-0.2", "kl-10", "unclipped")),
}
"""What each grid compares, and who races before anybody has chosen."""
COLOURS = (0, 3, 5, 6, 1, 2, 4)
"""Of the first settings of a grid, as `docs/live/live.css` numbers them; later ones are dashed."""


def race() -> dict[str, Any]:
    """The numbers of the figure.

    groups   what each grid compares, its settings, and those that race at first
    methods  by name: label, the look of its line, the actor's gradient steps of the whole training (0 for
             none); per task the mean curve, half of its 95% interval (Student's t over 3 seeds), and the
             seeds themselves for those of figure 3
    """
    groups: dict[str, dict[str, Any]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for grid, (label, first) in GROUPS.items():
        settings = find_grid(grid).settings
        # PPO's runs both have; it is one line.
        names = sorted((setting.name for setting in settings), key=lambda name: name != PPO)
        groups[grid] = {"label": label, "first": ",".join(first), "methods": names}
        by_name = {setting.name: setting for setting in settings}
        for place, name in enumerate(names):
            if name in methods:
                continue
            config = config_of(grid, name)
            methods[name] = {
                "label": by_name[name].label,
                "style": {"series": COLOURS[place % len(COLOURS)], "dashed": place >= len(COLOURS)},
                "gradient_steps": round(config.steps * gradient_steps(config)),
                "curves": [_curves(grid, name, env) for env in environments(grid)],
            }
    return {
        "tasks": [env.removesuffix("-v5") for env in environments(FIGURE_3)],
        "steps": config_of(FIGURE_3, PPO).steps,
        "points": POINTS,
        "groups": groups,
        "methods": methods,
    }


def _curves(grid: str, setting: str, env: str) -> dict[str, Any]:
    seeds = curves(grid, setting, env)
    middle, _, high = statistics.band(seeds)
    found = {"mean": _short(middle), "half": _short(high - middle, 2)}
    return found | ({"seeds": [_short(seed) for seed in seeds]} if grid == FIGURE_3 else {})


def _short(values: np.ndarray, digits: int = DIGITS) -> list[float | None]:
    return [round_significant(float(x), digits) if np.isfinite(x) else None for x in values]
