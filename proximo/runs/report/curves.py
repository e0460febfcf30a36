"""Series thinned to what a page can show, and seeds brought together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from proximo.runs import statistics
from proximo.runs.report.read import Episodes, RunData, Series

POINTS = 200  # of a large curve: a point every few pixels
SMALL_POINTS = 90
BINS = 30
OUTLIERS = 0.5  # percent on either side that are counted in the outermost bars
THIRDS = ("first third", "middle third", "last third")


class Curve(NamedTuple):
    """A curve with what lies around it; the bounds are None where there is nothing around it."""

    steps: np.ndarray
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Histogram(NamedTuple):
    """How often values fall between the edges, in shares of 1."""

    label: str
    shares: np.ndarray
    mean: float
    episodes: int


def downsample(series: Series, points: int = POINTS) -> Curve:
    """At most so many points: means of neighbours, between the lowest and the highest of them."""
    count = len(series.steps)
    if count <= points:
        return Curve(series.steps, series.values, series.values, series.values)
    starts = np.linspace(0, count, points, endpoint=False).astype(int)
    sizes = np.diff([*starts, count])
    return Curve(
        np.add.reduceat(series.steps, starts) / sizes,
        np.add.reduceat(series.values, starts) / sizes,
        np.minimum.reduceat(series.values, starts),
        np.maximum.reduceat(series.values, starts),
    )


def series_of(runs: Sequence[RunData], metric: str) -> list[Series]:
    """A metric of every run that has it."""
    return [run.metrics[metric] for run in runs if metric in run.metrics]


def align(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values [curves, steps]): all curves at the same steps, as far as all of them reach.

    The mean would jump where a seed leaves it, so it ends with the shortest.
    """
    longest = max(curves, key=lambda curve: len(curve.steps))
    end = min(curve.steps[-1] for curve in curves)
    steps = np.append(longest.steps[longest.steps < end], end)
    rows = [np.interp(steps, curve.steps, curve.values, left=np.nan) for curve in curves]
    return steps, np.array(rows)


def with_interval(curves: Sequence[Curve]) -> Curve:
    """The mean of several seeds with the 95% interval of that mean; one seed has no interval."""
    if len(curves) == 1:
        return Curve(curves[0].steps, curves[0].values)
    steps, values = align(curves)
    return Curve(steps, *statistics.band(values))


def with_range(all_series: Sequence[Series]) -> Curve:
    """The mean of several seeds, between the lowest and the highest value of any."""
    curves = [downsample(series, SMALL_POINTS) for series in all_series]
    steps, values = align(curves)
    low = np.array([np.interp(steps, c.steps, c.values if c.low is None else c.low) for c in curves])
    high = np.array([np.interp(steps, c.steps, c.values if c.high is None else c.high) for c in curves])
    begun = ~np.isnan(values).any(axis=0)  # until the last seed has begun there is no mean
    return Curve(steps[begun], values.mean(axis=0)[begun], low.min(axis=0)[begun], high.max(axis=0)[begun])


def edges(episodes: Sequence[Episodes], field: str) -> np.ndarray | None:
    """The edges of the bars for all of these episodes; None without any."""
    values = np.concatenate([getattr(some, field) for some in episodes] or [np.array([])])
    if not len(values):
        return None
    low, high = np.percentile(values, [OUTLIERS, 100.0 - OUTLIERS])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def histograms_by_third(runs: Sequence[RunData], field: str, bars: np.ndarray) -> list[Histogram]:
    """Histograms of the first, middle and last third of each run's steps, all runs pooled."""
    pooled: list[list[np.ndarray]] = [[], [], []]
    for run in runs:
        values = getattr(run.episodes, field)
        when = np.clip(np.ceil(3 * run.episodes.steps / max(run.steps, 1)) - 1, 0, 2)
        for third in range(3):
            pooled[third].append(values[when == third])
    found = []
    for label, parts in zip(THIRDS, pooled, strict=True):
        values = np.concatenate(parts)
        counts = np.histogram(np.clip(values, bars[0], bars[-1]), bars)[0]
        mean = float(values.mean()) if len(values) else np.nan
        found.append(Histogram(label, counts / max(len(values), 1), mean, len(values)))
    return found
