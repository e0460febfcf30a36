"""Figures of a grid: learning curves per environment, and its table beside the published numbers."""

import importlib.util
import io
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from proximo.errors import UserError
from proximo.experiments.cells import POINTS, write_atomically
from proximo.experiments.grid import Grid
from proximo.experiments.summary import load_finished
from proximo.runs.statistics import FEWEST, band, spread

# Okabe and Ito 2008: told apart by people with any kind of colour vision.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
LINES = ("solid", "dashed", "dotted", "dashdot")
COLUMNS = 4
CHARACTER = 0.058  # inches of a legend's line that one takes
MILLION = 1_000_000
STYLE: Any = {
    "svg.hashsalt": "proximo",  # the same results give the same bytes
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify_threshold": 1.0,
}


def require_matplotlib() -> None:
    """Raises UserError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError('the figures need matplotlib, which is not installed: pip install "proximo[plots]"')


def draw(grid: Grid, results: Path, summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a grid's figures as PNG and SVG; returns their paths.

    `GRID`         learning curves, and
    `GRID-scores`  scores beside the published ones, where there are any: of settings or of environments

    Raises UserError where matplotlib is missing or the files cannot be written.
    """
    require_matplotlib()
    import matplotlib

    matplotlib.use("agg")
    with matplotlib.rc_context(STYLE):
        paths = _save(_curves(grid, results), folder / grid.name)
        published = any(row["published"] is not None for row in summary["settings"])
        if published or (grid.references and len(grid.settings) > 1):
            paths += _save(_scores(summary), folder / f"{grid.name}-scores")
    return paths


def line_styles(names: list[str]) -> dict[str, tuple[str, Any]]:
    """A colour and a line for each setting; those that differ in a number alone share the colour.

    So do others where there are more than colours, each with another line.
    """
    families = {name: re.sub(r"-[\d.]+$", "", name) for name in names}
    colours = dict(zip(dict.fromkeys(families.values()), itertools.cycle(COLOURS), strict=False))
    lines = {colour: itertools.cycle(LINES) for colour in COLOURS}
    return {name: (colours[family], next(lines[colours[family]])) for name, family in families.items()}


def _curves(grid: Grid, results: Path) -> Any:
    """A panel per environment: the mean of each setting, and its lowest and highest seed.

    From five seeds on the 95% interval of the mean is shaded instead.
    """
    from matplotlib import pyplot

    columns = min(COLUMNS, len(grid.environments))
    rows = -(-len(grid.environments) // columns)
    longest = max(len(setting.label) for setting in grid.settings)
    across = max(1, min(columns, int(2.8 * columns / (CHARACTER * longest + 0.5))))
    below = -(-len(grid.settings) // across)  # rows of the legend, four of which always have room
    size = (2.8 * columns, 2.2 * rows + 0.8 + 0.15 * max(0, below - 4))
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    styles = line_styles([setting.name for setting in grid.settings])
    steps = np.arange(1, POINTS + 1) * grid.steps / POINTS / MILLION
    shade = 0.15 if len(grid.settings) <= len(COLOURS) else 0.07  # many bands hide each other
    found = load_finished(grid, results)
    for axis, env in itertools.zip_longest(axes.flat, grid.environments):
        if env is None:
            axis.set_axis_off()
            continue
        for setting in grid.settings:
            curves = [run["curve"] for run in found[setting.name][env]]
            colour, line = styles[setting.name]
            if curves:
                # With few seeds Student's t is wider than any of them: what is shaded are the seeds.
                shading = band if len(curves) >= FEWEST else spread
                middle, low, high = shading(np.array(curves, dtype=float))
                axis.plot(steps, middle, color=colour, linestyle=line, linewidth=1.0)
                axis.fill_between(steps, low, high, color=colour, alpha=shade, linewidth=0)
        axis.set_title(env)
        axis.set_xlim(0, grid.steps / MILLION)
    handles = [
        pyplot.Line2D([], [], color=styles[s.name][0], linestyle=styles[s.name][1], label=s.label)
        for s in grid.settings
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=across, frameon=False)
    figure.supxlabel("million environment steps", size="medium")
    figure.supylabel("mean return of training episodes", size="medium")
    return figure


def _scores(summary: dict[str, Any]) -> Any:
    """A dot and an interval per setting, and a ring where the published score lies."""
    from matplotlib import pyplot

    rows = summary["settings"][::-1]
    figure, axis = pyplot.subplots(figsize=(6.5, 0.3 * len(rows) + 1.2), layout="constrained")
    for height, row in enumerate(rows):
        if row["score"] is not None:
            value, low, high = row["score"]
            if low is not None:
                axis.plot([low, high], [height, height], color=COLOURS[1], linewidth=1.5)
            axis.plot(value, height, "o", color=COLOURS[1], label="here, with 95% interval")
        if row["published"] is not None:
            style: Any = dict(markerfacecolor="none", markeredgecolor=COLOURS[2], label="published")
            axis.plot(row["published"], height, "D", **style)
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_xlabel("mean normalised score")
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _save(figure: Any, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG, the same bytes for the same figure."""
    from matplotlib import pyplot

    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # A hundredth of a point is finer than any screen; more digits would triple the file.
    short = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg.getvalue())
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    for path, content in zip(paths, (png.getvalue(), short.encode()), strict=True):
        write_atomically(path, content)
    return paths
