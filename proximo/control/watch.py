"""Shows a policy at play, in a window or as a video."""

import subprocess
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proximo.control.agent import Agent
from proximo.control.evaluate import Evaluator
from proximo.control.screen import has_screen, make_drawn, render_frame
from proximo.control.seen import critic_only
from proximo.envs import HostEnvs, check_fits, select_environment
from proximo.errors import UserError
from proximo.paths import absolute, short
from proximo.runs.extras import require_package
from proximo.runs.sealed import check_target, writing

KINDS = (".mp4", ".gif")
FRAMES_PER_SECOND = 30  # where the environment says nothing
LONGEST = 10_000  # steps of an episode: an environment without a time limit must not play for ever


class EpisodeState(NamedTuple):
    """The state of an episode: its number, from 1; steps and raw rewards so far; whether it is over."""

    episode: int
    step: int
    return_so_far: float
    over: bool


def watch(
    agent: Agent,
    env: Any = None,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    fps: float | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **make_options: Any,
) -> Iterator[EpisodeState]:
    """Play in a window; yields after every step.

    fps  frames per second; by default the environment keeps the time by its `render_fps`

    All else as in `record_video`. Raises UserError if there is no screen.
    """
    if not has_screen():
        raise UserError("there is no screen to open a window on: use --video FILE.mp4 to record a video")
    check_rate(fps)
    with _drawn_for(agent, env, "human", env_kwargs, **make_options) as envs:
        if fps is not None:
            inner = envs.vector.envs[0].unwrapped  # type: ignore[attr-defined]
            inner.metadata = {**inner.metadata, "render_fps": fps}
        yield from moments(Evaluator(agent, envs, seed, deterministic), episodes)


def record_video(
    agent: Agent,
    path: str | Path,
    env: Any = None,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    fps: float | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **make_options: Any,
) -> list[EpisodeState]:
    """Play, and record a video as MP4 or GIF; returns how each episode ended.

    path           its suffix decides: .mp4 or .gif
    env            where to play; by default the environment that the agent was trained on
    env_kwargs     its arguments, which override those that it was trained with
    seed           the first episode is the one that `evaluate` plays alone with this seed
    deterministic  the most likely action at every step, or a sample
    fps            frames per second; by default the environment's own rate
    make_options   as in `make_envs`

    The agent does not change. Raises UserError for another suffix, an environment that cannot be drawn,
    and a package that is missing.
    """
    path = absolute(path)
    check_video(path)
    check_rate(fps)
    ends: list[EpisodeState] = []

    def pictures(envs: HostEnvs) -> Iterator[np.ndarray]:
        first: np.ndarray | None = None
        for moment in moments(Evaluator(agent, envs, seed, deterministic), episodes):
            picture = render_frame(envs)
            first = picture if first is None else first
            yield captioned(in_size(picture, first.shape), moment)
            if moment.over:
                ends.append(moment)

    with _drawn_for(agent, env, "rgb_array", env_kwargs, **make_options) as envs:
        rate = fps or (envs.vector.metadata or {}).get("render_fps") or FRAMES_PER_SECOND
        write_video(path, pictures(envs), float(rate))
    return ends


def _drawn_for(
    agent: Agent, env: Any, render_mode: str, env_kwargs: Mapping[str, Any] | None, **make_options: Any
) -> HostEnvs:
    """The environment in which to show an agent: its own, or the one that is named, which must fit."""
    allow_import = make_options.get("allow_import", False)
    where, kwargs = select_environment(agent.environment, env, env_kwargs, allow_import=allow_import)
    envs = make_drawn(where, render_mode, env_kwargs=kwargs, **make_options)
    try:
        check_fits(agent.environment, agent.spaces, envs, unseen=critic_only(agent.policy))
    except UserError:
        envs.close()
        raise
    return envs


