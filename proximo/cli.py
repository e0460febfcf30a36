"""The command line: `proximo train ENV`, `evaluate RUN`, `bench ENV`, `check ENV`, `reproduce GRID`."""

import contextlib
import dataclasses
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from proximo.arguments import RecipeArguments, config_from, parse, parse_recipe
from proximo.config import validated
from proximo.errors import UserError

USAGE = """usage: proximo COMMAND ...

Proximal Policy Optimization, from an environment to a trained policy.

  train ENV      train a policy             proximo train CartPole-v1
  evaluate RUN   play whole episodes        proximo evaluate runs/CartPole-v1-0-...
  bench ENV      how fast each part is      proximo bench HalfCheetah-v5
  check ENV      is the environment sound   proximo check my_module:MyEnv-v0
  reproduce GRID run a table of the paper   proximo reproduce table1-quick

`proximo COMMAND --help` lists a command's options.
"""


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


@dataclass(frozen=True)
class Evaluate:
    """Play whole episodes with a trained policy; its statistics stay frozen."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a model folder."""
    env: str | None = None
    """Where to play; the environment of the run unless said otherwise (`module:EnvId` must be typed here)."""
    episodes: int = 100
    """How many whole episodes."""
    seed: int = 0
    """Of the environments and of sampled actions."""
    sampled: bool = False
    """Sample actions instead of taking the most likely one."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Bench(RecipeArguments):
    """Environment steps per second of each part of the loop, next to the floor: the environments alone."""

    repeats: int = 10
    """Rounds over the parts; the median is reported."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Check:
    """Find what is wrong with an environment before it costs a training run."""

    env: tyro.conf.Positional[str]
    """A Gymnasium id, or `module:EnvId`."""
    steps: int = 1000
    """How long to step it in each check."""
    seed: int = 0
    """Of the environment and of the random actions."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show the traceback of an error."""


def train(arguments: Train) -> int:
    """Train; returns the exit status."""
    from proximo.learn.train import training
    from proximo.runs.folder import RunFolder
    from proximo.runs.process import orderly_stop, prepare_process
    from proximo.runs.progress import shown
    from proximo.runs.run import recorded

    if arguments.seeds != 1:
        return train_seeds(arguments)
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


def train_seeds(arguments: Train) -> int:
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


def evaluate(arguments: Evaluate) -> int:
    """Evaluate; returns the exit status."""
    from proximo.runs.evaluate import evaluate as play
    from proximo.runs.process import prepare_process
    from proximo.runs.run import load

    prepare_process()
    outcome = play(
        load(arguments.run),
        arguments.env,
        episodes=arguments.episodes,
        seed=arguments.seed,
        deterministic=not arguments.sampled,
        allow_import=arguments.env is not None,
    )
    if arguments.json:
        print(json.dumps(outcome.as_json()))
    else:
        print(
            f"{outcome.episodes} episodes: mean return {outcome.mean:,.2f} "
            f"(95% interval {outcome.low:,.2f} to {outcome.high:,.2f}), std {outcome.std:,.2f}, "
            f"mean length {sum(outcome.lengths) / outcome.episodes:,.1f}"
        )
    return 0


def bench(arguments: Bench) -> int:
    """Benchmark; returns the exit status."""
    from proximo.runs.bench import bench as measure
    from proximo.runs.process import prepare_process

    prepare_process()
    config = config_from(arguments)
    rates = measure(config, repeats=arguments.repeats, allow_import=True)
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(rates), "floor_share": rates.floor_share}))
        return 0
    print(f"{config.name}, {config.num_envs} x {config.horizon}; environment steps per second:")
    for name, rate in dataclasses.asdict(rates).items():
        print(f"  {name:10s} {rate:12,.0f}")
    print(f"  the whole loop runs at {rates.floor_share:.0%} of the environments' own rate")
    return 0


def check(arguments: Check) -> int:
    """Check; returns the exit status: 1 when something is wrong."""
    from proximo.envs import check as examine

    findings = examine(arguments.env, steps=arguments.steps, seed=arguments.seed, allow_import=True)
    errors = sum(finding.level == "error" for finding in findings)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.level:8s} {finding.name}: {finding.message}")
        print(f"{errors} errors" if errors else "no errors")
    return 1 if errors else 0


def read_reproduce(words: list[str]) -> Any:
    """The arguments of `reproduce`."""
    from proximo.experiments.reproduce import Reproduce

    return parse(Reproduce, "reproduce", words)


def reproduce(arguments: Any) -> int:
    """Reproduce; returns the exit status."""
    from proximo.experiments.reproduce import command

    return command(arguments)


Commands = dict[str, tuple[Callable[[list[str]], Any], Callable[[Any], int]]]
COMMANDS: Commands = {
    "train": (lambda words: parse_recipe(Train, "train", words), train),
    "evaluate": (lambda words: parse(Evaluate, "evaluate", words), evaluate),
    "bench": (lambda words: parse_recipe(Bench, "bench", words), bench),
    "check": (lambda words: parse(Check, "check", words), check),
    "reproduce": (read_reproduce, reproduce),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for failed work, 2 for what the user can mend."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("proximo"))
        return 0
    if words[0] not in COMMANDS:
        print(
            f"proximo: there is no command {words[0]!r}: take one of {', '.join(COMMANDS)}", file=sys.stderr
        )
        return 2
    read, run = COMMANDS[words[0]]
    try:
        return run(read(words[1:]))
    except UserError as error:
        if "--debug" in words:
            traceback.print_exc()
        print(f"proximo {words[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"proximo {words[0]}: interrupted", file=sys.stderr)
        return 130
