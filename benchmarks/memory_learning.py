"""What policies with memory learn that others cannot, and what is learned from images and texts.

    python -m benchmarks.memory_learning            (runs what is missing, then prints the table)
    python -m benchmarks.memory_learning --table    (prints the table of what there is)

Every network of a task has the same options, and only its memory differs. The seeds of a network train side
by side as one ensemble. A finished run is a file under `results/memory/` and is never run again. MiniGrid,
EnvPool and popgym are needed for their own tasks alone.
"""

import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

from benchmarks.memory_tasks import TASKS, Task
from proximo import Config, Iteration, ensemble, evaluate, preset, training, with_options
from proximo.control.config import as_json
from proximo.policies.attention import Transformer
from proximo.policies.memory import Gru, Lstm

NETWORKS: dict[str, Any] = {"lstm": Lstm(), "gru": Gru(), "transformer": Transformer(), "mlp": None}
EPISODES = 100  # of the evaluation
LAST = 100  # training episodes that are kept
PACKAGES = ("proximo", "jax", "numpy", "gymnasium", "minigrid", "envpool", "popgym")


@dataclass(frozen=True)
class Options:
    """Run what is missing, and print the table."""

    only: str | None = None
    """One task alone."""
    network: str | None = None
    """One network alone."""
    seeds: int = 5
    """Runs of each network on each task."""
    table: bool = False
    """Run nothing."""
    out: Path = Path("results/memory")
    """Where the runs are kept."""


def cell_path(out: Path, task: str, network: str, seed: int) -> Path:
    """Where a finished run is kept."""
    return out / f"{task}-{network}-{seed}.json"


def config_of(task: Task, network: str) -> Config:
    """What a network is trained with; `mlp` has no memory."""
    config = preset("default", task.env)
    return with_options(config, steps=task.steps, network=NETWORKS[network], **task.options)


def trained(configs: Sequence[Config], together: bool) -> Iterator[tuple[Config, list[float], Iteration]]:
    """Each configuration with its curve, the mean return of the last 100 episodes at every iteration, and its
    last iteration.

    together  whether they train as one ensemble
    """
    if not together:
        for config in configs:
            yield from trained([config], together=True)
        return
    curves: list[list[float]] = [[] for _ in configs]
    last: list[Iteration | None] = [None for _ in configs]
    turns = ensemble(configs) if len(configs) > 1 else ([one] for one in training(configs[0]))
    for turn in turns:
        for index, iteration in enumerate(turn):
            if iteration is not None:
                curves[index].append(round(float(iteration.mean_return), 3))
                last[index] = iteration
    for config, curve, iteration in zip(configs, curves, last, strict=True):
        assert iteration is not None
        yield config, curve, iteration


def run_cells(out: Path, name: str, network: str, seeds: Sequence[int]) -> None:
    """Train and evaluate these seeds of a network; each is kept as one file."""
    task = TASKS[name]
    config = config_of(task, network)
    start, spent = time.perf_counter(), time.process_time()
    for one, curve, iteration in trained([with_options(config, seed=seed) for seed in seeds], task.together):
        found = evaluate(iteration.agent, task.env, episodes=EPISODES, seed=one.seed)
        content = {
            "task": name,
            "network": network,
            "seed": one.seed,
            "steps": iteration.steps,
            "date": datetime.now(UTC).date().isoformat(),
            "versions": dict(versions()),
            "seconds": round(time.perf_counter() - start),
            "cpu_seconds": round(time.process_time() - spent),
            "seeds_together": len(seeds) if task.together else 1,
            "config": as_json(one),
            "curve": curve,
            "returns": [round(value, 4) for value in found.returns],
        }
        path = cell_path(out, name, network, one.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content) + "\n")
        partial.replace(path)
        print(f"{path.name}: {task.score(found.returns):.4g}", flush=True)
        if not task.together:
            start, spent = time.perf_counter(), time.process_time()


def versions() -> Iterator[tuple[str, str]]:
    """Of the packages that there are."""
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def interval(values: Sequence[float]) -> str:
    """Mean over seeds with its 95% interval by Student's t."""
    mean = float(np.mean(values))
    digits = 0 if abs(mean) >= 100 else 1 if abs(mean) >= 10 else 2
    if len(values) < 2:
        return f"{mean:.{digits}f} (one seed)"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    few = "" if len(values) == 5 else f", {len(values)} seeds"
    return f"{mean:.{digits}f} +- {half:.{digits}f}{few}"


def table(options: Options) -> str:
    """For a page of the documentation: a row for each task, a column for each network; `open` is not run."""
    networks = list(NETWORKS)
    rows = [f"| task | steps | {' | '.join(networks)} | others report |", "| --- |" + " ---: |" * 6]
    for name, task in TASKS.items():
        cells = [name + (", success" if task.above is not None else ""), f"{task.steps:,}"]
        for network in networks:
            paths = [cell_path(options.out, name, network, seed) for seed in range(options.seeds)]
            runs = [json.loads(path.read_text()) for path in paths if path.exists()]
            scores = [task.score(run["returns"]) for run in runs]
            cells.append(interval(scores) if scores else ("open" if network in task.networks else "-"))
        rows.append(f"| {' | '.join([*cells, task.published])} |")
    return "\n".join(rows)


def main() -> int:
    """Returns the exit status."""
    options = tyro.cli(Options, prog="python -m benchmarks.memory_learning", description=__doc__)
    warnings.simplefilter("ignore")  # advice on environments
    cells = [(name, network) for name, task in TASKS.items() for network in task.networks]
    for name, network in [] if options.table else cells:
        if options.only in (None, name) and options.network in (None, network):
            paths = {seed: cell_path(options.out, name, network, seed) for seed in range(options.seeds)}
            if missing := [seed for seed, path in paths.items() if not path.exists()]:
                run_cells(options.out, name, network, missing)
    print(table(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
