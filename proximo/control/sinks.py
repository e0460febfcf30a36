"""Additional loggers of a training run: reports, and videos of the policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from proximo.control.config import Config, as_json
from proximo.core.ranges import at_least
from proximo.options import checked
from proximo.runs.sinks import ReportOptions, Sinks


@dataclass(frozen=True)
class SinkOptions(ReportOptions):
    """Additional loggers. Every number is in RUN/metrics.jsonl in any case."""

    video_every: Annotated[int | None, at_least(1), tyro.conf.arg(metavar="STEPS")] = None
    """Record a video of one episode every STEPS steps in RUN/videos. Training waits meanwhile."""

    def check(self, env: Any, env_kwargs: Mapping[str, Any] | None = None) -> None:
        """Raises UserError, before the run starts, for what is impossible, such as a missing package."""
        self.check_reports()
        if self.video_every is not None:
            checked(self)
            from proximo.control.watch import check_drawing

            check_drawing(env, env_kwargs)

    def open(self, path: Path, config: Config) -> Sinks:
        """The sinks of the run in the folder `path`. Raises UserError where one cannot be had."""
        sinks = self.reports(path, as_json(config))
        if self.video_every is not None:
            sinks.append(VideoSink(path, config.env, self.video_every, config.env_kwargs))
        return Sinks(*sinks)


class VideoSink:
    """`videos/step-N.mp4`, an episode of the policy's most likely actions, every so many steps.

    The episode is played in an environment of its own, always with the same seed, and draws from none of
    the training's random streams.
    """

    def __init__(self, path: Path, env: Any, every: int, env_kwargs: Mapping[str, Any] | None = None) -> None:
        self.folder, self.env, self.env_kwargs, self.every = path / "videos", env, env_kwargs, every
        names = [video.stem.removeprefix("step-") for video in self.folder.glob("step-*.mp4")]
        made = [int(name) for name in names if name.isascii() and name.isdecimal()]
        self.done = max(made, default=0) // every

    def log(self, metrics: Mapping[str, float], iteration: Any) -> None:
        """Record a video if it is due."""
        if iteration.steps // self.every == self.done:
            return
        from proximo.control.watch import record_video

        self.done = iteration.steps // self.every
        self.folder.mkdir(exist_ok=True)
        record_video(
            iteration.agent,
            self.folder / f"step-{iteration.steps:09d}.mp4",
            self.env,
            env_kwargs=self.env_kwargs,
        )

    def close(self) -> None:
        """Every video is complete already."""
