"""How fast this checkout is next to an earlier commit, and in how much memory.

    python -m benchmarks.versions --before COMMIT

Both train HalfCheetah-v5 as `proximo train` does, and do whole PPO iterations of language models, each by the
worker in its own checkout. How they take turns, and what counts, is said in `interleaved`.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

from benchmarks.interleaved import (
    ROOT,
    Command,
    WorkerError,
    machine,
    measure,
    medians,
    rate_lines,
    rates,
    ratio,
    ratio_lines,
    say,
    verdict,
    write,
)

# name -> (module, words, target of after / before)
TASKS: dict[str, tuple[str, tuple[object, ...], float]] = {
    "control 1 x 2048": ("worker_proximo", (1, 2048), 0.98),
    "control 8 x 256": ("worker_proximo", (8, 256), 0.98),
    "language tiny": ("worker_language", ("tiny", "shared"), 1.0),
    "language small": ("worker_language", ("small", "shared"), 1.0),
}
MEMORY_TARGET = 1.0  # the language models' peak after over before, at most


@dataclass(frozen=True)
class Options:
    """Measure this checkout next to an earlier commit, interleaved."""

    before: str
    """The earlier commit."""
    rounds: int = 12
    """How often each is measured."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """What is measured."""
    out: Path = Path("results/speed/versions.json")
    """Where the raw numbers go."""


def git(*words: object) -> str:
    """What git says. Raises WorkerError where it fails."""
    done = subprocess.run(["git", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise WorkerError(f"git {words[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def measured(task: str, rounds: int, earlier: Path) -> dict[str, Any]:
    """One task in both checkouts, its table printed."""
    module, words, target = TASKS[task]
    command: Command = (Path(sys.executable), module, words)
    found = measure(task, {"before": command, "after": command}, rounds, folders={"before": earlier})
    speed = ratio(rates(found["rounds"], "after"), rates(found["rounds"], "before"), target)
    peaks = {name: float(found["rounds"][-1][name]["peak_megabytes"]) for name in ("before", "after")}
    print(f"{task}, {rounds} rounds\n  median steps or tokens per second, here")
    labels = {"before": "the earlier commit", "after": "this checkout"}
    print("\n".join([*rate_lines(medians(found["rounds"]), labels), *ratio_lines({"after/before": speed})]))
    memory = peaks["after"] / peaks["before"]
    reached = verdict(memory <= MEMORY_TARGET) if task.startswith("language") else ""
    peak = f"{peaks['after']:,.0f} MiB over {peaks['before']:,.0f}"
    print(f"  peak memory of the process: {peak}, {memory:.2f}  {reached}".rstrip(), flush=True)
    return {"task": task, "speed": speed, "memory": memory, "peak_megabytes": peaks, **found}


def run(options: Options) -> None:
    """Measure every task, write everything to `options.out`."""
    report: dict[str, Any] = {
        "before": git("rev-parse", f"{options.before}^{{commit}}"),
        "after": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "measured": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "before"
        git("worktree", "add", "--detach", earlier, report["before"])
        try:
            for task in options.tasks:
                report["measured"].append(measured(task, options.rounds, earlier))
        finally:
            git("worktree", "remove", "--force", earlier)
    write(report, options.out)


def main() -> int:
    """Returns the exit status: 1 when a worker died, 2 for what cannot be begun."""
    options = tyro.cli(Options, prog="python -m benchmarks.versions", description=__doc__)
    unknown = [task for task in options.tasks if task not in TASKS]
    if options.rounds < 1 or unknown:
        say(f"versions: --rounds starts at 1; the tasks are {', '.join(TASKS)}")
        return 2
    try:
        run(options)
    except WorkerError as error:
        say(f"versions: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
