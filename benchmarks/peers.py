"""How fast Proximo trains next to Stable-Baselines3 and SBX, and next to the environments alone.

    python -m benchmarks.peers        (`make bench-peers` also installs the peers)

How the libraries take turns, and what counts, is said in `interleaved`.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from benchmarks import ENV, HIDDEN, OPTIONS
from benchmarks.interleaved import (
    ROOT,
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

PEERS = ROOT / ".venv-peers" / "bin" / "python"
SHAPES = ((1, 2048), (8, 256))  # num_envs x horizon

# name -> (python, module, further words). SB3 runs twice: gradients of 64 samples are small work, and
# which number of threads suits it best depends on the machine.
WORKERS: dict[str, tuple[Path, str, list[str]]] = {
    "sb3": (PEERS, "worker_sb3", []),
    "sb3-1-thread": (PEERS, "worker_sb3", ["1"]),
    "sbx": (PEERS, "worker_sbx", []),
    "proximo": (Path(sys.executable), "worker_proximo", []),
    "floor": (Path(sys.executable), "worker_proximo", ["floor"]),
}
LABELS = {"sb3": "SB3, torch's own threads", "sb3-1-thread": "SB3, one thread", "sbx": "SBX"}
LABELS |= {"proximo": "Proximo", "floor": "environments alone"}
TARGETS: dict[tuple[int, int], dict[str, float]] = {  # Proximo's rate over another's
    (1, 2048): {"sb3": 7.0, "floor": 0.50},
    (8, 256): {"sb3": 5.5, "sbx": 4.0, "floor": 0.60},
}


@dataclass(frozen=True)
class Options:
    """Measure Proximo, Stable-Baselines3, SBX and the environments alone, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations of 2,048 steps in each measurement; as many as take about 3 seconds unless said."""
    out: Path = Path("results/speed/peers.json")
    """Where the raw numbers go."""


def summary(shape: tuple[int, int], rounds: list[Round]) -> dict[str, Any]:
    """Median rates, and Proximo's ratio to each other library at its better setting."""
    middle = medians(rounds)
    better = max(("sb3", "sb3-1-thread"), key=middle.__getitem__)
    ours, targets = rates(rounds, "proximo"), TARGETS[shape]
    peers = {"sb3": better, "sbx": "sbx", "floor": "floor"}
    return {
        "steps_per_second": middle,
        "sb3_setting": better,
        "ratios": {
            f"proximo/{peer}": ratio(ours, rates(rounds, name), targets.get(peer))
            for peer, name in peers.items()
        },
    }


def table(shape: tuple[int, int], result: dict[str, Any], rounds: int) -> str:
    """What was found, for a person."""
    lines = [f"{ENV}, {words(shape)}, {rounds} rounds", "  median environment steps per second, here"]
    lines += rate_lines(result["steps_per_second"], LABELS) + ratio_lines(result["ratios"])
    lines.append(f"  SB3 counts at its faster setting: {LABELS[result['sb3_setting']]}")
    return "\n".join(lines)


def words(shape: tuple[int, int]) -> str:
    """The shape as a person writes it."""
    return f"{shape[0]} x {shape[1]}"


def run(options: Options) -> None:
    """Measure every shape, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "environment": ENV,
        "options": {**OPTIONS, "hidden": HIDDEN, "activation": "tanh"},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "shapes": [],
    }
    for shape in SHAPES:
        commands: dict[str, Command] = {
            name: (python, module, (*shape, *more)) for name, (python, module, more) in WORKERS.items()
        }
        measured = measure(words(shape), commands, options.rounds, options.iterations)
        result = summary(shape, measured["rounds"])
        report["shapes"].append({"num_envs": shape[0], "horizon": shape[1], **result, **measured})
        print(table(shape, result, options.rounds), flush=True)
    write(report, options.out)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.peers", description=__doc__)
    return status_of("peers", PEERS, (options.rounds, options.iterations), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
