"""What a process that steps environments does.

It needs neither JAX nor the rest of the package: that would cost each worker a second and 200 MB.
"""

import faulthandler
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from gymnasium.vector.utils import CloudpickleWrapper

from proximo.envs.vector.environment_slice import EnvironmentSlice
from proximo.envs.vector.lifetime import end_after, ignore_signals
from proximo.envs.vector.memory import CLOSE, RESTORE, SAVE, Shared
from proximo.envs.vector.semaphore import SpinSemaphore
from proximo.errors import Misfit, WorkerError, as_error


def work(
    parcel: bytes,
    first: int,
    last: int,
    shared: Shared,
    go: Any,
    done: Any,
    pipe: Connection,
    traces: Connection,
) -> None:
    """The life of a worker process. `parcel` is what `packed` made of how to make its slice."""
    ignore_signals()
    if hasattr(faulthandler, "register"):
        faulthandler.enable(traces)  # tells where native code crashed
        faulthandler.register(signal.SIGUSR1, traces)  # and, when asked, where it hangs
    learner, gate, arrays = multiprocessing.parent_process(), SpinSemaphore(go), shared.arrays()
    threading.Thread(target=end_after, args=(learner,), daemon=True).start()

    def tell(raised: BaseException) -> None:
        """The process that learns, of an exception."""
        error = as_error(raised)
        index = getattr(error, "environment_index", first)
        kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
        arrays["failed"][first] = True
        pipe.send((index, f"{kind}{error}", traceback.format_exc(), isinstance(error, Misfit)))

    try:
        chunk = unpacked(parcel)(first, last, shared)
    except BaseException as error:
        tell(error)
        done.release()
        return
    done.release()
    while learner is None or learner.is_alive():
        if not gate.passed():
            continue
        command = int(arrays["command"][first])
        try:
            if command == SAVE:
                pipe.send(chunk.save())
            elif command == RESTORE:
                chunk.restore(pipe.recv())
            else:
                chunk.execute(command, int(arrays["at"][first]))
        except BaseException as error:
            tell(error)
        done.release()
        if command == CLOSE:
            return


def packed(chunk: Callable[..., EnvironmentSlice]) -> bytes:
    """How to make an `EnvironmentSlice` in another process; also where that is code of a script that was run.

    Raises WorkerError if it cannot be moved there.
    """
    try:
        return bytes(ForkingPickler.dumps(CloudpickleWrapper(chunk)))
    except Exception as error:
        raise _not_picklable(error) from error


def unpacked(parcel: bytes) -> Callable[..., EnvironmentSlice]:
    """What was given to `packed`. Raises WorkerError if this process lacks what it takes."""
    try:
        return ForkingPickler.loads(parcel).fn
    except Exception as error:
        raise _not_picklable(error) from error


def _not_picklable(error: Exception) -> WorkerError:
    return WorkerError(
        f"it cannot be sent to a worker process ({type(error).__name__}: {error}); "
        "--vectorization-mode sync steps it in the training process"
    )
