"""`proximo evaluate RUN`: play whole episodes with a trained policy."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from proximo.arguments import parse


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


def read(words: list[str]) -> Evaluate:
    """The arguments that were typed."""
    return parse(Evaluate, "evaluate", words)


def run(arguments: Evaluate) -> int:
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
