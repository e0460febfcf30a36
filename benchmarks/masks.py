"""How fast Proximo trains with masks of legal actions, next to sb3-contrib's MaskablePPO.

    python -m benchmarks.masks        (`make bench-masks` also installs the peers)

How the libraries take turns, and what counts, is said in `interleaved`; the tasks are in `masks_task`.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from benchmarks import HIDDEN, OPTIONS
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
from benchmarks.masks_task import TASKS
from benchmarks.peers import PEERS, SHAPES, words

OURS = Path(sys.executable)
# name -> (python, further words). sb3-contrib runs twice: which number of threads suits it best depends on
# the machine.
WORKERS: dict[str, tuple[Path, list[str]]] = {
    "sb3-contrib": (PEERS, ["sb3-contrib"]),
    "sb3-contrib-1-thread": (PEERS, ["sb3-contrib", "1"]),
    "proximo": (OURS, ["proximo"]),
    "floor": (OURS, ["floor"]),
}
LABELS = {
    "sb3-contrib": "sb3-contrib, torch's threads",
    "sb3-contrib-1-thread": "sb3-contrib, one thread",
    "proximo": "Proximo",
    "floor": "environments alone",
}
TARGET = 4.0  # Proximo's rate over sb3-contrib's


@dataclass(frozen=True)
class Options:
    """Measure Proximo, sb3-contrib's MaskablePPO and the environments alone, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations of 2,048 steps in each measurement; as many as take about 3 seconds unless said."""
    only: str | None = None
    """One task alone: discrete, multi-discrete or multi-binary."""
    out: Path = Path("results/speed/masks.json")
    """Where the raw numbers go."""


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Median rates, and Proximo's ratio to sb3-contrib at its better setting and to the environments."""
    middle = medians(rounds)
    better = max(("sb3-contrib", "sb3-contrib-1-thread"), key=middle.__getitem__)
    ours = rates(rounds, "proximo")
    return {
        "steps_per_second": middle,
        "sb3_contrib_setting": better,
        "ratios": {
            "proximo/sb3-contrib": ratio(ours, rates(rounds, better), TARGET),
            "proximo/floor": ratio(ours, rates(rounds, "floor"), None),
        },
    }


def table(task: str, shape: tuple[int, int], result: dict[str, Any], rounds: int) -> str:
    """What was found, for a person."""
    lines = [f"{task}, {words(shape)}, {rounds} rounds", "  median environment steps per second, here"]
    lines += rate_lines(result["steps_per_second"], LABELS) + ratio_lines(result["ratios"])
    lines.append(f"  sb3-contrib counts at its faster setting: {LABELS[result['sb3_contrib_setting']]}")
    return "\n".join(lines)


def run(options: Options) -> None:
    """Measure every task and shape, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "options": {**OPTIONS, "hidden": HIDDEN, "activation": "tanh"},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "tasks": [],
    }
    for task in [task for task in TASKS if options.only in (None, task)]:
        for shape in SHAPES:
            commands: dict[str, Command] = {
                name: (python, "worker_masks", (*shape, task, *more))
                for name, (python, more) in WORKERS.items()
            }
            title = f"{task}, {words(shape)}"
            measured = measure(title, commands, options.rounds, options.iterations)
            result = summary(measured["rounds"])
            told = {"task": task, "num_envs": shape[0], "horizon": shape[1]}
            report["tasks"].append({**told, **result, **measured})
            print(table(task, shape, result, options.rounds), flush=True)
    write(report, options.out)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.masks", description=__doc__)
    return status_of("masks", PEERS, (options.rounds, options.iterations), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
