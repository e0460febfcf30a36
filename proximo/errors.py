"""Errors, which the command line prints in one line with exit status 2, and warnings."""

import contextlib
import difflib
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Something the user can fix: the message says what is wrong and what to do, in one line."""


class EnvironmentFault(UserError):
    """An environment raised, or returned something unusable (NaN, a wrong shape).

    The message names the environment's index, the step and the last action; the environment's own
    exception, where there is one, is the `__cause__`.
    """


class EnvironmentNotNamed(UserError):
    """A run's environment needs the user's own code, which run files never import: it must be named again.

    problem  what is missing, in words
    source   its name, such as `shop.py:Shop`, for the line to type; None if it is unknown
    """

    def __init__(self, problem: str, source: str | None = None) -> None:
        self.problem, self.source = problem, source
        python = "env=, a class or a function" if source is None else f"env={source!r}, allow_import=True"
        named = "module:NAME or file.py:NAME" if source is None else source
        super().__init__(
            f"{problem}: pass the environment, in Python with {python}, on the command line with --env "
            f"{named}"
        )


class StateRefused(UserError):
    """An environment failed to restore its saved state."""


class OwnCodeMissing(UserError):
    """A file needs the user's own code, which must be passed again, and it was not, or was other code."""


class UpdateDiverged(UserError):
    """An update diverged: a number is NaN or infinite.

    iteration  the iteration, with its metrics and its learner after the update
    """

    def __init__(self, message: str, iteration: Any) -> None:
        super().__init__(message)
        self.iteration = iteration


class Told(RuntimeWarning):
    """A problem that a run survives and its user should know of. A command prints it in one line."""


class EpisodesRestarted(Told):
    """A resumed run could not continue the episodes that were under way, and started new ones."""


class CheckpointDamaged(Told):
    """A checkpoint is damaged, and an older one is used instead."""


class MachineChanged(Told):
    """A run is resumed on other hardware, or with other versions."""


class OwnCodeUnnamed(Told):
    """A run uses code of the user's own that no command can name, such as a lambda."""


class EnvironmentAdvice(Told, UserWarning):
    """Something is likely to keep a policy from learning in an environment; training continues."""


class EnvironmentDiffers(Told):
    """An agent plays in an environment that differs from the one that it was trained on."""


class EvaluationSkipped(Told):
    """An evaluation during training failed; the training continues without its scores."""


class EnvironmentNotClosed(Told):
    """An environment failed to close; the training was already finished."""


class StateNotSaved(Told):
    """An environment failed to save its state: a resumed run starts new episodes."""


class EnvironmentRestarted(Told):
    """An environment failed and was restarted; its episode counts as truncated, and the run continues.

    The message is that of an `EnvironmentFault`; the `__cause__` is the environment's own exception, with a
    worker's traceback in its notes.
    """


class WorkerError(Exception):
    """What an environment did wrong, in one line; a traceback from a worker is a note of this one."""


class Misfit(WorkerError):
    """What an environment returns does not fit what it declares: it would do so again."""


def as_error(raised: BaseException) -> Exception:
    """What an environment raised, as an error: also where it asks for the end of the program (`sys.exit()`).

    Raises it again if it may not come from the environment: a KeyboardInterrupt that may be Ctrl-C.
    """
    if isinstance(raised, Exception):
        return raised
    if isinstance(raised, GeneratorExit) or (isinstance(raised, KeyboardInterrupt) and of_a_signal(raised)):
        raise raised
    kind = f"{type(raised).__name__}: {raised}" if str(raised) else type(raised).__name__
    error = WorkerError(f"it asked the program to end ({kind})")
    error.__cause__ = raised
    if hasattr(raised, "environment_index"):
        error.environment_index = raised.environment_index  # type: ignore[attr-defined]
    return error.with_traceback(raised.__traceback__)


def reason(raised: BaseException) -> str:
    """What went wrong in code of the user's, in one line. Raises as `as_error`."""
    error = as_error(raised)
    kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def of_a_signal(interrupt: KeyboardInterrupt) -> bool:
    """Whether an interrupt can come from a signal: its handler, one in Python, stands in the traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        return False
    code = getattr(handler, "__code__", None)  # Python's own handler has none, and leaves no trace
    return code is None or any(
        frame.f_code is code for frame, _ in traceback.walk_tb(interrupt.__traceback__)
    )


def nearest(name: object, there: Iterable[object]) -> str:
    """Suggests the names that a mistyped one may have meant."""
    names = [str(one) for one in there]
    close = difflib.get_close_matches(str(name), names, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"take one of {', '.join(names)}"


def tell(warning: Warning) -> None:
    """Warn of what a run survives, also where all warnings are made errors: then in a line of its own."""
    try:
        warnings.warn(warning, stacklevel=3)
    except type(warning):
        say(str(warning))


def say(line: str) -> None:
    """A line on standard error, if there is somebody to read it: a run does not end for want of a reader."""
    with contextlib.suppress(OSError, ValueError):  # gone, or closed
        print(line, file=sys.stderr, flush=True)
