"""Waiting for another process."""

from typing import Any

TRIES = 5_000  # of a semaphore before sleeping on it: about 0.4 ms, several steps of most simulations
PATIENCE, SLEEPS = 4, 200  # waits in vain before sleeping, and for how many waits
LOOK_SECONDS = 1.0  # how often a sleeping process looks whether the other one still lives


class SpinSemaphore:
    """Waiting for another process: by trying for a moment, or asleep where trying does not pay.

    A try costs no switch of threads, so an answer that comes soon is had at once. But on a core that both
    processes share, whoever tries keeps the other from answering: after a few waits in vain it sleeps
    instead, and looks again later whether the core has become free.
    """

    def __init__(self, semaphore: Any) -> None:
        self.semaphore = semaphore
        self._in_vain = 0
        self._asleep = 0  # waits that are still to be slept through

    def passed(self, seconds: float = LOOK_SECONDS) -> bool:
        """Take the semaphore; False if it was not to be had within so many seconds."""
        acquire = self.semaphore.acquire
        if self._asleep:
            self._asleep -= 1
            return bool(acquire(True, seconds))
        for _ in range(TRIES):
            if acquire(False):
                self._in_vain = 0
                return True
        self._in_vain += 1
        if self._in_vain == PATIENCE:
            self._in_vain, self._asleep = 0, SLEEPS
        return bool(acquire(True, seconds))
