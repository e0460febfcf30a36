"""Only one process at a time writes to a run folder, or to the results of a grid."""

import contextlib
import os
import time
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
            if not _take(descriptor) and not _take(descriptor, after=0.1):  # `is_held` looks for a moment
                self.release()
                raise UserError(
                    f"{path} is in use by {whose} that is still running: wait until it ends, or stop it"
                )


def _take(descriptor: int, after: float = 0.0) -> bool:
    time.sleep(after)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds a folder; False where the system knows no locks."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
