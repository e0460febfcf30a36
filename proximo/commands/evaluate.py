"""`proximo evaluate RUN`: play full episodes with a trained policy."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from proximo.arguments import Shown, parse_words
from proximo.errors import UserError, say
from proximo.options import also
from proximo.own import OwnCode
from proximo.paths import short
from proximo.runs.sealed import check_target, replace_file, writing

if TYPE_CHECKING:
    from proximo.control.evaluate import Evaluation


@dataclass(frozen=True)
class PlayArguments(Shown):
    """How a trained policy plays."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A run folder, or a model folder."""
    env: Annotated[str | None, tyro.conf.arg(metavar="ENV")] = None
    """The environment to play in. By default that of the run. Name your own here, such as `file.py:Class`."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, replacing those of the run. Values are JSON, or else text."""
    episodes: Annotated[int, also("--n-eval-episodes", "--eval-episodes")] = 1
    """Number of full episodes to play."""
    seed: int = 0
    """Random seed of the environment and of sampled actions."""
    network: OwnCode | None = None
    """The class of your own network, if the run has one: `module:Class` or `file.py:Class`."""
    sampled: bool = False
    """Sample actions instead of taking the most likely ones."""
    best: bool = False
    """Play the best model of a run that was trained with --eval-every, instead of the last one."""

    def play(self) -> dict[str, Any]:
        """These options, under the names that `evaluate` and `record_video` use."""
        return {
            "env": self.env,
            "episodes": self.episodes,
            "seed": self.seed,
            "deterministic": not self.sampled,
            "env_kwargs": self.env_kwargs or None,
            "allow_import": self.env is not None,
        }


@dataclass(frozen=True)
class Evaluate(PlayArguments):
    """Play full episodes with a trained policy, and print their mean return with a 95% interval.

    Given a folder of several runs, such as that of `train --seeds`, it evaluates each run and prints the mean
    over the runs with an interval."""

    episodes: Annotated[int, also("--n-eval-episodes", "--eval-episodes")] = 100
    """Number of full episodes to play."""
    num_envs: Annotated[int | None, also("--n-envs")] = None
    """Number of parallel environments. By default up to 16. Use 1 if only one can exist at a time."""
    max_steps: int = 1_000_000
    """Maximum episode length in steps. A longer episode ends the evaluation with an error."""
    until_width: float | None = None
    """Keep playing rounds of --episodes until the 95% interval of the mean is narrower than this."""
    max_episodes: int = 10_000
    """With --until-width: maximum number of episodes."""
    save: bool = False
    """Write the result to evaluation.json in the run folder."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the result as JSON to this file."""


def read(words: list[str]) -> Evaluate:
    """The arguments that were typed."""
    return parse_words(Evaluate, "evaluate", words)


def run(arguments: Evaluate) -> int:
    """Evaluate; returns the exit status."""
    from proximo.runs.kinds import runs_inside
    from proximo.runs.process import prepare_process

    prepare_process()
    members = runs_inside(arguments.run)
    if members:
        return run_members(arguments, members)
    files = targets(arguments)  # refused before anything is played
    (outcome,) = played(arguments, [arguments.run])
    write(outcome.as_json(), files)
    print(json.dumps(outcome.as_json(), allow_nan=False) if arguments.json else outcome)
    return 0


def run_members(arguments: Evaluate, members: list[Path]) -> int:
    """Evaluate each run of an ensemble, and summarise; returns the exit status."""
    from proximo.runs.statistics import mean_of

    check_members(arguments.run, members)
    own = [replace(arguments, run=member, out=None) for member in members]
    files = [targets(one) for one in own]
    together = targets(replace(arguments, save=False))
    outcomes = played(arguments, members)
    found = mean_of([outcome.mean for outcome in outcomes])
    told = [{"run": str(short(path)), **one.as_json()} for path, one in zip(members, outcomes, strict=True)]
    bounds = {"low": found.low, "high": found.high, "interval": found.method}
    content = {"mean": found.value, **bounds, "runs": told}
    for outcome, own_files in zip(outcomes, files, strict=True):
        write(outcome.as_json(), own_files)
    write(content, together)
    if arguments.json:
        print(json.dumps(content, allow_nan=False))
        return 0
    width = max(len(path.name) for path in members)
    for path, outcome in zip(members, outcomes, strict=True):
        print(f"{path.name:{width}}  {outcome}")
    sure = found.interval("{:,.2f}".format) or "one run: no interval"
    print(f"mean of {len(members)} runs {found.value:,.2f} ({sure}, over runs)")
    return 0


def check_members(place: Path, members: list[Path]) -> None:
    """Raises UserError unless the runs in a folder are those of one ensemble."""
    from proximo.runs.kinds import check_is_policy, config_of
    from proximo.runs.report.recipe import options_of

    for member in members:
        check_is_policy(member)
    configs = [config_of(member) for member in members]
    names = sorted({str(config.get("env")) for config in configs})
    options = [options_of(config) for config in configs]
    if len(names) > 1 or any(one != options[0] for one in options):
        several = f"of several environments ({', '.join(names[:3])})"
        what = several if len(names) > 1 else "with different options"
        raise UserError(f"{place} holds runs {what}: name one run, or a folder of `proximo train --seeds`")


def played(arguments: Evaluate, runs: list[Path]) -> "list[Evaluation]":
    """The evaluation of each run. Raises UserError, before anything is played, if a run has no model."""
    from proximo.control.evaluate import evaluate
    from proximo.control.run import load

    outcomes = []
    for agent in [load(run, arguments.best, network=arguments.network) for run in runs]:
        outcome = evaluate(
            agent,
            until_width=arguments.until_width,
            max_episodes=arguments.max_episodes,
            num_envs=arguments.num_envs,
            max_steps=arguments.max_steps,
            **arguments.play(),
        )
        width = outcome.high - outcome.low
        if arguments.until_width is not None and width >= arguments.until_width:
            say(f"the interval is still {width:,.2f} wide: raise --max-episodes")
        outcomes.append(outcome)
    return outcomes


def write(content: dict[str, Any], files: list[Path]) -> None:
    """Write the same JSON to each file."""
    for path in files:
        with writing(path):
            replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def targets(arguments: Evaluate) -> list[Path]:
    """The files to write. Raises UserError, before anything is played, if one cannot be written."""
    if arguments.save and arguments.best:
        raise UserError("--save keeps the evaluation of a run's last model: pass --out FILE for the best one")
    if arguments.save and (arguments.run / "model.json").is_file():
        raise UserError(f"{arguments.run} is a model folder, not a run: use --out FILE instead of --save")
    if arguments.out is not None:
        check_target(arguments.out)
    saved = arguments.run / "evaluation.json" if arguments.save else None
    return [path for path in (saved, arguments.out) if path is not None]
