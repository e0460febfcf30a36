"""How a worker process begins, which signals it leaves to the process that learns, and when it ends."""

import os
import signal
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any

from proximo.envs.handlers import default_in_forks
from proximo.envs.vector.semaphore import LOOK_SECONDS

LAST_SECONDS = 5.0  # that a worker may go on once the process that learns is gone
ASKING = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # the learner for an end
LEARNERS = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]


@contextmanager
def without_main_module() -> Iterator[None]:
    """A new process would import the caller's script, and run what is not guarded in it; not so here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def ignore_signals() -> None:
    """Leave Ctrl-C, SIGTERM and their like to it: its last checkpoint needs this process.

    A process group of its own does so for what a terminal or `timeout` sends, and makes all that the
    environments start easy to end; systemd and SLURM send signals to every process.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    for number in (signal.SIGINT, *LEARNERS):
        # Not SIG_IGN: a program that an environment starts would inherit that, and could not be ended by it.
        signal.signal(number, lambda number, frame: None)
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)  # native code need not expect an interrupted call
    default_in_forks(lambda: (signal.SIGINT, *LEARNERS))  # what an environment forks is its own to end
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEARNERS)


def end_after(learner: Any) -> None:
    """End this process, whatever its environments are doing, and theirs, soon after the one that learns."""
    if learner is not None:
        # Its sentinel alone may be held by a process that it forked, and that lives on.
        while not wait([learner.sentinel], LOOK_SECONDS) and os.getppid() == learner.pid:
            pass
        time.sleep(LAST_SECONDS)
        end_group(os.getpid())
        os._exit(1)


def end_group(number: int) -> None:
    """End the process of a worker and what its environments started, which may outlive it otherwise."""
    with suppress(OSError, AttributeError):  # it has not come so far as to have a group; Windows has none
        os.killpg(number, signal.SIGKILL)
