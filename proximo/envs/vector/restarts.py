"""How often an environment that fails is restarted before the run ends with its fault."""

import time
from collections.abc import Iterable

import numpy as np

from proximo.errors import Misfit


class Restarts:
    """What has been restarted, and whether it may be restarted again.

    num_envs  N
    most      restarts in all
    interval  seconds between two restarts of the same share of the environments

    Accidents lead to a restart, mistakes do not. If an environment contradicts its own declaration, or fails
    before its first good step, it would fail again.
    """

    def __init__(self, num_envs: int, most: int, interval: float) -> None:
        self.most, self.interval = most, interval
        self.count = 0
        self.rows = 0  # that all environments have made
        self._made = np.full(num_envs, -1)  # the row in which each was made
        self._last: dict[int, float] = {}  # a share's first environment -> when

    def unproven(self, index: int) -> bool:
        """Whether an environment has yet to make its first good step; the row after `made` is a seam."""
        return bool(self.rows - self._made[index] <= 2)

    def refusal(self, share: int, index: int, error: Exception) -> str | None:
        """Why it is not restarted; None if it is, "" if the error says it all.

        share  the first environment of the share that failed, index is the guilty one
        """
        if isinstance(error, Misfit):
            return ""
        if self.unproven(index):
            return "it had just been restarted" if self._made[index] >= 0 else ""
        if self.count >= self.most:
            return f"max_restarts is {self.most}" if self.most else ""
        ago = time.monotonic() - self._last.get(share, -np.inf)
        if ago < self.interval:
            return f"the last restart was {ago:.0f} s ago, and restart_interval is {self.interval:g} s"
        return None

    def note(self, share: int, lost: Iterable[int]) -> None:
        """The environments `lost` are restarted."""
        self.count += 1
        self._last[share] = time.monotonic()
        self._made[list(lost)] = self.rows
