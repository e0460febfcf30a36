"""A run in Python or in a notebook: its logs as arrays, and a small picture."""

from pathlib import Path
from typing import Any

import numpy as np

from proximo.paths import short
from proximo.runs.report import page, read_run, study_of
from proximo.runs.report.curves import downsample
from proximo.runs.report.markup import Markup, tag
from proximo.runs.report.read import STEP, RunData
from proximo.runs.sealed import writing

WIDTH, HEIGHT = 320, 90  # of the picture, in pixels
MEAN_RETURN = "rollout/ep_rew_mean"


def metrics_of(folder: Path) -> dict[str, np.ndarray]:
    """`metrics.jsonl` as arrays of equal length: `steps`, and every metric by its name.

    NaN means that an iteration has no finite value, such as the mean return before the first episode ends.
    """
    found = read_run(folder).metrics
    steps = found[STEP].steps if STEP in found else np.zeros(0)
    columns = {"steps": steps.astype(np.int64)}
    for name, series in found.items():
        columns[name] = np.full(len(steps), np.nan)
        columns[name][np.searchsorted(steps, series.steps)] = series.values
    return columns


def episodes_of(folder: Path) -> dict[str, np.ndarray]:
    """The training episodes in the order in which they ended: `steps` at that time, `returns`, `lengths`."""
    episodes = read_run(folder).episodes
    return {
        "steps": episodes.steps.astype(np.int64),
        "returns": episodes.returns,
        "lengths": episodes.lengths.astype(np.int64),
    }


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, as `proximo report` does; returns its path.

    Raises UserError where it cannot be written.
    """
    out = folder / "report.html"
    with writing(out):
        out.write_text(page(study_of([read_run(folder)])), encoding="utf-8", errors="replace")
    return out


def summary(folder: Path) -> dict[str, str]:
    """A run at a glance, in words."""
    run = read_run(folder)
    seconds, score = run.last("time/time_elapsed"), run.score
    told = {
        "environment": run.env,
        "seed": None if run.seed is None else str(run.seed),
        "steps": f"{run.steps:,}",
        "mean return": None if score is None else f"{score:,.1f}",
        "seconds": None if seconds is None else f"{seconds:,.0f}",
        "folder": str(short(folder)),
    }
    return {name: text for name, text in told.items() if text is not None}


def as_html(folder: Path) -> str:
    """A small table with the learning curve, as a notebook shows it; everything in it is escaped."""
    rows = [
        tag("tr", tag("th", name, style="text-align:left"), tag("td", text, style="text-align:left"))
        for name, text in summary(folder).items()
    ]
    return tag("div", tag("table", *rows), learning_curve(read_run(folder)))


def learning_curve(run: RunData) -> Markup:
    """The mean return over the steps, as an SVG that needs no style sheet."""
    series = run.metrics.get(MEAN_RETURN)
    if series is None or not len(series.steps):
        return tag("p", "no episode has ended yet")
    curve = downsample(series)
    low, high = float(np.min(curve.values)), float(np.max(curve.values))
    x = curve.steps / max(float(curve.steps[-1]), 1.0) * WIDTH
    y = HEIGHT - (curve.values - low) / max(high - low, 1e-12) * HEIGHT
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    line: Any = tag("polyline", points=points, fill="none", stroke="currentColor", stroke_width="1.5")
    picture = tag(
        "svg", line, width=WIDTH, height=HEIGHT, viewBox=f"0 -2 {WIDTH} {HEIGHT + 4}", role="img",
        aria_label=f"mean return, {low:,.1f} to {high:,.1f}, over {run.steps:,} steps",
    )  # fmt: skip
    return tag("div", picture, tag("div", f"mean return, {low:,.1f} to {high:,.1f}"))
