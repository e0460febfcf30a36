"""Drawing an environment: in a window if there is a screen, else off-screen."""

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.control.config import family_of
from proximo.envs import HostEnvs, make_envs, name_of
from proximo.envs.vector.snapshot import layers
from proximo.errors import UserError, reason

OFFSCREEN = ("egl", "osmesa")  # on a GPU or in software; in software
HINT = "MuJoCo without a screen needs libegl1 or libosmesa6 (apt install), and MUJOCO_GL=egl or osmesa"


def has_screen() -> bool:
    """Whether a window can be opened."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def make_drawn(env: Any, render_mode: str, **make_options: Any) -> HostEnvs:
    """One environment that draws itself, as `render_mode` ("human" or "rgb_array") says.

    env, make_options  as in `make_envs`

    Raises UserError for an object that is an environment already, and for one that does not draw itself.
    """
    if isinstance(env, gym.Env | gym.vector.VectorEnv):
        raise UserError(
            f"{name_of(env)} is already an instance: to show it, pass an id, a class or a function"
        )
    if not has_screen():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame: draw in memory
    with without_render_warnings():
        try:
            mode = "vector_entry_point" if family_of(env) == "atari" else "sync"
            made = make_envs(env, 1, vectorization_mode=mode, render_mode=render_mode, **make_options)
        except UserError as error:
            _refuse_undrawn(env, error, **make_options)
            raise
    if render_mode == "human":
        try:
            _check_window(made)
        except UserError:
            made.close()
            raise
    if "mujoco" in sys.modules and not has_screen():
        choose_offscreen()
    return made


@contextlib.contextmanager
def without_render_warnings() -> Iterator[None]:
    """Without what Gymnasium warns of drawing: an error says it, with what to do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(render|RGB)", UserWarning, "gymnasium")
        yield


def _refuse_undrawn(env: Any, error: UserError, **make_options: Any) -> None:
    """Raises UserError where an environment can be made, but takes no `render_mode`."""
    if not isinstance(error.__cause__, TypeError):
        return
    try:
        made = make_envs(env, 1, vectorization_mode="sync", **make_options)
    except UserError:
        return  # drawing is not its trouble
    with made:
        why = f"it takes no render_mode, and its metadata['render_modes'] is {render_modes(made)}"
    raise does_not_draw(made.name, why) from error


def _check_window(made: HostEnvs) -> None:
    """Raises UserError where an environment would open no window: it would play unseen."""
    drawn = made.vector.envs[0]  # type: ignore[attr-defined]
    if any(isinstance(layer, gym.wrappers.HumanRendering) for layer in layers(drawn)):
        return
    modes = render_modes(made)
    if "human" not in modes:
        why = f"its metadata['render_modes'] is {modes}"
        if "rgb_array" in modes:
            raise UserError(f"{made.name} opens no window ({why}): use --video FILE.mp4 to record a video")
        raise does_not_draw(made.name, why)
    if getattr(drawn.unwrapped, "render_mode", None) is None:
        raise does_not_draw(made.name, "its render_mode is None: set self.render_mode in __init__")


def render_modes(made: HostEnvs) -> list[str]:
    """The render modes that an environment declares."""
    metadata = made.vector.envs[0].metadata or {}  # type: ignore[attr-defined]
    return list(metadata.get("render_modes") or ())


def does_not_draw(name: str, why: str) -> UserError:
    """The error for an environment without pictures; it says what to do."""
    return UserError(
        f"{name} does not draw itself ({why}): to see it, list 'rgb_array' in metadata['render_modes'], take "
        "render_mode in __init__, and return a picture from render(), uint8 [height, width, 3]"
    )


def choose_offscreen() -> None:
    """Set MUJOCO_GL to what works here, unless it is set; Gymnasium's own choice takes a window first.

    Each is tried in a process of its own, because PyOpenGL can be bound to one of them only.
    """
    if "MUJOCO_GL" in os.environ:
        return
    for name in OFFSCREEN:
        code = f"from mujoco.{name} import GLContext; context = GLContext(8, 8); context.make_current()"
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return


def render_frame(envs: HostEnvs) -> np.ndarray:
    """The picture of what `make_drawn` made for "rgb_array", uint8 [height, width, 3]. Raises UserError."""
    modes = render_modes(envs)
    try:
        with without_render_warnings():
            picture: Any = envs.vector.envs[0].render()  # type: ignore[attr-defined]
    except BaseException as raised:
        if "rgb_array" not in modes:
            raise does_not_draw(envs.name, f"its metadata['render_modes'] is {modes}") from raised
        why, hint = reason(raised), f"; {HINT}" if "mujoco" in sys.modules else ""
        raise UserError(f"{envs.name} could not be drawn: {why}{hint}") from raised
    if picture is None:
        raise does_not_draw(envs.name, "its render() returns None")
    try:
        return as_picture(picture)
    except ValueError as error:
        raise UserError(f"{envs.name} {error}") from error


CHANNELS = (1, 3, 4)  # grey; red, green, blue; the same and how opaque


def as_picture(found: Any) -> np.ndarray:
    """What an environment drew, as uint8 [height, width, 3].

    Grey pictures, channels in front, brightness from 0 to 1, whole numbers of another type and what NumPy
    takes for an array are understood. Raises ValueError if the meaning is unclear.
    """
    picture = np.asarray(found)
    if picture.dtype.kind not in "buif" or picture.ndim not in (2, 3):
        what = f"a {type(found).__name__}"
        if picture.dtype.kind in "buif" and picture.ndim:
            what = f"arrays of shape {picture.shape}"
        raise ValueError(f"draws {what} instead of pictures: it needs the render_mode 'rgb_array'")
    if picture.ndim == 2:
        picture = picture[..., None]
    elif picture.shape[-1] not in CHANNELS and picture.shape[0] in CHANNELS:
        picture = np.moveaxis(picture, 0, -1)
    if picture.shape[-1] not in CHANNELS or not picture.size:
        raise ValueError(f"draws arrays of shape {picture.shape}: return uint8 [height, width, 3]")
    picture = _in_bytes(picture[..., :3])
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture


def _in_bytes(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == np.uint8:
        return picture
    low, high = picture.min(), picture.max()
    most = 255 if picture.dtype.kind in "ui" else 1
    if not (low >= 0 and high <= most):  # NaN is neither
        raise ValueError(
            f"draws {picture.dtype} from {low:g} to {high:g}: return uint8, or brightness from 0 to {most}"
        )
    return picture.astype(np.uint8) if most == 255 else np.rint(picture * 255.0).astype(np.uint8)
