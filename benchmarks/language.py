"""How fast Proximo trains and samples language models next to TRL and transformers, and in how much memory.

    python -m benchmarks.language        (`make bench-language` also installs the peers)

Two tasks for each size of model: whole PPO iterations (sample, score, four epochs), and sampling alone. How
the libraries take turns, and what counts, is said in `interleaved`. A step is a token of a response.
"""

import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import tyro

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
    verdict,
    write,
)
from benchmarks.language_task import BATCH, EPOCHS, PROMPT, RESPONSE, SHAPES

PEERS = ROOT / ".venv-peers-language" / "bin" / "python"
OURS = Path(sys.executable)

# task -> name -> (python, module, further words). Torch runs twice: which number of threads suits it best
# depends on the model and the machine.
WORKERS: dict[str, dict[str, tuple[Path, str, list[str]]]] = {
    "iteration": {
        "trl": (PEERS, "worker_trl", ["ppo"]),
        "trl-1-thread": (PEERS, "worker_trl", ["ppo", "1"]),
        "shared": (OURS, "worker_language", ["shared"]),
        "separate": (OURS, "worker_language", ["separate"]),
    },
    "decode": {
        "transformers": (PEERS, "worker_trl", ["decode"]),
        "transformers-1-thread": (PEERS, "worker_trl", ["decode", "1"]),
        "sample": (OURS, "worker_language", ["decode"]),
    },
}
PEER = {"iteration": ("trl", "trl-1-thread"), "decode": ("transformers", "transformers-1-thread")}
LABELS = {
    "trl": "TRL, torch's own threads",
    "trl-1-thread": "TRL, one thread",
    "shared": "Proximo, shared trunk",
    "separate": "Proximo, separate critic",
    "transformers": "generate, torch's threads",
    "transformers-1-thread": "generate, one thread",
    "sample": "Proximo, sample",
}
TARGETS: dict[tuple[str, str], dict[str, float]] = {  # our rate over the peer's
    ("tiny", "iteration"): {"shared": 2.0, "separate": 1.0},
    ("small", "iteration"): {"shared": 1.7, "separate": 1.0},
    ("tiny", "decode"): {"sample": 2.0},
    ("small", "decode"): {"sample": 1.2},
}
MEMORY_TARGET = 0.5  # our peak over TRL's, at most


@dataclass(frozen=True)
class Options:
    """Measure PPO and decoding of language models, next to TRL and transformers, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations in each measurement; as many as take about 3 seconds unless said."""
    shapes: tuple[str, ...] = tuple(SHAPES)
    """Sizes of models."""
    tasks: tuple[str, ...] = tuple(WORKERS)
    """What is measured."""
    out: Path = Path("results/speed/language.json")
    """Where the raw numbers go."""


def summary(shape: str, task: str, rounds: list[Round]) -> dict[str, Any]:
    """Median rates, our ratios to the peer at its better setting, memory, and an iteration's parts."""
    middle = medians(rounds)
    better = max(PEER[task], key=middle.__getitem__)
    peaks = {name: float(rounds[-1][name]["peak_megabytes"]) for name in WORKERS[task]}
    ours = TARGETS[shape, task]
    result: dict[str, Any] = {
        "tokens_per_second": middle,
        "peer_setting": better,
        "ratios": {
            f"{name}/{PEER[task][0]}": ratio(rates(rounds, name), rates(rounds, better), target)
            for name, target in ours.items()
        },
        "peak_megabytes": peaks,
    }
    if task == "iteration":
        result["memory"] = {name: peaks[name] / peaks[better] for name in ours}
        result["seconds_per_iteration"] = {name: parts(rounds, name) for name in ours}
    return result


def parts(rounds: list[Round], name: str) -> dict[str, float]:
    """Median seconds of one iteration of ours: each part, what is beside them, and the whole."""
    columns: dict[str, list[float]] = {}
    for answer in (answers[name] for answers in rounds):
        iterations = answer["steps"] / (BATCH * RESPONSE)
        known = answer["part_seconds"]
        row = {**known, "rest": answer["seconds"] - sum(known.values()), "whole": answer["seconds"]}
        for part, seconds in row.items():
            columns.setdefault(part, []).append(seconds / iterations)
    return {part: float(median(column)) for part, column in columns.items()}


def table(shape: str, task: str, result: dict[str, Any], rounds: int) -> str:
    """What was found, for a person."""
    lines = [f"{shape}, {task}, {rounds} rounds", "  median tokens of responses per second, here"]
    lines += rate_lines(result["tokens_per_second"], LABELS) + ratio_lines(result["ratios"])
    lines.append(f"  the peer counts at its faster setting: {LABELS[result['peer_setting']]}")
    for name, share in result.get("memory", {}).items():
        reached = verdict(share <= MEMORY_TARGET)
        lines.append(
            f"  peak memory, {LABELS[name]}: {result['peak_megabytes'][name]:,.0f} MiB, {share:.2f} of "
            f"{result['peak_megabytes'][result['peer_setting']]:,.0f}, target {MEMORY_TARGET:.2f}  {reached}"
        )
    for name, seconds in result.get("seconds_per_iteration", {}).items():
        columns = ", ".join(f"{part} {1e3 * value:,.0f}" for part, value in seconds.items())
        lines.append(f"  milliseconds, {LABELS[name]}: {columns}")
    return "\n".join(lines)


def run(options: Options) -> None:
    """Measure every shape and task, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "task": {"batch": BATCH, "prompt": PROMPT, "response": RESPONSE, "epochs": EPOCHS},
        "shapes": {name: asdict(SHAPES[name]) for name in options.shapes},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "measured": [],
    }
    for shape in options.shapes:
        for task in options.tasks:
            commands: dict[str, Command] = {
                name: (python, module, (shape, *more))
                for name, (python, module, more) in WORKERS[task].items()
            }
            measured = measure(f"{shape}, {task}", commands, options.rounds, options.iterations)
            result = summary(shape, task, measured["rounds"])
            report["measured"].append({"shape": shape, "task": task, **result, **measured})
            print(table(shape, task, result, options.rounds), flush=True)
    write(report, options.out)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.language", description=__doc__)
    return status_of("language", PEERS, (options.rounds, options.iterations), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
