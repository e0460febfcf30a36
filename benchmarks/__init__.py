"""Proximo next to Stable-Baselines3 and SBX: the task all are given, and how a worker process answers.

    peers.py           starts the workers, asks them in turn, writes the table     python -m benchmarks.peers
    worker_sb3.py      Stable-Baselines3   } in .venv-peers
    worker_sbx.py      SBX                 }
    worker_proximo.py  Proximo, and the floor: the environments alone              in .venv

    grid.py            how well a grid uses the machine; TRPO next to PPO       python -m benchmarks.grid
    worker_grid.py     an ensemble on one core                                     in .venv

This file needs only the standard library, because workers of both virtual environments import it.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

ENV = "HalfCheetah-v5"
OPTIONS: dict[str, Any] = dict(  # Schulman 2017, table 3
    learning_rate=3e-4,
    batch_size=64,
    n_epochs=10,
    gamma=0.99,
    gae_lambda=0.95,
    clip_range=0.2,
    max_grad_norm=0.5,
)
HIDDEN = (64, 64)
WARM_UP = 2  # iterations: everything is compiled in the first, and some of it anew for the second


def shape() -> tuple[int, int]:
    """(num_envs, horizon), the first two words of a worker's command line."""
    return int(sys.argv[1]), int(sys.argv[2])


def serve(train: Callable[[int], int], packages: Iterable[str], **about: Any) -> None:
    """A worker's life: warm up, say so, then train when asked; ends with its standard input.

    train     trains so many whole iterations; returns the environment steps they took
    packages  whose versions are reported
    about     whatever else should stand in the result

    The first answer is {"iteration_seconds", "versions", ...about}. Every line "go K" is answered with
    {"steps", "seconds"} of K iterations. Whatever a library prints goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    train(WARM_UP)
    started = time.perf_counter()
    train(1)
    took = time.perf_counter() - started
    answer(iteration_seconds=took, versions={name: version(name) for name in packages}, **about)
    for line in sys.stdin:
        iterations = int(line.split()[1])
        started = time.perf_counter()
        steps = train(iterations)
        answer(steps=steps, seconds=time.perf_counter() - started)
