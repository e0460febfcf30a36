"""What can be seen without a long run: the spaces, and the shape of `reset` and `step`.

Gymnasium's own checker does the looking at `reset` and `step`; here its complaints become findings that say
what to change.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.utils import env_checker
from gymnasium.utils.passive_env_checker import (
    check_action_space,
    check_observation_space,
    env_reset_passive_checker,
    env_step_passive_checker,
)
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from proximo.envs.findings import Finding
from proximo.envs.spaces import action_codec, observation_codec
from proximo.errors import UserError

# A part of Gymnasium's complaint -> the level it deserves here (None: the stream is looked at more closely
# elsewhere, and that finding says more), and what to do about it.
ADVICE: tuple[tuple[str, Literal["error", "warning", "ok"] | None, str], ...] = (
    ("not within the observation space", None, ""),
    ("expecting numpy array dtype", None, ""),
    ("NaN value", None, ""),
    ("inf value", None, ""),
    ("different from the unwrapped", None, ""),
    ("The reward returned by", None, ""),
    ("signal to be a boolean", None, ""),
    ("Box observation space m", "ok", "Harmless here, for a running normaliser finds the real range."),
    ("Box action space m", "warning", "Give it finite bounds: what a policy samples is clipped to them."),
    ("symmetric and normalized", "warning", "Wrap it: gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)."),
    ("four or five element", "error", "End step() with: return obs, reward, terminated, truncated, info."),
    ("old step API", "error", "End step() with: return obs, reward, terminated, truncated, info."),
    ("not a tuple of the form", "error", "End reset() with: return obs, info (info may be {})."),
    ("did not return a 2-tuple", "error", "End reset() with: return obs, info (info may be {})."),
    ("`reset` method does not provide a", "error", "Declare: def reset(self, *, seed=None, options=None)."),
    ("`Env.reset` can be passed", "error", "Declare: def reset(self, *, seed=None, options=None)."),
    ("default seed argument", "warning", "Declare: def reset(self, *, seed=None, options=None)."),
    (
        "super().reset(seed=seed)",
        "warning",
        "Begin reset() with super().reset(seed=seed) and draw every random number from self.np_random.",
    ),
    ("non-deterministic", None, ""),
    ("Casting input", None, ""),
    ("dictionary", "error", "Return a dict as info; {} will do."),
    ("numpy array", "error", "Return np.asarray(obs, dtype=self.observation_space.dtype)."),
)


def check_spaces(env: gym.Env) -> list[Finding]:
    """Whether the spaces are there, can be used, and make sense."""
    findings = []
    for kind, codec in (("observation", observation_codec), ("action", action_codec)):
        space = getattr(env, f"{kind}_space", None)
        if space is None:
            message = f"there is no {kind}_space: set self.{kind}_space in __init__"
            findings.append(Finding("error", "spaces", message))
            continue
        try:
            codec(space)
        except UserError as error:
            findings.append(Finding("error", "spaces", str(error)))
            continue
        look = check_observation_space if kind == "observation" else check_action_space
        findings += _translated("spaces", partial(look, space))
        findings += _translated("spaces", partial(env_checker.check_space_limit, space, kind))
        for path, leaf in _leaves(space, kind):
            findings += _leaf_findings(path, leaf, kind)
    return findings or [Finding("ok", "spaces", "both spaces are understood")]


def check_interface(env: gym.Env) -> list[Finding]:
    """Whether `reset` and `step` take and return what they should, and the metadata is whole."""
    plain = env
    while isinstance(plain, TimeLimit | OrderEnforcing | PassiveEnvChecker):
        plain = plain.env  # Gymnasium's own wrappers hide the signature that is to be looked at
    looks: tuple[Callable[[], Any], ...] = (
        lambda: env_checker.check_seed_deprecation(plain),
        lambda: env_checker.check_reset_return_info_deprecation(plain),
        lambda: env_checker.check_reset_return_type(plain),
        lambda: env_checker.check_reset_seed_determinism(plain),
        lambda: env_checker.check_reset_options(plain),
        lambda: env_reset_passive_checker(plain),
        lambda: env_step_passive_checker(plain, plain.action_space.sample()),
    )
    findings = _metadata(env)
    for look in looks:
        findings += _translated("reset and step", look)
    return findings or [Finding("ok", "reset and step", "they take and return what Gymnasium asks for")]


def _translated(name: str, look: Callable[[], Any]) -> list[Finding]:
    """Run one of Gymnasium's checks; its warnings and its exception become findings."""
    complaints: list[tuple[Literal["error", "warning"], str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            look()
        except (AssertionError, gym.error.Error) as error:
            complaints.append(("error", str(error)))
        except Exception as error:
            complaints.append(("error", f"{type(error).__name__}: {error}"))
    complaints += [("warning", str(warning.message)) for warning in caught if "WARN" in str(warning.message)]
    return [finding for level, text in complaints if (finding := _finding(name, level, text)) is not None]


def _finding(name: str, level: Literal["error", "warning"], complaint: str) -> Finding | None:
    plain = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", complaint).removeprefix("WARN: ").split())
    for part, deserved, advice in ADVICE:
        if part in plain:
            return None if deserved is None else Finding(deserved, name, f"{plain.rstrip('.')}. {advice}")
    return Finding(level, name, plain)


def _leaves(space: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The spaces inside a Dict or a Tuple, each with its path; the space itself if it is neither."""
    children = getattr(space, "spaces", None)
    if children is None:
        yield path, space
        return
    for key, child in children.items() if hasattr(children, "items") else enumerate(children):
        yield from _leaves(child, f"{path}[{key!r}]")


def _leaf_findings(path: str, space: Any, kind: str) -> list[Finding]:
    findings = []
    if hasattr(space, "low") and np.any(space.low > space.high):
        findings.append(Finding("error", "spaces", f"{path}: a low bound is above its high bound; swap them"))
    if kind == "observation" and hasattr(space, "low"):
        findings += _image_findings(path, space)
    if kind == "action" and getattr(space, "n", None) == 1 and space.shape == ():
        findings.append(
            Finding("warning", "spaces", f"{path}: there is one action only, so nothing to learn")
        )
    if np.any(getattr(space, "start", 0) != 0):
        message = f"{path}: values are counted from {space.start}; understood here, but not by every library"
        findings.append(Finding("ok", "spaces", message))
    return findings


def _image_findings(path: str, space: Any) -> list[Finding]:
    """A Box with three axes is an image by custom, and an image is uint8 from 0 to 255."""
    if len(space.shape) == 2 or len(space.shape) > 3:
        message = (
            f"{path}: a Box of shape {space.shape} is neither a vector nor an image; it will be flattened"
        )
        return [Finding("warning", "spaces", message)]
    if len(space.shape) != 3:
        return []
    findings = []
    if space.dtype != np.uint8:
        message = f"{path}: an image of dtype {space.dtype}; use uint8, which takes a quarter of the memory"
        findings.append(Finding("warning", "spaces", message))
    elif np.any(space.low != 0) or np.any(space.high != 255):
        message = f"{path}: an image whose bounds are not 0 and 255; declare Box(0, 255, shape, np.uint8)"
        findings.append(Finding("warning", "spaces", message))
    if min(space.shape[0], space.shape[-1]) > 16:
        message = (
            f"{path}: an image of shape {space.shape} has its channels neither first nor last; transpose it"
        )
        findings.append(Finding("warning", "spaces", message))
    return findings


def _metadata(env: gym.Env) -> list[Finding]:
    modes = env.metadata.get("render_modes")
    if modes is None:
        message = (
            'metadata has no "render_modes": declare metadata = {"render_modes": [...], "render_fps": 30}'
        )
    elif env.render_mode is not None and env.render_mode not in modes:
        message = (
            f'render_mode is {env.render_mode!r}, which is not in metadata["render_modes"]: add it there'
        )
    elif modes and "render_fps" not in env.metadata:
        message = (
            'metadata has no "render_fps": declare how many frames make a second, so that videos run true'
        )
    else:
        return []
    return [Finding("warning", "rendering", message)]
