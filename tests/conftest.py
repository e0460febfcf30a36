"""Before any test: JAX on the CPU, shapes and types checked, and the same examples in every run."""

import ctypes
import gc
import hashlib
import os
import platform
import signal
import time
from pathlib import Path

from tests.quick import quickly

ROOT = Path(__file__).parent.parent


def compiled_programs() -> Path:
    """Where compiled programs are kept: outside the clone, for the next one and for the next run.

    What a program was compiled from names it there, so that a hit hides nothing. They are made for one kind
    of processor by one compiler, and each of these has a folder of its own.
    """
    info = Path("/proc/cpuinfo")
    processor = [line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))][:1]
    made_by = [platform.machine(), *processor, (ROOT / "constraints.txt").read_text()]
    key = hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "proximo" / "tests" / key


# Most of the suite's time is compilation. Processes that the tests start inherit the cache.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled_programs()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# A third of the time to compile, for programs that run too briefly to earn it back; XLA reads its flags when
# it starts. Processes that the tests start inherit this too, but for a few that are as a user has them.
os.environ.update(quickly())

# A process that a script starts in its background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import jaxtyping  # noqa: E402

# Under pytest alone: every call in core is checked, shapes included. Core must not be imported before.
jaxtyping.install_import_hook("proximo.core", "beartype.beartype")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("proximo", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("proximo")

RESIDENT = Path("/proc/self/statm")  # Linux alone has it
LARGEST = 8 * 2**28  # bytes that a worker holds before it lets go of what is compiled
KEPT_DAYS = 14  # that a compiled program stays in the cache


@pytest.fixture(autouse=True, scope="module")
def room_for_compiled_programs():
    """What is compiled stays alive, in memory and in memory maps, of which Linux allows a process 65,530."""
    yield
    if RESIDENT.exists() and int(RESIDENT.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > LARGEST:
        jax.clear_caches()
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # glibc keeps what is freed, unless asked


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through it for garbage again and again took an eighth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that were measured to take long (`make slow`) are marked, for `make check` to leave out."""
    slow = set((ROOT / "tests" / "slow.txt").read_text().split())
    for item in items:
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker(pytest.mark.slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Programs that nothing has been compiled to for long are of code that is gone."""
    if hasattr(session.config, "workerinput"):
        return
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for program in compiled_programs().glob("*"):
        if program.stat().st_mtime < oldest:
            program.unlink(missing_ok=True)
