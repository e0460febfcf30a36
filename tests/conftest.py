"""Before any test: JAX on the CPU, shapes and types checked, and the same examples in every run."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compilation, often of what another test, or the last run, compiled already.
# Processes that the tests start inherit it; `make clean` empties it.
COMPILED = Path(__file__).parent.parent / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import jaxtyping  # noqa: E402

# Half the time to compile, for programs that run too briefly to earn it back. In this process alone: the
# commands that the tests start are compiled as a user has them.
jax.config.update("jax_disable_most_optimizations", True)

# Under pytest alone: every call in core is checked, shapes included. Core must not be imported before.
jaxtyping.install_import_hook("proximo.core", "beartype.beartype")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("proximo", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("proximo")

MEMORY_MAPS = Path("/proc/self/maps")  # Linux alone has it, and the limit


@pytest.fixture(autouse=True, scope="module")
def room_for_compiled_programs():
    """Every compiled program holds some memory maps, and Linux allows a process 65,530: past that it dies."""
    yield
    if MEMORY_MAPS.exists() and MEMORY_MAPS.read_bytes().count(b"\n") > 45_000:
        jax.clear_caches()
