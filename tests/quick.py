"""What makes JAX compile a program in a third of the time. The program runs slower."""

import os
from importlib.metadata import version

# XLA ends a process at a flag that it does not know. JAX 0.10 has both flags; 0.12 lacks the first one.
KNOWN = tuple(map(int, version("jax").split(".")[:2])) < (0, 11)
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" if KNOWN else ""
OURS, XLA, USERS = "JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS", "USERS_XLA_FLAGS"
os.environ.setdefault(USERS, os.environ.get(XLA, ""))  # pytest's own processes inherit what the first one set
AS_A_USER_HAS_IT = {OURS: "0", XLA: os.environ[USERS]}
"""Variables for a process whose programs are compiled as they are outside the tests."""


def quickly(flags: str = "") -> dict[str, str]:
    """Variables for a process that compiles quickly.

    flags  others of XLA's
    """
    return {OURS: "1", XLA: f"{AS_A_USER_HAS_IT[XLA]} {FLAGS} {flags}".strip()}
