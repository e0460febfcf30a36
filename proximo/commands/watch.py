"""`proximo watch RUN`: see a trained policy play."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from proximo.arguments import parse
from proximo.paths import short, whole


@dataclass(frozen=True)
class Watch:
    """See a trained policy play: in a window, or as a film."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a model folder."""
    env: str | None = None
    """Where to play; the environment of the run unless said otherwise (`module:EnvId` must be typed here)."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, which win over those of the run: JSON, or else text."""
    video: Path | None = None
    """Make a film of it, FILE.mp4 or FILE.gif; no screen is needed."""
    episodes: int = 1
    """How many whole episodes."""
    seed: int = 0
    """Of the environment and of sampled actions."""
    sampled: bool = False
    """Sample actions instead of taking the most likely one."""
    fps: float | None = None
    """Pictures per second; the environment's own rate unless said otherwise."""
    json: bool = False
    """End with one JSON object."""
    debug: bool = False
    """Show the traceback of an error."""


def read(words: list[str]) -> Watch:
    """The arguments that were typed."""
    return whole(parse(Watch, "watch", words))


def run(arguments: Watch) -> int:
    """Play; returns the exit status."""
    from proximo.control.run import load
    from proximo.control.watch import film, watch
    from proximo.runs.process import prepare_process

    prepare_process()
    agent = load(arguments.run)
    options: dict[str, Any] = {
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        "deterministic": not arguments.sampled,
        "fps": arguments.fps,
        "env_kwargs": arguments.env_kwargs or None,
        "allow_import": arguments.env is not None,
    }
    if arguments.video is None:
        ends = [moment for moment in watch(agent, arguments.env, **options) if moment.over]
    else:
        ends = film(agent, arguments.video, arguments.env, **options)
    if arguments.json:
        episodes = [{"return": end.return_so_far, "length": end.step} for end in ends]
        video = None if arguments.video is None else str(arguments.video)
        print(json.dumps({"episodes": episodes, "video": video}))
        return 0
    for end in ends:
        print(f"episode {end.episode}: return {end.return_so_far:,.2f}, {end.step} steps")
    if arguments.video is not None:
        print(f"film: {short(arguments.video)}")
    return 0
