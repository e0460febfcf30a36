"""Signal handlers that stay in place even if an environment installs its own, as ROS does."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_kept: dict[int, Handler] = {}
_replaced: dict[int, Any] = {}  # what others had put in their place, by its number


@contextlib.contextmanager
def preserve_handlers(handlers: Mapping[int, Handler]) -> Iterator[dict[int, Any]]:
    """These handlers hold within the statement; `restore_handlers` puts them back.

    handlers  by the signal's number; outside the main thread, which alone may have any, nothing is done

    Yields what others had put in their place, by the number, as far as `restore_handlers` has met it.
    """
    _replaced.clear()
    if threading.current_thread() is not threading.main_thread():
        yield _replaced
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _kept.update(handlers)
    try:
        yield _replaced
    finally:
        restore_handlers()
        _kept.clear()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def restore_handlers() -> None:
    """Restore the preserved handlers wherever one was replaced."""
    for number, handler in _kept.items():
        found = signal.getsignal(number)
        if found is not handler and threading.current_thread() is threading.main_thread():
            _replaced[number] = found
            signal.signal(number, handler)


def default_in_forks(numbers: Callable[[], Collection[int]]) -> None:
    """In a process that this one forks, these signals do what they do by default, from its first moment on.

    A fork forgets signals that arrive before the new process has handlers of its own, so they have to wait.

    numbers  asked at each fork
    """
    before = threading.local()

    def hold() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers())

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def reset() -> None:
        pending = signal.sigpending()  # a KeyboardInterrupt would be lost here
        for number in numbers():
            python = number == signal.SIGINT and number not in pending
            signal.signal(number, signal.default_int_handler if python else signal.SIG_DFL)
        release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=hold, after_in_parent=release, after_in_child=reset)


default_in_forks(lambda: list(_kept))
