"""What Proximo's defaults make of environments of one's own, next to those of Stable-Baselines3.

    python -m benchmarks.own_environments        (`make bench-own` also installs the peer)

Five environments of `examples/environments`, in watts, euros and pieces as their authors think of them.
Neither library is told anything but the class, the steps and the seed. The libraries take turns, each run in
a process and on a core of its own. A finished run is a file under `results/own-environments/` and is never
run again. Proximo keeps compiled programs between runs, here too: the first run of an environment is its
slowest, unless ~/.cache/proximo has them already.
"""

import importlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

from benchmarks.interleaved import ROOT, WorkerError, machine, say, status_of
from benchmarks.worker_own_environments import ENVIRONMENTS, Act, environment, evaluate

LIBRARIES = {"proximo": Path(sys.executable), "sb3": ROOT / ".venv-peers" / "bin" / "python"}
WORKER = "benchmarks.worker_own_environments"


@dataclass(frozen=True)
class Options:
    """Run what is missing, and print the table."""

    steps: int = 100_000
    """Environment steps of each run."""
    seeds: int = 5
    """Runs of each library on each environment."""
    processes: int = 2
    """Runs side by side, each on a core of its own."""
    only: str | None = None
    """One environment alone."""
    out: Path = Path("results/own-environments")
    """Where the runs are kept."""


def cell_path(options: Options, env: str, library: str, seed: int) -> Path:
    """Where a finished run is kept."""
    return options.out / f"{env}-{library}-{seed}.json"


def run_cell(options: Options, env: str, library: str, seed: int, cores: "queue.SimpleQueue[int]") -> None:
    """One run, in a process and on a core of its own, kept as one file. Raises WorkerError."""
    words = [library, env, str(options.steps), str(seed)]
    before, core = machine(), cores.get()
    pin = (lambda: os.sched_setaffinity(0, {core})) if hasattr(os, "sched_setaffinity") else None
    try:
        done = subprocess.run(
            [str(LIBRARIES[library]), "-m", WORKER, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=pin,
        )
    finally:
        cores.put(core)
    if done.returncode:
        raise WorkerError(f"{' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    told = {"env": env, "library": library, "seed": seed, "steps": options.steps}
    content = {**told, "date": datetime.now(UTC).date().isoformat(), "machine": before, **answer}
    path = cell_path(options, env, library, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".partial")
    partial_file.write_text(json.dumps(content) + "\n")
    partial_file.replace(path)
    say(f"{path.name}: {np.mean(answer['evaluation']):,.0f} in {answer['seconds']:.0f} s")


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds, and its 95% interval by Student's t; NaN with a single seed."""
    mean = float(np.mean(values))
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
    return mean, mean - half, mean + half


def references(env: str) -> dict[str, float | None]:
    """Mean returns on the same episodes: a random policy, a rule of thumb, the best where it is known."""
    module = importlib.import_module(f"examples.environments.{env}")
    made = environment(env)()
    made.action_space.seed(0)
    find_best: Callable[[], Act] | None = getattr(module, "optimal_policy", None)
    return {
        "random": float(np.mean(evaluate(made, lambda observation: made.action_space.sample()))),
        "rule of thumb": float(np.mean(evaluate(made, module.heuristic))),
        "optimal": None if find_best is None else float(np.mean(evaluate(made, find_best()))),
    }


def summary(options: Options, env: str) -> dict[str, Any]:
    """References, and of each library returns and seconds with their intervals over seeds."""
    result: dict[str, Any] = {"env": env, "steps": options.steps, **references(env)}
    for library in LIBRARIES:
        paths = [cell_path(options, env, library, seed) for seed in range(options.seeds)]
        runs = [json.loads(path.read_text()) for path in paths if path.exists()]
        if runs:
            result[library] = {
                "evaluation": interval([float(np.mean(run["evaluation"])) for run in runs]),
                "training": interval([float(np.mean(run["training"])) for run in runs]),
                "seconds": interval([run["seconds"] for run in runs]),
                "runs": len(runs),
            }
    return result


def table(results: Sequence[dict[str, Any]]) -> str:
    """For a page of the documentation: returns of the final policy, then those while it trained."""
    rows = []
    for result in results:
        cells = [result["env"]]
        for reference in ("random", "rule of thumb", "optimal"):
            cells.append("-" if result[reference] is None else f"{result[reference]:,.0f}")
        for measure, form in (("evaluation", "{:,.0f}"), ("training", "{:,.0f}"), ("seconds", "{:.1f}")):
            cells += [between(result.get(library, {}).get(measure), form) for library in LIBRARIES]
        rows.append(f"| {' | '.join(cells)} |")
    heads = "| environment | random | rule of thumb | optimal | Proximo | SB3 | Proximo, while training |"
    heads += " SB3, while training | Proximo, seconds | SB3, seconds |"
    return "\n".join([heads, "| --- |" + " ---: |" * 9, *rows])


def between(found: Sequence[float] | None, form: str) -> str:
    """A mean and its interval."""
    if found is None:
        return "-"
    mean, low, high = (form.format(number) for number in found)
    return mean if np.isnan(found[1]) else f"{mean} ({low} to {high})"


def run(options: Options) -> None:
    """Run what is missing, the libraries in turn; then the table."""
    names = [env for env in ENVIRONMENTS if options.only in (None, env)]
    cells = [(env, library, seed) for seed in range(options.seeds) for env in names for library in LIBRARIES]
    missing = [cell for cell in cells if not cell_path(options, *cell).exists()]
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in range(options.processes):
        cores.put(core)
    with ThreadPoolExecutor(options.processes) as pool:
        for future in [pool.submit(run_cell, options, *cell, cores) for cell in missing]:
            future.result()
    results = [summary(options, env) for env in names]
    if options.only is None:
        (options.out / "summary.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"Mean return and 95% interval over seeds, {options.steps:,} steps, options by default\n")
    print(table(results))


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.own_environments", description=__doc__)
    return status_of("peers", LIBRARIES["sb3"], (options.seeds, options.processes), partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
