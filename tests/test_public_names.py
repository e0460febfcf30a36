"""What `import proximo` gives, and what it leaves alone."""

import subprocess
import sys

import pytest

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


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_is_light():
    # Whoever only asks for help, or imports us beside other things, does not wait for JAX.
    run("""
import sys
import proximo, proximo.cli
assert "train" in dir(proximo)
heavy = {"jax", "numpy", "gymnasium", "equinox", "optax"} & set(sys.modules)
assert not heavy, heavy
""")


def test_using_it_touches_nothing():
    # A library that starts a backend, or turns JAX's settings, at import decides for every other one.
    run("""
import jax
before = dict(jax.config.values)
import proximo
from proximo import *
assert train is proximo.train
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a backend was started"
changed = {name for name, value in jax.config.values.items() if before.get(name) != value}
assert not changed, changed
""")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="'trian'"):
        proximo.trian  # noqa: B018
