"""How fast policies with an LSTM train next to those of sb3-contrib's RecurrentPPO.

    python -m benchmarks.memory        (`make bench-memory` also installs the peer)

Both have 8 environments, 128 steps, minibatches of 128 samples, 10 epochs and an LSTM of 64 units.
RecurrentPPO gives actor and critic an LSTM each, Proximo one to both unless asked: the two are measured
apart. How the libraries take turns, and what counts, is said in `interleaved`.
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
from benchmarks.memory_task import ENVS, HORIZON, LSTM, NUM_ENVS, OPTIONS
from benchmarks.peers import PEERS

OURS = Path(sys.executable)
WORKERS: dict[str, tuple[Path, list[str]]] = {  # name -> (python, words around the environment)
    "contrib": (PEERS, ["contrib", "1"]),  # thread of torch's: for work as small as this, two are slower
    "proximo": (OURS, ["proximo"]),
    "separate": (OURS, ["separate"]),
    "no-memory": (OURS, ["no-memory"]),
}
LABELS = {
    "contrib": "sb3-contrib, an LSTM each",
    "proximo": "Proximo, one LSTM",
    "separate": "Proximo, an LSTM each",
    "no-memory": "Proximo without memory",
}
TARGET = 8.0  # Proximo's rate over sb3-contrib's


@dataclass(frozen=True)
class Options:
    """Measure Proximo and sb3-contrib with an LSTM, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations of 1,024 steps in each measurement; as many as take about 3 seconds unless said."""
    envs: tuple[str, ...] = ENVS
    """Where."""
    out: Path = Path("results/speed/memory.json")
    """Where the raw numbers go."""


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Median rates, and Proximo's ratio to sb3-contrib."""
    theirs, plain = rates(rounds, "contrib"), rates(rounds, "no-memory")
    ours = {name: rates(rounds, name) for name in ("proximo", "separate")}
    return {
        "steps_per_second": medians(rounds),
        "ratios": {
            "one LSTM/sb3-contrib": ratio(ours["proximo"], theirs, TARGET),
            "an LSTM each/sb3-contrib": ratio(ours["separate"], theirs, TARGET),
            "one LSTM/without memory": ratio(ours["proximo"], plain, None),
        },
    }


def table(env: str, result: dict[str, Any], rounds: int) -> str:
    """What was found, for a person."""
    lines = [f"{env}, {NUM_ENVS} x {HORIZON}, {rounds} rounds", "  median environment steps per second, here"]
    lines += rate_lines(result["steps_per_second"], LABELS) + ratio_lines(result["ratios"])
    return "\n".join(lines)


def run(options: Options) -> None:
    """Measure in every environment, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "options": {**OPTIONS, "num_envs": NUM_ENVS, "horizon": HORIZON, "lstm": LSTM},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "environments": [],
    }
    for env in options.envs:
        commands: dict[str, Command] = {
            name: (python, "worker_memory", (library, env, *more))
            for name, (python, (library, *more)) in WORKERS.items()
        }
        measured = measure(env, commands, options.rounds, options.iterations)
        result = summary(measured["rounds"])
        report["environments"].append({"environment": env, **result, **measured})
        print(table(env, result, options.rounds), flush=True)
    write(report, options.out)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.memory", description=__doc__)
    return status_of("memory", PEERS, (options.rounds, options.iterations), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
