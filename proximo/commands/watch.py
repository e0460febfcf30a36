"""`proximo watch RUN`: watch a trained policy play."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from proximo.arguments import parse_words
from proximo.commands.evaluate import PlayArguments
from proximo.paths import short


@dataclass(frozen=True)
class Watch(PlayArguments):
    """Watch a trained policy play, in a window or as a video."""

    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Record a video instead of opening a window: FILE.mp4 or FILE.gif. This needs no screen."""
    fps: float | None = None
    """Frames per second. By default the environment's own rate."""


def read(words: list[str]) -> Watch:
    """The arguments that were typed."""
    return parse_words(Watch, "watch", words)


def run(arguments: Watch) -> int:
    """Play; returns the exit status."""
    from proximo.control.run import load
    from proximo.control.watch import record_video, watch
    from proximo.runs.process import prepare_process

    prepare_process()
    agent = load(arguments.run, arguments.best, network=arguments.network)
    options = {**arguments.play(), "fps": arguments.fps}
    if arguments.video is None:
        ends = [moment for moment in watch(agent, **options) if moment.over]
    else:
        ends = record_video(agent, arguments.video, **options)
    if arguments.json:
        episodes = [{"return": end.return_so_far, "length": end.step} for end in ends]
        video = None if arguments.video is None else str(arguments.video)
        print(json.dumps({"episodes": episodes, "video": video}))
        return 0
    for end in ends:
        print(f"episode {end.episode}: return {end.return_so_far:,.2f}, {end.step} steps")
    if arguments.video is not None:
        print(f"video: {short(arguments.video)}")
    return 0
