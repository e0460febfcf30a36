"""A limit on the time that environments of this process may take, which no other process can watch."""

import signal
import threading
from types import FrameType

from proximo.errors import WorkerError

LONGEST = 1e9  # seconds that a timer takes; beyond, there is no limit
RINGS = 4  # a process that was stopped (Ctrl-Z) hears those it missed as one: it has not hung


class Timeout:
    """In a `with` statement: after so many seconds the code in it gets a WorkerError.

    seconds  None for no limit

    It takes a system with alarms (not Windows), the main thread, and SIGALRM must be nobody else's; without
    them there is no limit. Code outside of Python gets it once it returns there.
    """

    __slots__ = ("seconds", "set")
    latest = 0.0  # seconds of the limit that was set last
    rings = 0  # since then

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.set = seconds, False

    def __enter__(self) -> None:
        if self.seconds is not None and self.seconds < LONGEST and _usable():
            Timeout.latest, Timeout.rings, self.set = self.seconds, 0, True
            signal.setitimer(signal.ITIMER_REAL, self.seconds / RINGS, self.seconds / RINGS)

    def __exit__(self, *raised: object) -> None:
        if self.set:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def _usable() -> bool:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
        signal.signal(signal.SIGALRM, _ring)
    return signal.getsignal(signal.SIGALRM) is _ring


def _ring(number: int, frame: FrameType | None) -> None:
    Timeout.rings += 1
    if Timeout.rings < RINGS:
        return
    signal.setitimer(signal.ITIMER_REAL, 0.0)  # no further ring while the error is on its way out
    raise WorkerError(f"it hangs: no result within {Timeout.latest:g} s")
