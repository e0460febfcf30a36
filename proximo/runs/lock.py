"""One process at a time writes a run folder, or the results of a grid."""

import contextlib
import os
import weakref
from pathlib import Path

from proximo.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing is held there
    fcntl = None  # type: ignore[assignment]


class Lock:
    """Holds a folder until it is released, forgotten, or its process ends, however that happens.

    whose  who else may hold it, for the message

    Raises UserError where another process, or another run of this one, holds it. Where the system knows no
    locks, nothing is held.
    """

    def __init__(self, path: Path, whose: str = "a run") -> None:
        self.release = lambda: None
        if fcntl is None:
            return
        with contextlib.suppress(OSError):  # no right to read it, or a system without locks
            descriptor = os.open(path, os.O_RDONLY)
            self.release = weakref.finalize(self, os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                raise UserError(
                    f"{path} is being written by {whose} that still goes on: wait for its end, or stop it"
                ) from None
