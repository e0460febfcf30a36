"""What it takes to draw an environment: a window where there is a screen, off-screen drawing elsewhere."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs import HostEnvs, make_envs, name_of
from proximo.errors import UserError
from proximo_worker import WorkerError, as_error

OFFSCREEN = ("egl", "osmesa")  # on a GPU or in software; in software
HINT = "MuJoCo without a screen needs libegl1 or libosmesa6 (apt install), and MUJOCO_GL=egl or osmesa"


def has_screen() -> bool:
    """Whether a window can be opened."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def make_drawn(env: Any, render_mode: str, **make_options: Any) -> HostEnvs:
    """One environment that draws itself, as `render_mode` ("human" or "rgb_array") says.

    env, make_options  as of `make_envs`

    Raises UserError for an object that is an environment already, and one that cannot be made so.
    """
    if isinstance(env, gym.Env | gym.vector.VectorEnv):
        raise UserError(
            f"{name_of(env)} is made already: to be drawn it must be an id, a class or a function"
        )
    if not has_screen():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame: draw in memory
    made = make_envs(env, 1, vectorization_mode="sync", render_mode=render_mode, **make_options)
    if "mujoco" in sys.modules and not has_screen():
        choose_offscreen()
    return made


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


def drawn(envs: HostEnvs) -> np.ndarray:
    """The picture of what `make_drawn` made for "rgb_array", uint8 [height, width, 3]. Raises UserError."""
    try:
        picture: Any = envs.vector.envs[0].render()  # type: ignore[attr-defined]
    except BaseException as raised:
        error = as_error(raised)
        kind = "" if isinstance(error, WorkerError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        hint = f"; {HINT}" if "mujoco" in sys.modules else ""
        raise UserError(f"{envs.name} could not be drawn: {reason}{hint}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise UserError(f"{envs.name} draws no pictures: it needs the render_mode 'rgb_array'")
    return picture
