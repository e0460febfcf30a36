"""`proximo train ENV`: train a policy."""

import contextlib
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proximo.arguments import RecipeArguments, config_from, parse_recipe
from proximo.config import validated


@dataclass(frozen=True)
class Train(RecipeArguments):
    """Train a policy on an environment, and keep everything in a run folder."""

    seeds: int = 1
    """Runs side by side, as one ensemble: the seeds SEED, SEED + 1, ...; a run folder for each."""
    out: Path | None = None
    """The run folder; `runs/ENV-SEED-DATE` unless said otherwise."""
    json: bool = False
    """End with one JSON object on standard output."""
    quiet: bool = False
    """No progress."""
    debug: bool = False
    """Show the traceback of an error."""


def read(words: list[str]) -> Train:
    """The arguments that were typed."""
    return parse_recipe(Train, "train", words)


def run(arguments: Train) -> int:
    """Train; returns the exit status."""
    from proximo.learn.train import training
    from proximo.runs.folder import RunFolder
    from proximo.runs.process import orderly_stop, prepare_process
    from proximo.runs.progress import shown
    from proximo.runs.run import recorded

    if arguments.seeds != 1:
        return run_seeds(arguments)
    prepare_process()
    config = validated(config_from(arguments))
    folder = RunFolder.create(config, arguments.out)
    started = time.perf_counter()
    iteration = None
    with (
        orderly_stop() as stop,
        contextlib.closing(recorded(training(config, allow_import=True), folder)) as iterations,
        contextlib.closing(shown(iterations, config, not arguments.quiet)) as rows,
    ):
        for iteration in rows:  # noqa: B007 (read after the loop)
            if stop.requested:
                break
    elapsed = time.perf_counter() - started
    if arguments.json:
        print(json.dumps(result(folder.path, iteration, elapsed)))
    elif iteration is not None:
        print(
            f"{iteration.steps:,} steps in {elapsed:.1f} s; mean return of the last 100 episodes: "
            f"{iteration.mean_return:,.1f}\nrun: {folder.path}\nnext: proximo evaluate {folder.path}"
        )
    return 130 if stop.requested else 0


def run_seeds(arguments: Train) -> int:
    """Train several seeds as one ensemble; returns the exit status: 1 if a member diverged."""
    from proximo.runs.evaluate import interval
    from proximo.runs.members import train_members
    from proximo.runs.process import orderly_stop

    started, last = time.perf_counter(), None
    members = train_members(
        config_from(arguments),
        arguments.seeds,
        out=arguments.out,
        progress=not arguments.quiet,
        allow_import=True,
    )
    with orderly_stop() as stop, contextlib.closing(members) as turns:
        for last in turns:  # noqa: B007 (read after the loop)
            if stop.requested:
                break
    if last is None:
        return 130
    (folders, overview), elapsed = last, time.perf_counter() - started
    rows = [result(f.path, member, elapsed) for f, member in zip(folders, overview.members, strict=True)]
    if arguments.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['ep_rew_mean'] or math.nan:12,.1f}  {row['run']}")
        mean, low, high = interval([member.mean_return for member in overview.members])
        print(f"{mean:12,.1f}  mean of {len(rows)} seeds (95% interval {low:,.1f} to {high:,.1f})")
    diverged = [f.path for f, m in zip(folders, overview.members, strict=True) if not m.sound]
    for path in diverged:
        print(
            f"proximo train: {path} left the finite numbers: its policy is the last good one", file=sys.stderr
        )
    return 130 if stop.requested else int(bool(diverged))


def result(folder: Path, iteration: Any, elapsed: float) -> dict[str, Any]:
    """What `train --json` ends with."""
    steps = iteration.steps if iteration else 0
    mean_return = iteration.mean_return if iteration and math.isfinite(iteration.mean_return) else None
    return {
        "run": str(folder),
        "steps": steps,
        "seconds": elapsed,
        "steps_per_second": steps / elapsed,
        "ep_rew_mean": mean_return,
    }
