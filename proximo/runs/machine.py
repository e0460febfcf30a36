"""What the exact bits of a run depend on: versions and hardware."""

import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from proximo.errors import MachineChanged

VERSIONS = ("proximo", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")


def machine() -> dict[str, Any]:
    """What `config.json` says of it."""
    return {"versions": versions(), "fingerprint": {**fingerprint(), **precision()}}


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONS}


def precision() -> dict[str, bool]:
    """Whether JAX computes in 64 bits."""
    return {"x64": bool(jax.config.read("jax_enable_x64"))}


def fingerprint() -> dict[str, Any]:
    """What else the exact bits depend on: bit-for-bit guarantees hold if this is equal."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def warn_of_another_machine(began_with: Mapping[str, Any]) -> None:
    """Warn, once, if a run started with other versions or on other hardware.

    began_with  the content of its `config.json`
    """
    here = {**versions(), **fingerprint(), **precision()}
    said = [began_with.get(name) for name in ("versions", "fingerprint")]  # from a file: it may be anything
    there = {name: value for part in said if isinstance(part, dict) for name, value in part.items()}
    names = [name for name in here if there.get(name, here[name]) != here[name]]
    if names:
        changed = ", ".join(f"{name} {there[name]} -> {here[name]}" for name in names)
        warnings.warn(
            f"the run started on another machine or with other versions ({changed}): it continues, but "
            "perhaps not bit for bit",
            MachineChanged,
            stacklevel=3,
        )


def _cpu() -> str:
    """The processor's name, where the system tells; its instructions decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
