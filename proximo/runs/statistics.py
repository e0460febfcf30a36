"""Scores of runs, and how sure they are: normalisation, stratified bootstrap, who beats whom.

Agarwal 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice) gives the intervals,
the interquartile mean and the probability of improvement; Schulman 2017 the normalisation of table 1. Every
interval that a command shows comes from here: of training seeds, of episodes, of a grid.
Everywhere `runs` is one array of scores per environment, in one order of environments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 4000
CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same runs give the same interval
FEWEST = 5  # runs for a bootstrap: drawn again from fewer, they hardly differ, and the interval is too narrow
STUDENT, BOOTSTRAP = "Student's t", "bootstrap"
MOST_DRAWS = 8_000_000  # numbers that are held at once

Runs = Sequence[np.ndarray]


class Estimate(NamedTuple):
    """A number with its 95% interval; the bounds are None where there are too few runs for one.

    method  how the bounds were computed: `STUDENT` or `BOOTSTRAP`
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str | None = None

    def interval(self, text: Callable[[float], str] = "{:,.1f}".format) -> str:
        """The interval in words: `95% interval 8.5 to 13.5, Student's t`; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"95% interval {text(self.low)} to {text(self.high)}, {self.method}"


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values of one kind, such as seeds or episodes, as `mean`."""
    return mean([np.asarray(values, float)])


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
    """The mean over all runs: the one place where the interval of a mean comes from.

    Below five runs in all the interval is Student's t, with the variance within environments; from five on it
    is the stratified bootstrap of `estimate`.
    """
    count = sum(map(len, runs))
    if count >= FEWEST or min(map(len, runs), default=0) < 2:
        return estimate(_mean, runs)
    from scipy.special import stdtrit

    value, freedom = float(_mean(*runs)), count - len(runs)
    variance = sum(float(np.sum((sample - sample.mean()) ** 2)) for sample in runs) / freedom
    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * (variance / count) ** 0.5
    return Estimate(value, value - half, value + half, STUDENT)


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
    is none, nor below five in all. Raises ValueError without any run.
    """
    if not runs or not all(len(sample) for sample in runs):
        raise ValueError("a statistic needs runs in each environment")
    value, count = float(statistic(*runs)), sum(map(len, runs))
    if min(len(sample) for sample in runs) < 2 or count < FEWEST:
        return Estimate(value)
    from scipy import stats  # it costs every command as much as all the rest of an import

    interval = stats.bootstrap(
        tuple(runs),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, min(RESAMPLES, MOST_DRAWS // count)),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), BOOTSTRAP)


def band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 95% interval over seeds of learning curves [seeds, points].

    A gap (NaN) in a curve is bridged between its neighbours, one at its end keeps the last value; points
    before some seed's first episode stay NaN. A curve that is all gap, of a run without any episode, is left
    out. The interval is that of `mean`: Student's t below five seeds, from five on the bootstrap.
    """
    whole = _whole_curves(curves)
    count = len(whole)
    middle = whole.mean(axis=0)
    if count == 1:
        return middle, middle, middle
    if count < FEWEST:
        from scipy.special import stdtrit

        half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * whole.std(axis=0, ddof=1) / count**0.5
        return middle, middle - half, middle + half
    draws = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    edge = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(whole[draws].mean(axis=1), [edge, 100.0 - edge], axis=0)
    return middle, low, high


def spread(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lowest and highest of learning curves [seeds, points]; gaps as in `band`."""
    whole = _whole_curves(curves)
    return whole.mean(axis=0), whole.min(axis=0), whole.max(axis=0)


def _whole_curves(curves: np.ndarray) -> np.ndarray:
    """Those that have a value, without gaps; one of NaN alone where none has."""
    known = [_interpolate_gaps(curve) for curve in curves if np.isfinite(curve).any()]
    return np.array(known or [np.full(curves.shape[1], np.nan)])


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
