"""Proximo, as `proximo train` runs it: `python -m benchmarks.worker_proximo NUM_ENVS HORIZON [floor]`.

With `floor`, the environments alone in Gymnasium's sync vector: what no library that steps them in its own
process can pass.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks import ENV, HIDDEN, OPTIONS, serve, shape


def proximo(num_envs: int, horizon: int) -> None:
    """The paper's preset with the options of the others."""
    from proximo.control.config import preset

    learn(with_peers_options(preset("paper", ENV), num_envs, horizon), "mujoco")


def with_peers_options(config: Any, num_envs: int, horizon: int) -> Any:
    """A configuration with the options that all libraries get."""
    from proximo.control.config import with_options

    return with_options(
        config,
        num_envs=num_envs,
        horizon=horizon,
        steps=10**9,
        learning_rate=OPTIONS["learning_rate"],
        minibatch_size=OPTIONS["batch_size"],
        epochs=OPTIONS["n_epochs"],
        gamma=OPTIONS["gamma"],
        gae_lambda=OPTIONS["gae_lambda"],
        clip=OPTIONS["clip_range"],
        max_grad_norm=OPTIONS["max_grad_norm"],
        hidden=HIDDEN,
        activation="tanh",
        normalise_observations=True,
        normalise_rewards=True,
    )


def learn(config: Any, *packages: str, **changes: Any) -> None:
    """Train as the command does, its run folder included: metrics and episodes are written to disk.

    packages  of the environment, whose versions are reported
    changes   of the configuration
    """
    from proximo.control.config import with_options
    from proximo.control.files import control_files
    from proximo.control.train import training
    from proximo.runs.folder import RunFolder
    from proximo.runs.process import prepare_process
    from proximo.runs.record import record

    prepare_process()
    config, steps = with_options(config, **changes), 0
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(control_files(config), Path(folder) / "run")
        with contextlib.closing(record(training(config), run)) as iterations:

            def train(count: int) -> int:
                nonlocal steps
                before = steps
                for _ in range(count):
                    steps = next(iterations).steps  # the rows in which an environment resets are no steps
                return steps - before

            ours = ("proximo", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")
            serve(train, (*ours, *packages))


def floor(num_envs: int, horizon: int) -> None:
    """Step Gymnasium's vector on actions drawn beforehand."""
    envs = gym.make_vec(ENV, num_envs, "sync", vector_kwargs={"copy": False})  # the caller copies
    envs.action_space.seed(0)
    envs.reset(seed=0)
    actions = [envs.action_space.sample() for _ in range(horizon)]

    def step(iterations: int) -> int:
        resets = 0
        for _ in range(iterations):
            for action in actions:
                _, _, terminated, truncated, _ = envs.step(action)
                resets += int(np.count_nonzero(terminated | truncated))  # the step after is no step
        return iterations * horizon * num_envs - resets

    serve(step, ("numpy", "gymnasium", "mujoco"))


if __name__ == "__main__":
    (floor if "floor" in sys.argv[3:] else proximo)(*shape())
