"""Flags of XLA with which a program is compiled in half the time, and runs slower."""

from importlib.metadata import version

# XLA ends a process at a flag that it does not know: from JAX 0.11 on it no longer has the first one.
KNOWN = tuple(map(int, version("jax").split(".")[:2])) < (0, 11)
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" if KNOWN else ""
