"""What a process that steps environments loads."""

import json
import subprocess
import sys

CODE = """
import json, sys
import numpy, gymnasium
before = set(sys.modules)
import proximo.envs.vector.worker
print(json.dumps([sorted(sys.modules), sorted(set(sys.modules) - before)]))
"""


def test_a_worker_needs_nothing_beyond_gymnasium():
    """JAX alone would cost every worker process about a second and 200 MB."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded, ours = json.loads(done.stdout)
    heavy = {"jax", "jaxlib", "jaxtyping", "equinox", "optax", "scipy", "mujoco", "matplotlib"}
    assert not heavy & set(loaded)
    others = {name.split(".")[0] for name in ours} - set(sys.stdlib_module_names) - {"proximo"}
    assert not others
    own = {name.removeprefix("proximo.") for name in ours if name.startswith("proximo.")}
    assert own <= {"errors", "envs", "envs.handlers", "envs.vector"} | {
        f"envs.vector.{name}"
        for name in (
            "environment_slice",
            "semaphore",
            "info",
            "lifetime",
            "masks",
            "memory",
            "printed",
            "returned",
            "snapshot",
            "trees",
            "worker",
        )
    }
