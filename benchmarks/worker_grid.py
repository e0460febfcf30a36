"""An ensemble on one core, as the grid runs it: `python -m benchmarks.worker_grid MEMBERS [CORE]`.

One member and no core is plain `proximo train`: it may use all cores.
"""

import contextlib
import os
import sys

from benchmarks import ENV, serve


def main(members: int, core: int | None) -> None:
    """Train when asked; the steps are those of all members."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    from proximo.control.config import preset, with_options
    from proximo.control.ensemble import ensemble
    from proximo.runs.process import prepare_process

    prepare_process()
    config = with_options(preset("paper", ENV), steps=10**9)
    configs = [with_options(config, seed=seed) for seed in range(members)]
    steps = 0
    with contextlib.closing(ensemble(configs)) as turns:

        def train(count: int) -> int:
            nonlocal steps
            before = steps
            for _ in range(count):
                steps = sum(iteration.steps for iteration in next(turns) if iteration)
            return steps - before

        serve(train, ("proximo", "jax", "numpy", "gymnasium", "mujoco"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
