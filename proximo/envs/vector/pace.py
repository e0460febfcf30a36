"""Which of two ways to step is the faster one, on a machine whose load changes."""

from math import inf, sqrt
from statistics import fmean, variance

PAUSE = 0.05  # seconds between two steps that were spent on something else, such as an update
ROUND = (True, False, False, True, True, False, False, True)  # whether each of its blocks goes the other way
ROUNDS = 4  # of a trial at most
BLOCK, LOOK = 0.08, 1.0  # seconds of stepping in such a block, and of a rate that is watched between trials
FIRST, LATER, LATEST = 0.5, 15.0, 60.0  # seconds of stepping until the next trial
SOON = 1 / 3  # of that, where the rate has changed
CHANGE = 1.2  # a rate that differs by such a factor has changed
MARGIN = 1.03  # by which the other way must be faster


class Pace:
    """Tries the other way now and then, and says when to change over.

    In a trial the two ways take turns, so that a load that changes meanwhile hits both alike; it ends once
    they can be told apart. The first trial comes early. After it another follows soon where the rate has
    changed, and later where it has not: the later, the more often the same way was the better one. What
    passes between two steps counts too if it is short.
    """

    def __init__(self) -> None:
        self._began = self._ended = -inf  # the latest step
        self._block = BLOCK
        self._count, self._elapsed = 0, 0.0  # steps and seconds of the block
        self._way = self._kept = False  # the one at the beginning; True is the other one
        self._tried: dict[bool, list[float]] | None = None  # in a trial: rates of its blocks by the way
        self._rate: float | None = None  # in the first block after the trial
        self._since, self._wait, self._longer = 0.0, FIRST, LATER

    def due(self, now: float) -> bool:
        """Whether to change over to the other way before the step that begins now."""
        if self._ended > self._began:
            pause = now - self._ended
            self._count += 1
            self._elapsed += self._ended - self._began + (pause if pause < PAUSE else 0.0)
        self._began = now
        if self._elapsed < self._block:
            return False
        rate, seconds, self._count, self._elapsed = self._count / self._elapsed, self._elapsed, 0, 0.0
        before = self._way
        if self._tried is None:
            self._watch(rate, seconds)
        else:
            self._try(self._tried, rate)
        return self._way != before

    def changed(self, now: float) -> None:
        """It was changed over; what that took is no part of any rate."""
        self._began = now

    def done(self, now: float) -> None:
        """The step has ended."""
        self._ended = now

    def _watch(self, rate: float, seconds: float) -> None:
        self._since += seconds
        if self._rate is None:
            self._rate = rate
        differs = not 1 / CHANGE < rate / self._rate < CHANGE
        if self._since >= self._wait * (SOON if differs else 1):
            self._tried, self._block, self._way = {True: [], False: []}, BLOCK, self._kept ^ ROUND[0]

    def _try(self, tried: dict[bool, list[float]], rate: float) -> None:
        tried[self._way].append(rate)
        done, rest = divmod(len(tried[True]) + len(tried[False]), len(ROUND))
        if rest or (done < ROUNDS and not _differ(tried[True], tried[False])):
            self._way = self._kept ^ ROUND[rest]
            return
        self._tried, self._block, self._rate, self._since = None, LOOK, None, 0.0
        better = fmean(tried[not self._kept]) > MARGIN * fmean(tried[self._kept])
        self._wait = LATER if better else self._longer
        self._longer = LATER if better else min(2 * self._longer, LATEST)
        self._way = self._kept = self._kept ^ better


def _differ(some: list[float], others: list[float]) -> bool:
    """Whether the means of two samples lie more than two standard errors apart."""
    error = sqrt(variance(some) / len(some) + variance(others) / len(others))
    return abs(fmean(some) - fmean(others)) > 2 * error
