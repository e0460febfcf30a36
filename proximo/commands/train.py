"""`proximo train ENV`: train a policy."""

import contextlib
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from proximo.arguments import RecipeArguments, Watched, config_from, parse_recipe, parse_words
from proximo.control.config import own_code_of
from proximo.control.periodic_evaluation import EvalOptions
from proximo.control.sinks import SinkOptions
from proximo.core.ranges import at_least
from proximo.errors import UpdateDiverged, UserError, say
from proximo.options import SECONDS, as_words, changes
from proximo.own import OPTIONS, OwnCode, described
from proximo.paths import short
from proximo.runs.symptoms import symptoms_of

if TYPE_CHECKING:
    from proximo.control.resume import Work
    from proximo.runs.process import Deadline


@dataclass(frozen=True, kw_only=True)
class RunArguments(Watched):
    """How a run is carried out and saved, whether new or resumed."""

    checkpoint_every: Annotated[float, at_least(0, infinite=True), SECONDS] = 30.0
    """Seconds between checkpoints."""
    max_time: Annotated[float | None, at_least(0, infinite=True), SECONDS] = None
    """Stop with a checkpoint before this many seconds have passed."""
    sinks: Annotated[SinkOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="logging")] = field(
        default_factory=SinkOptions
    )
    evaluation: Annotated[EvalOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=EvalOptions)
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The run folder. By default a new one under runs/; with --resume that of the run."""
    json: bool = False
    """Print the result as one JSON object on standard output; with --seeds a list of them."""
    words: Annotated[tuple[str, ...], tyro.conf.Fixed, tyro.conf.Suppress] = ()
    """The command as it was typed, for `config.json`."""


@dataclass(frozen=True, kw_only=True)
class Train(RunArguments, RecipeArguments):
    """Train a policy on an environment, and save everything in a run folder."""

    seeds: Annotated[int, at_least(1)] = 1
    """Number of runs to train together, with the seeds SEED, SEED + 1, ... Each gets its own run folder."""
    start_from: Annotated[Path | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """Start from the policy and observation statistics of another run or model folder, which must have the
    same spaces and networks. The optimiser, the reward scale and all schedules start from scratch."""


@dataclass(frozen=True, kw_only=True)
class Resume(RunArguments):
    """Resume a run that was interrupted, from its newest intact checkpoint."""

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    env: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[ENV]")] = None
    """The run's environment again, if it is your own: `file.py:Class`, say. Run files never import code."""
    steps: int | None = None
    """Total number of steps to train for. By default that of the run."""
    until: float | None = None
    """Stop once the mean return of the last 100 training episodes reaches this."""
    network: OwnCode | None = None
    """Your own network of the run again: `module:Class` or `file.py:Class`. Run files never import code."""
    objective: OwnCode | None = None
    """Your own objective of the run again."""
    value_loss: OwnCode | None = None
    """Your own value loss of the run again."""
    actor_step: OwnCode | None = None
    """Your own actor step of the run again."""


def read(words: list[str]) -> Train | Resume:
    """The arguments that were typed."""
    if any(word.partition("=")[0] == "--resume" for word in words):
        found: Train | Resume = parse_words(Resume, "train", words)
    else:
        found = parse_recipe(Train, "train", words)
    return replace(found, words=("train", *words))


def said(arguments: Train) -> dict[str, Any]:
    """What `config.json` records of the command, besides the resulting options."""
    return {"preset": arguments.preset, "command": list(arguments.words)}


def run(arguments: Train | Resume) -> int:
    """Train; returns the exit status."""
    from proximo.control.run import begin, go_on
    from proximo.runs.process import Deadline, prepare_process

    prepare_process()
    deadline = Deadline(arguments.max_time)  # environments take time too, before they train
    if isinstance(arguments, Resume):
        names = ("out", "env", "steps", "until", *OPTIONS)
        given: dict[str, Any] = {name: getattr(arguments, name) for name in names}
        given |= {"typed": arguments.words, "evaluation": arguments.evaluation}
        given = {name: value for name, value in given.items() if value is not None}
        work = go_on(arguments.resume, arguments.sinks, allow_import=True, **given)
    elif arguments.seeds != 1:
        return run_seeds(arguments, deadline)
    else:
        work = begin(
            config_from(arguments),
            arguments.sinks,
            arguments.out,
            arguments.evaluation,
            arguments.start_from,
            allow_import=True,
            **said(arguments),
        )
    return carried_out(arguments, work, deadline)


def carried_out(arguments: Train | Resume, work: "Work", deadline: "Deadline") -> int:
    """Train from the beginning, or from where a run stopped; returns the exit status.

    0 for a run that finished, 3 for one that ran out of time, 128 plus the signal's number for one that was
    stopped. Each can be resumed.
    """
    from proximo.control.run import iterations
    from proximo.runs.process import graceful_stop, take_turns

    folder, begun = work.folder.path, work.start.steps if work.start else 0
    run = iterations(work, not arguments.quiet, arguments.checkpoint_every, allow_import=True)
    with graceful_stop() as stop, resume_hint_on_error(arguments, folder):
        deadline.saving = lambda: work.folder.saving_seconds
        iteration, status, elapsed = take_turns(run, lambda iteration: iteration.last, deadline, stop)
    if arguments.json:
        print(json.dumps(result(folder, iteration, elapsed, begun)))
    elif iteration is not None:
        print(
            f"{iteration.steps - begun:,} steps in {elapsed:.1f} s; {score(iteration)}\n"
            f"run: {short(folder)}\nnext: {evaluate_command(arguments, folder)}"
        )
        for line in () if arguments.quiet else symptoms_of(folder):
            say(f"note: {line}")
    if iteration is None or iteration.last:
        return 0  # stopped or not: it has finished
    say(f"stopped; resume with: {resume_command(arguments, folder)}")
    return status


