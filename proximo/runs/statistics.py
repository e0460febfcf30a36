"""Scores of runs, and how sure they are: normalisation, stratified bootstrap, who beats whom.

Agarwal 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice) gives the intervals,
the interquartile mean and the probability of improvement; Schulman 2017 the normalisation of table 1.
Everywhere `runs` is one array of scores per environment, in one order of environments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 4000
CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same runs give the same interval

Runs = Sequence[np.ndarray]


class Estimate(NamedTuple):
    """A number with its 95% interval; the bounds are None where there are too few runs for one."""

    value: float
    low: float | None
    high: float | None


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95% interval (Student's t) of independent values; one value has no interval but itself."""
    from scipy.special import stdtrit  # SciPy costs every command as much as all the rest of an import

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, mean, mean
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * float(np.std(values, ddof=1)) / count**0.5
    return mean, mean - half, mean + half


def normalised(score: float, zero: float, one: float) -> float:
    """A score on the scale where `zero` is 0 and `one` is 1."""
    return (score - zero) / (one - zero)


def scale_of(random: float, scores: Sequence[float]) -> tuple[float, float] | None:
    """What counts as 0 and as 1 on one environment, the paper's way (Schulman 2017, section 6.1).

        0 is the random policy, 1 the best result

    "Best result" is read as the best single run of the environment in the grid, whatever its setting.

    random  mean return of the random policy
    scores  of all runs on the environment

    Returns None while no run is better than the random policy: there is no such scale yet.
    """
    best = max(scores, default=random)
    return (random, best) if best > random else None


def mean(runs: Runs) -> Estimate:
    """The mean over all runs."""
    return estimate(_mean, runs)


def interquartile_mean(runs: Runs) -> Estimate:
    """The mean of the middle half of all runs (Agarwal 2021): one lucky or broken run does not move it."""
    return estimate(_interquartile_mean, runs)


def improvement(ours: Runs, theirs: Runs) -> Estimate:
    """How likely a run of ours beats one of theirs on the same environment (Agarwal 2021, section 4.3).

        mean over environments of  P(X > Y) + P(X = Y) / 2

    ours, theirs  one array of scores per environment, in the same order
    """
    count = len(ours)

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([_beats(samples[i], samples[count + i]) for i in range(count)], axis=0)

    return estimate(statistic, [*ours, *theirs])


def estimate(statistic: Callable[..., np.ndarray], runs: Runs) -> Estimate:
    """A statistic of all runs with a 95% interval by stratified bootstrap.

    The runs of each environment are drawn again from that environment's own, independently; percentiles
    of the statistic over the resamples bound the interval. Without two runs in each environment there
    is none. Raises ValueError without any run.
    """
    if not runs or not all(len(sample) for sample in runs):
        raise ValueError("a statistic needs runs in each environment")
    value = float(statistic(*runs))
    if min(len(sample) for sample in runs) < 2:
        return Estimate(value, None, None)
    from scipy import stats

    interval = stats.bootstrap(
        tuple(runs),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 95% interval over seeds of learning curves [seeds, points].

    A gap (NaN) in a curve is bridged between its neighbours, one at its end keeps the last value; points
    before some seed's first episode stay NaN. A curve that is all gap, of a run without any episode, is left
    out. The interval is a percentile bootstrap's over the seeds.
    """
    whole = np.array([_interpolate_gaps(curve) for curve in curves if np.isfinite(curve).any()])
    count = len(whole)
    if not count:
        nothing = np.full(curves.shape[1], np.nan)
        return nothing, nothing, nothing
    draws = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    means = whole[draws].mean(axis=1)
    edge = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(means, [edge, 100.0 - edge], axis=0)
    return whole.mean(axis=0), low, high


def _interpolate_gaps(curve: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(curve))
    points = np.arange(len(curve))
    return np.interp(points, known, curve[known], left=np.nan)


def _mean(*samples: np.ndarray, axis: int = -1) -> Any:
    return np.concatenate(samples, axis=-1).mean(axis=-1)


def _interquartile_mean(*samples: np.ndarray, axis: int = -1) -> Any:
    from scipy import stats

    return stats.trim_mean(np.concatenate(samples, axis=-1), 0.25, axis=-1)


def _beats(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[..., n], [..., m] -> [...]: the share of pairs in which ours is larger, ties counted half."""
    x, y = ours[..., :, None], theirs[..., None, :]
    return np.mean((x > y) + 0.5 * (x == y), axis=(-2, -1))
