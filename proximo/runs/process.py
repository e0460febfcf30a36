"""What a training process sets for itself; the library never touches these at import."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import jax
import platformdirs


def prepare_process() -> None:
    """Settings for the whole process, before the first computation.

    Synchronous dispatch on the CPU: the host waits for every action, and handing it to another thread
    costs more than computing it (75 against 15-22 us a call). And a compilation cache in the user's
    cache folder, so that the second start is fast.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(platformdirs.user_cache_dir("proximo")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


class StopRequest:
    """Whether somebody asked for an orderly end."""

    requested: bool = False


@contextmanager
def orderly_stop() -> Iterator[StopRequest]:
    """The first Ctrl-C or SIGTERM asks for an end after this iteration; the second one interrupts at once."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