def check_rate(fps: float | None) -> None:
    """Raises UserError for an invalid frame rate."""
    if fps is not None and not 0 < fps <= 1000:
        raise UserError(f"fps is {fps:g}: it must be between 0 and 1000")


def moments(play: Evaluator, episodes: int) -> Iterator[EpisodeState]:
    """One environment's episodes, a moment for each observation, the first ones included."""
    if episodes < 1:
        raise UserError(f"episodes is {episodes}: it must be at least 1")
    told = 0
    for _ in play.steps:
        finished, under_way = play.played[0], play.statistics
        step, so_far = int(under_way.length_so_far[0]), float(under_way.return_so_far[0])
        moment = EpisodeState(len(finished) + 1, step, so_far, step == LONGEST)
        if len(finished) > told:
            told, last = len(finished), finished[-1]
            moment = EpisodeState(told, last.length, last.episode_return, True)
        yield moment
        if moment.over and (moment.episode == episodes or moment.step == LONGEST):
            return


def check_drawing(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> None:
    """Raises UserError if no video of an environment can be made: it draws its first frame."""
    check_packages()
    with make_drawn(env, "rgb_array", env_kwargs=env_kwargs) as envs:
        envs.reset([0])
        render_frame(envs)


def check_video(path: Path) -> None:
    """Raises UserError, before anything is played, if the video cannot be made."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{short(path)} is neither .mp4 nor .gif: use one of these endings")
    check_target(path)
    check_packages()


def check_packages() -> None:
    """Raises UserError if a package for videos is missing."""
    for module in ("imageio_ffmpeg", "PIL.Image"):
        require_package(module, "video")


def in_size(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The frame scaled to the video's size; the remaining edges are black."""
    if picture.shape == shape:
        return picture
    images, fitting = require_package("PIL.Image", "video"), require_package("PIL.ImageOps", "video")
    return np.asarray(fitting.pad(images.fromarray(np.ascontiguousarray(picture)), (shape[1], shape[0])))


def captioned(picture: np.ndarray, moment: EpisodeState) -> np.ndarray:
    """The picture with the step and the return so far written on it, readable on any background."""
    images, drawing, fonts = (
        require_package(f"PIL.{name}", "video") for name in ("Image", "ImageDraw", "ImageFont")
    )
    image = images.fromarray(np.ascontiguousarray(picture))
    size = max(12, image.height // 24)
    text = f"step {moment.step}   return {moment.return_so_far:,.1f}"
    drawing.Draw(image).text(
        (size // 2, size // 2),
        text,
        fill="white",
        stroke_fill="black",
        stroke_width=max(1, size // 10),
        font=fonts.load_default(size),
    )
    return np.asarray(image)


def write_video(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    """Write pictures as they come. What was written before a failure, or Ctrl-C, can be seen.

    Raises UserError where the file cannot be written.
    """
    with writing(path):
        (_write_gif if path.suffix.lower() == ".gif" else _write_mp4)(path, pictures, fps)


def _write_gif(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    images = (require_package("PIL.Image", "video").fromarray(picture) for picture in pictures)
    first = next(images)
    first.save(path, save_all=True, append_images=images, duration=1000.0 / fps, loop=0)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    # imageio's own writer runs Python in the child between fork and exec, which JAX's threads can deadlock.
    first = next(pictures)
    height, width, _ = first.shape
    words = [require_package("imageio_ffmpeg", "video").get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    words += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    words += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]  # the codec wants even sides
    words += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path.resolve())]
    # A process group of its own: Ctrl-C ends the playing, and the video is still finished.
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as encoder:
        assert encoder.stdin is not None
        try:
            for picture in chain([first], pictures):
                encoder.stdin.write(picture.tobytes())
        except BrokenPipeError:
            pass  # the reason is read below
        finally:
            complaint = encoder.communicate()[1]
    if encoder.returncode:
        raise UserError(f"cannot write {path}: {' '.join(complaint.decode(errors='replace').split())}")
