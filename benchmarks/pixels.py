"""How fast Proximo learns from images on a CPU, next to PyTorch and Stable-Baselines3.

    python -m benchmarks.pixels        (`make bench-pixels` also installs the peers)

First the network of Mnih 2015 alone, forward and backward, once and in a compiled loop; then whole training
of Pong with the options of baselines' ppo2, and with the paper's preset, whose network is a third as large.
With `--newer`, Proximo on the JAX of another Python instead of the peers. How all of these take turns, and
what counts, is said in `interleaved`.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from benchmarks.interleaved import (
    Command,
    Round,
    machine,
    measure,
    medians,
    rate_lines,
    rates,
    ratio,
    ratio_lines,
    status_of,
    write,
)
from benchmarks.peers import PEERS

OURS = Path(sys.executable)
Workers = dict[str, tuple[Path, tuple[object, ...]]]  # name -> (python, words)
# PyTorch runs twice: how many threads suit it depends on the machine.
TASKS: dict[str, Workers] = {
    "network": {
        "torch": (PEERS, ("torch",)),
        "torch-1-thread": (PEERS, ("torch", 1)),
        "torch-channels-last": (PEERS, ("torch-channels-last",)),
        "ours": (OURS, ("ours",)),
        "xla": (OURS, ("xla",)),
    },
    "loop": {"ours-in-a-loop": (OURS, ("ours-in-a-loop",)), "xla-in-a-loop": (OURS, ("xla-in-a-loop",))},
    "pong": {
        "sb3": (PEERS, ("sb3",)),
        "sb3-1-thread": (PEERS, ("sb3", 1)),
        "proximo": (OURS, ("proximo",)),
        "paper": (OURS, ("paper",)),
    },
}
SAME = ("ours", "ours-in-a-loop", "proximo")  # what is measured with two Pythons
NEWER = "-newer"
LABELS = {
    **{f"{name}{NEWER}": f"{name}, the other Python" for name in SAME},
    "torch": "PyTorch, eager, NCHW",
    "torch-1-thread": "PyTorch, one thread",
    "torch-channels-last": "PyTorch, channels last",
    "ours": "Proximo's network",
    "xla": "the same, XLA's gradients",
    "ours-in-a-loop": "Proximo's network, in a loop",
    "xla-in-a-loop": "the same, XLA's convolutions",
    "sb3": "Stable-Baselines3",
    "sb3-1-thread": "Stable-Baselines3, one thread",
    "proximo": "Proximo, ppo2",
    "paper": "Proximo, paper's preset",
}
# (ours, peers of which the fastest counts) -> target of the ratio of rates; without AMX, in float32
RATIOS: dict[str, list[tuple[str, tuple[str, ...], float | None]]] = {
    "network": [
        ("ours", ("torch", "torch-1-thread"), 1 / 0.95),
        ("ours", ("torch-channels-last",), None),
        ("ours", ("xla",), None),
    ],
    "loop": [("ours-in-a-loop", ("xla-in-a-loop",), None)],
    "pong": [("proximo", ("sb3", "sb3-1-thread"), 1.05), ("paper", ("sb3", "sb3-1-thread"), 3.0)],
}


@dataclass(frozen=True)
class Options:
    """Measure networks for images, and training of Pong, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations in each measurement; as many as take about 3 seconds unless said."""
    only: str | None = None
    """One task alone: network, loop or pong."""
    newer: Path | None = None
    """A Python with another JAX, next to this one and instead of the peers."""
    out: Path = Path("results/speed/pixels.json")
    """Where the raw numbers go."""


def of_two(tasks: dict[str, Workers], newer: Path) -> dict[str, Workers]:
    """Of each task what is ours, with this Python and with another one."""
    return {
        task: {
            name: (python, words)
            for ours, (_, words) in workers.items()
            if ours in SAME
            for name, python in ((ours, OURS), (f"{ours}{NEWER}", newer))
        }
        for task, workers in tasks.items()
    }


def summary(task: str, rounds: list[Round]) -> dict[str, Any]:
    """Median rates and ratios."""
    middle, found = medians(rounds), {}
    of_pythons = [(name, (name.removesuffix(NEWER),), None) for name in middle if name.endswith(NEWER)]
    for ours, peers, target in of_pythons or RATIOS[task]:
        best = max(peers, key=middle.__getitem__)
        found[f"{ours}/{best}"] = ratio(rates(rounds, ours), rates(rounds, best), target)
    return {"per_second": middle, "ratios": found}


def run(options: Options) -> None:
    """Measure every task, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "tasks": {},
    }
    tasks = TASKS if options.newer is None else of_two(TASKS, options.newer)
    for task in [task for task in tasks if options.only in (None, task)]:
        commands: dict[str, Command] = {
            name: (python, "worker_pixels", more) for name, (python, more) in tasks[task].items()
        }
        measured = measure(task, commands, options.rounds, options.iterations)
        result = summary(task, measured["rounds"])
        report["tasks"][task] = {**result, **measured}
        what = "environment steps" if task == "pong" else "frames, forward and backward"
        lines = [f"{task}, {options.rounds} rounds", f"  median {what} per second, here"]
        lines += rate_lines(result["per_second"], LABELS) + ratio_lines(result["ratios"])
        print("\n".join(lines), flush=True)
    write(report, options.out)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.pixels", description=__doc__)
    return status_of("pixels", PEERS, (options.rounds, options.iterations), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
