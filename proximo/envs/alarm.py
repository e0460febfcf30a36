"""A limit on the time that environments of this process may take, which no other process can watch."""

import signal
import threading
from types import FrameType

from proximo_worker import WorkerError


class Within:
    """In a `with` statement: after so many seconds the code in it gets a WorkerError.

    seconds  None for no limit

    It takes a system with alarms (not Windows), the main thread, and SIGALRM must be nobody else's; without
    them there is no limit. Code outside of Python gets it once it returns there.
    """

    __slots__ = ("seconds", "set")
    latest = 0.0  # seconds of the limit that was set last

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.set = seconds, False

    def __enter__(self) -> None:
        if self.seconds is not None and _usable():
            Within.latest, self.set = self.seconds, True
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

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
    raise WorkerError(f"it hangs: it was given {Within.latest:g} s")
