"""How programs are compiled: an option of the compiler that may go away."""

import subprocess
import sys

import jax
import jax.numpy as jnp

from proximo.language.model import compiling
from proximo.language.model.compiling import OPTIONS, jit, known


def test_this_compiler_knows_the_option():
    # Where a later one has dropped it: is a GPT-2 still compiled in 80 MB without it?
    assert known(**OPTIONS) == OPTIONS


def test_an_option_that_the_compiler_has_dropped_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "OPTIONS", {"xla_dropped_long_ago": False})
    double = jit(lambda x, times: times * x, static_argnames="times")
    assert double(jnp.ones(()), times=2) == 2.0
    assert "multiply" in double.lower(jnp.ones(()), times=3).as_text()
    assert known(xla_dropped_long_ago=False) == {}


def test_writing_a_function_down_starts_no_device():
    # Processes of a cluster find each other before they may look at their devices.
    code = (
        "import proximo.language.train.sampling, proximo.language.model.sampler; "
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_function_keeps_its_name_and_words():
    @jit
    def squared(x: jax.Array) -> jax.Array:
        """Its square."""
        return x * x

    assert squared.__name__ == "squared" and squared.__doc__ == "Its square."
