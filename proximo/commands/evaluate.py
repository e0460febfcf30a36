"""`proximo evaluate RUN`: play whole episodes with a trained policy."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from proximo.arguments import Shown, parse_words
from proximo.errors import UserError
from proximo.options import also
from proximo.own import OwnCode
from proximo.runs.sealed import check_target, replace_file, writing


@dataclass(frozen=True)
class PlayArguments(Shown):
    """How a trained policy is played."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A run folder, or a model folder."""
    env: Annotated[str | None, tyro.conf.arg(metavar="ENV")] = None
    """The environment to play in, by default that of the run. Name your own here, such as `file.py:Class`."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, in place of those of the run. A value is JSON, or else text."""
    episodes: Annotated[int, also("--n-eval-episodes", "--eval-episodes")] = 1
    """Number of full episodes to play."""
    seed: int = 0
    """Random seed of the environment and of sampled actions."""
    network: OwnCode | None = None
    """The network of your own that was trained: `module:Class` or `file.py:Class` (a file imports none)."""
    sampled: bool = False
    """Sample actions instead of taking the most likely ones."""

    def play(self) -> dict[str, Any]:
        """They, by the names that `evaluate` and `record_video` have for them."""
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
    """Play full episodes with a trained policy, and print their mean return with a 95% interval."""

    episodes: Annotated[int, also("--n-eval-episodes", "--eval-episodes")] = 100
    """Number of full episodes to play."""
    num_envs: Annotated[int | None, also("--n-envs")] = None
    """Environments stepped side by side, up to 16 by default. Give 1 where only one can exist at a time."""
    max_steps: int = 1_000_000
    """Longest episode: a longer one ends the evaluation with an error."""
    until_width: float | None = None
    """Play more rounds of --episodes until the 95% interval of the mean is narrower than this."""
    max_episodes: int = 10_000
    """With --until-width: play at most so many episodes."""
    save: bool = False
    """Write the result into evaluation.json in the run folder."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the result, as JSON, into this file."""


def read(words: list[str]) -> Evaluate:
    """The arguments that were typed."""
    return parse_words(Evaluate, "evaluate", words)


def run(arguments: Evaluate) -> int:
    """Evaluate; returns the exit status."""
    from proximo.control.evaluate import evaluate as play
    from proximo.control.run import load
    from proximo.runs.process import prepare_process

    prepare_process()
    agent, files = load(arguments.run, network=arguments.network), targets(arguments)
    outcome = play(
        agent,
        until_width=arguments.until_width,
        max_episodes=arguments.max_episodes,
        num_envs=arguments.num_envs,
        max_steps=arguments.max_steps,
        **arguments.play(),
    )
    for path in files:
        with writing(path):
            replace_file(path, (json.dumps(outcome.as_json(), indent=1, allow_nan=False) + "\n").encode())
    print(json.dumps(outcome.as_json(), allow_nan=False) if arguments.json else outcome)
    width = outcome.high - outcome.low
    if arguments.until_width is not None and width >= arguments.until_width:
        print(f"the interval is {width:,.2f} wide still: raise --max-episodes", file=sys.stderr)
    return 0


def targets(arguments: Evaluate) -> list[Path]:
    """The files that were asked for. Raises UserError where they cannot be, before anything is played."""
    if arguments.save and (arguments.run / "model.json").is_file():
        raise UserError(f"{arguments.run} is a model folder, not a run: say --out FILE instead of --save")
    if arguments.out is not None:
        check_target(arguments.out)
    saved = arguments.run / "evaluation.json" if arguments.save else None
    return [path for path in (saved, arguments.out) if path is not None]
