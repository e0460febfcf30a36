"""What a training process sets for itself; the library never touches these at import."""

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import platformdirs

from proximo.envs import handlers
from proximo.envs.vector.lifetime import LEARNERS
from proximo.errors import UserError
from proximo.runs.compiling import compile_seconds
from proximo.runs.forks import refuse_after_fork

OUT_OF_TIME = 3  # exit status of a run that its time limit ended
ALWAYS = (signal.SIGINT, signal.SIGTERM)  # the others stay ignored where they are, as under nohup


def prepare_process() -> None:
    """Settings for the whole process, before the first computation.

    Synchronous dispatch on the CPU: the host waits for every action, and handing it to another thread
    costs more than computing it (75 against 15-22 us a call). And a compilation cache in the user's
    cache folder, so that the second start is fast.

    Raises UserError where JAX cannot compute: after a fork, and on a platform that is not there.
    """
    refuse_after_fork()
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(platformdirs.user_cache_dir("proximo")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    _find_platform()


def _find_platform() -> None:
    """Raises UserError where JAX was told to compute on what it does not find."""
    try:
        jax.default_backend()
    except (AssertionError, RuntimeError) as error:  # the first for a GPU that is not there
        asked = jax.config.values["jax_platforms"]
        reason = " ".join(str(error).split(" (set JAX_PLATFORMS")[0].rstrip(".").split())
        why = f" ({reason})" if reason else ""
        raise UserError(
            f"JAX finds no platform {asked!r} here{why}: unset JAX_PLATFORMS, set it to cpu, or install JAX "
            'for it, such as pip install "jax[cuda13]"'
        ) from error


class StopRequest:
    """Whether a graceful stop was requested, and the signal's number."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def requested(self) -> bool:
        """Asked after each iteration, in which an environment may have taken the signals for itself."""
        handlers.restore_handlers()
        return self.number != 0

    @property
    def status(self) -> int:
        """The exit status that says so: 130 after Ctrl-C, 143 after SIGTERM, 0 after no signal."""
        return 128 + self.number if self.number else 0


class Deadline:
    """A limit on the time of a process, such as a scheduler's: the end must come before it, not after.

    seconds  from now; None for no limit
    saving   seconds that a checkpoint takes, as far as it is known
    """

    def __init__(self, seconds: float | None, saving: Callable[[], float] = lambda: 0.0) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self.saving = saving
        self._last, self._compiled, self._longest = time.monotonic(), compile_seconds(), 0.0

    def begin(self) -> None:
        """The iterations begin: what came before, such as reading a model, is no measure of them."""
        self._last, self._compiled = time.monotonic(), compile_seconds()

    def passed(self) -> bool:
        """Asked after each iteration: is another one, as long as the longest so far, too much?

        What was compiled in one does not count: the next one has it already.
        """
        now, compiled = time.monotonic(), compile_seconds()
        taken = now - self._last - (compiled - self._compiled)
        self._longest = max(self._longest, taken)
        self._last, self._compiled = now, compiled
        needed = MARGIN * self._longest + 2 * self.saving() + CLOSING_SECONDS  # a checkpoint, and the model
        return self._end is not None and now + needed > self._end


MARGIN = 1.2  # no two iterations take the same time
CLOSING_SECONDS = 1.0  # for the environments, and the end of the process


@contextmanager
def graceful_stop() -> Iterator[StopRequest]:
    """The first Ctrl-C or SIGTERM asks for an end after this iteration; the second one interrupts at once.

    So do the signals by which a scheduler announces the end of a job, or a terminal its own (`LEARNERS`).
    An environment's own handler of the signal, which ours replaced, is called in the end: what it tidies up
    is still tidied up.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.number:
            raise KeyboardInterrupt(request.number)
        request.number = number

    numbers = [signal.SIGINT, *LEARNERS]
    heard = [n for n in numbers if n in ALWAYS or signal.getsignal(n) is not signal.SIG_IGN]
    with handlers.preserve_handlers(dict.fromkeys(heard, ask)) as replaced:
        yield request
    theirs = replaced.get(request.number)
    if callable(theirs):
        with contextlib.suppress(BaseException):  # it may end the program, which is about to end
            theirs(request.number, None)


class Ending(NamedTuple):
    """How a run ended.

    last     its last turn; None without any
    status   why it was ended early: 128 and the number of a signal, 3 for the time limit; else 0
    seconds  that its turns took
    """

    last: Any
    status: int
    seconds: float


def take_turns(
    turns: Generator[Any, None, None],
    is_last: Callable[[Any], bool],
    deadline: Deadline,
    stop: StopRequest | None = None,
) -> Ending:
    """Take the turns of a run until there are no more, somebody asks for the end, or the time is over.

    is_last  whether there is none after a turn: then it is never too late
    stop     of `graceful_stop`, where signals are to be heard
    """
    stop, started, last, late = stop or StopRequest(), time.perf_counter(), None, False
    deadline.begin()
    with contextlib.closing(turns):
        for last in turns:
            late = deadline.passed() and not is_last(last)
            if stop.requested or late:
                break
    return Ending(last, stop.status or OUT_OF_TIME * late, time.perf_counter() - started)