def score(iteration: Any) -> str:
    """The final score of a run, in words."""
    if math.isnan(iteration.mean_return):
        return "no episode has ended, so there is no mean return"
    return f"mean return of the last 100 episodes: {iteration.mean_return:,.1f}"


def run_seeds(arguments: Train, deadline: "Deadline") -> int:
    """Train several seeds as one ensemble; returns the exit status: 1 if a member diverged."""
    from proximo.control.members import train_members
    from proximo.runs.process import graceful_stop, take_turns
    from proximo.runs.statistics import mean_of

    members = train_members(
        config_from(arguments),
        arguments.seeds,
        out=arguments.out,
        progress=not arguments.quiet,
        sinks=arguments.sinks,
        more=said(arguments),
        checkpoint_every=arguments.checkpoint_every,
        evaluation=arguments.evaluation,
        start_from=arguments.start_from,
        allow_import=True,
    )
    folders: list[Any] = []
    deadline.saving = lambda: sum(folder.saving_seconds for folder in folders)
    with graceful_stop() as stop:
        last, status, elapsed = take_turns(
            noting_folders(members, folders),
            lambda turn: all(member.last for member in turn[1].members),
            deadline,
            stop,
        )
    if last is None:
        return status
    _, overview = last
    rows = [result(f.path, member, elapsed) for f, member in zip(folders, overview.members, strict=True)]
    if arguments.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            reached = row["ep_rew_mean"]
            print(f"{'no episode ended' if reached is None else format(reached, '12,.1f')}  {row['run']}")
        scores = [row["ep_rew_mean"] for row in rows if row["ep_rew_mean"] is not None]
        if len(scores) > 1:
            found = mean_of(scores)
            print(f"{found.value:12,.1f}  mean of {len(scores)} seeds ({found.interval()})")
        print(f"next: {evaluate_command(arguments, folders[0].path.parent)}")
        told = () if arguments.quiet else folders
        lines = [line for folder in told for line in symptoms_of(folder.path)]
        for line in dict.fromkeys(lines):
            say(f"note: {line}" + (f" ({lines.count(line)} runs)" if lines.count(line) > 1 else ""))
    diverged = [f.path for f, m in zip(folders, overview.members, strict=True) if not m.sound]
    for path in diverged:
        say(f"proximo train: {short(path)} diverged (NaN or infinity): the last finite policy is kept")
    unfinished = [f.path for f, m in zip(folders, overview.members, strict=True) if not m.last]
    for path in unfinished:
        say(f"stopped; resume with: {resume_command(arguments, path)}")
    return status if unfinished else int(bool(diverged))


def noting_folders(members: Any, folders: list[Any]) -> Any:
    """The iterations of an ensemble; puts its folders into a list as soon as they exist."""
    with contextlib.closing(members):
        for turn in members:
            folders[:] = turn[0]
            yield turn


def imported(arguments: Train | Resume) -> list[str]:
    """The environment if it was typed as `module:EnvId`, since run files never import code."""
    env = arguments.env if isinstance(arguments, Resume) else arguments.options.env
    return [env] if isinstance(env, str) and ":" in env else []


def own_code(arguments: Train | Resume) -> dict[str, Any]:
    """The user's own code that was typed, as plain data: run files never import it."""
    if isinstance(arguments, Train):
        found = own_code_of(arguments.options)
    else:
        found = {name: code for name in OPTIONS if (code := getattr(arguments, name)) is not None}
    return {name: described(code) for name, code in found.items()}


def evaluate_command(arguments: Train | Resume, path: Path) -> str:
    """The command that evaluates a run, or all in a folder, with the same environment and network."""
    words = ["proximo", "evaluate", str(short(path))]
    words += [word for env in imported(arguments) for word in ("--env", env)]
    words += as_words({name: own for name, own in own_code(arguments).items() if name == "network"})
    return shlex.join(words)


def resume_command(arguments: Train | Resume, path: Path) -> str:
    """The command that resumes a run with the same loggers and code."""
    words = ["proximo", "train", "--resume", str(short(path)), *imported(arguments)]
    words += as_words(own_code(arguments))
    words += as_words(changes(arguments.sinks, SinkOptions()))
    return shlex.join(words)


@contextlib.contextmanager
def resume_hint_on_error(arguments: Train | Resume, path: Path) -> Iterator[None]:
    """When training fails, print the command that resumes it from the last checkpoint."""
    try:
        yield
    except UpdateDiverged:
        raise  # resuming would diverge again
    except UserError:
        if any((path / "checkpoints").glob("[0-9]*")):
            told = f"proximo train: when that is fixed, resume with: {resume_command(arguments, path)}"
            say(told)
        raise


def result(folder: Path, iteration: Any, elapsed: float, begun: int = 0) -> dict[str, Any]:
    """What `train --json` prints; `begun` is the number of steps that the run had before it was resumed."""
    steps = iteration.steps if iteration else 0
    mean_return = iteration.mean_return if iteration and math.isfinite(iteration.mean_return) else None
    return {
        "run": str(short(folder)),
        "steps": steps,
        "seconds": elapsed,
        "steps_per_second": max(steps - begun, 0) / elapsed,
        "ep_rew_mean": mean_return,
    }
