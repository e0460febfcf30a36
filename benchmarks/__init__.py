"""Proximo next to other libraries: the task all are given, and how a worker process answers.

    interleaved.py     asks workers in turn; ratios inside a round

    peers.py           next to Stable-Baselines3 and SBX                        python -m benchmarks.peers
    worker_sb3.py      Stable-Baselines3   } in .venv-peers
    worker_sbx.py      SBX                 }
    worker_proximo.py  Proximo, and the floor: the environments alone              in .venv

    masks.py           masks of legal actions next to sb3-contrib               python -m benchmarks.masks
    masks_task.py      the tasks
    worker_masks.py    one library, or the environments alone                      in either

    memory.py          policies with an LSTM next to sb3-contrib's              python -m benchmarks.memory
    memory_task.py     the task
    worker_memory.py   one library                                                in either

    pixels.py          networks for images, and Pong, next to PyTorch and SB3  python -m benchmarks.pixels
    worker_pixels.py   one of them                                                in either

    language.py        PPO of language models next to TRL                       python -m benchmarks.language
    language_task.py   the task
    worker_trl.py      TRL's iterations, and decoding by transformers              in .venv-peers-language
    worker_language.py Proximo's                                                   in .venv

    own_environments.py  what the defaults learn where nobody tuned them, next to SB3's
                                                                    python -m benchmarks.own_environments
    worker_own_environments.py  one run                                            in either

    versions.py        this checkout next to an earlier commit                 python -m benchmarks.versions

    grid.py            how well a grid uses the machine; TRPO next to PPO       python -m benchmarks.grid
    worker_grid.py     an ensemble on one core                                     in .venv

    learning.py        what the presets learn, and the picture of it           python -m benchmarks.learning
    startup.py         import, first solution, memory                          python -m benchmarks.startup
    checkpoints.py     what a checkpoint costs                               python -m benchmarks.checkpoints

This file needs only the standard library, because workers of both virtual environments import it.
"""

import json
import os
import resource
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


def serve(
    train: Callable[[int], int],
    packages: Iterable[str],
    facts: Callable[[], dict[str, Any]] = dict,
    **about: Any,
) -> None:
    """A worker's life: warm up, say so, then train when asked; ends with its standard input.

    train     trains so many whole iterations; returns the environment steps, or tokens, they took
    packages  whose versions are reported
    facts     what else is to be said of the iterations since it was last called
    about     whatever else should stand in the result

    The first answer is {"iteration_seconds", "versions", ...about}. Every line "go K" is answered with
    {"steps", "seconds", "peak_megabytes", ...facts} of K iterations; the peak is that of the process so far.
    Whatever a library prints goes to standard error.
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
    facts()
    for line in sys.stdin:
        iterations = int(line.split()[1])
        started = time.perf_counter()
        steps = train(iterations)
        answer(steps=steps, seconds=time.perf_counter() - started, peak_megabytes=peak_megabytes(), **facts())


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    scale = 2**10 if sys.platform == "linux" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
