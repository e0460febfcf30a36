"""A video of the policy on the page: the newest one in a run's folder, as part of the file."""

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proximo.envs.parts import is_image
from proximo.envs.space_json import space_from_json
from proximo.envs.vector.trees import leaves
from proximo.runs.report.charts import short
from proximo.runs.report.figures import figure
from proximo.runs.report.markup import Markup, tag
from proximo.runs.report.read import RunData

LARGEST = 2_000_000  # bytes of a video on the page
PLACES = ("*.mp4", "videos/*.mp4")  # of `watch --video` into the run's folder, of `train --video-every`
STEP_NAME = re.compile(r"step-(\d{1,18})", re.ASCII)
FRAMES = "Each frame shows the step and the return so far."
MAKE = "makes one, where RUN is the run's folder; the next report shows it."
COMMAND = "proximo watch RUN --video RUN/play.mp4"


class Video(NamedTuple):
    """A file, and the run in whose folder it lies."""

    run: RunData
    path: Path
    recorded: datetime
    size: int


def video(runs: Sequence[RunData]) -> Markup | None:
    """The newest video that is small enough; else how to make one, where a policy sees images."""
    found = videos(runs)
    for one in found:
        content = _content(one)
        if content is not None:
            return _shown(one, content, many=len(runs) > 1)
    if found:
        words = f"{found[0].path.name} is not shown: it is no MP4 file of at most {LARGEST // 1_000_000} MB."
        return tag("p", words, class_="hint")
    if any(sees_images(run) for run in runs):
        return tag("p", "There is no video of this policy. ", tag("code", COMMAND), f" {MAKE}", class_="hint")
    return None


def videos(runs: Sequence[RunData]) -> list[Video]:
    """All videos in the folders of these runs, the newest first. What a link leads out to is none."""
    found = []
    for run in runs:
        for path in (path for place in PLACES for path in run.path.glob(place)):
            try:
                inside, told = path.resolve().is_relative_to(run.path.resolve()), path.stat()
            except OSError:
                continue
            if inside and path.is_file():
                found.append(Video(run, path, datetime.fromtimestamp(told.st_mtime, UTC), told.st_size))
    return sorted(found, key=lambda one: (one.recorded, one.path.name), reverse=True)


def _content(one: Video) -> bytes | None:
    """The file, if it is an MP4 that is small enough and can be read."""
    if one.size > LARGEST:
        return None
    try:
        content = one.path.read_bytes()
    except OSError:
        return None
    return content if content[4:8] == b"ftyp" and len(content) <= LARGEST else None


def _shown(one: Video, content: bytes, *, many: bool) -> Markup:
    player = tag(
        "video",
        controls="",
        preload="metadata",
        src=f"data:video/mp4;base64,{base64.b64encode(content).decode('ascii')}",
        aria_label="A video of the policy",
    )
    of_run = f"{one.run.name}: " if many else ""
    return figure(tag("b", f"{of_run}{_moment(one)}"), player, hint=FRAMES)


def _moment(one: Video) -> str:
    """When in training it was made, where its name tells; else what it is called and its date."""
    name = STEP_NAME.fullmatch(one.path.stem)
    if name is None:
        return f"{one.path.name}, recorded {one.recorded:%Y-%m-%d %H:%M} UTC"
    step = int(name[1])
    text, curve = f"An episode after {step:,} steps", one.run.metrics.get(one.run.score_of)
    before = [] if curve is None else curve.values[curve.steps <= step].tolist()
    return f"{text}; mean training return then: {short(before[-1])}" if before else text


def sees_images(run: RunData) -> bool:
    """Whether the saved policy's observations are images, or have one as a part."""
    try:
        model = json.loads((run.path / "model" / "model.json").read_bytes())
        return any(is_image(part) for _, part in leaves(space_from_json(model["observation_space"])))
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return False  # there is no model, or it is not of this version
