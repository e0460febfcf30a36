"""What `import proximo` gives, and what it leaves alone."""

import subprocess
import sys

import proximo


def test_the_public_names():
    # Frozen: a name that goes breaks someone's program. Ruff keeps the order.
    assert all(hasattr(proximo, name) for name in proximo.__all__)
    assert proximo.__all__ == [
        "PPO",
        "Agent",
        "Config",
        "EnvironmentFault",
        "Evaluation",
        "Iteration",
        "Run",
        "UserError",
        "ensemble",
        "evaluate",
        "load",
        "preset",
        "resume",
        "train",
        "train_ensemble",
        "training",
        "with_options",
    ]


def test_importing_touches_nothing():
    # A library that starts a backend, or turns JAX's settings, at import decides for every other one.
    code = """
import jax
before = dict(jax.config.values)
import proximo
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a backend was started"
changed = {name for name, value in jax.config.values.items() if before.get(name) != value}
assert not changed, changed
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
