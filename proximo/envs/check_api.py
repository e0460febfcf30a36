"""What can be seen without a long run: the spaces, and what `reset` and `step` take and return."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import env_checker
from gymnasium.utils.passive_env_checker import check_action_space, check_observation_space

from proximo.envs import advice
from proximo.envs.check_stream import Finding
from proximo.envs.recording import FAILURES
from proximo.envs.spaces import action_codec, codecs, observation_codec
from proximo.envs.vector.snapshot import layers
from proximo.errors import UserError

RESET = "declare def reset(self, *, seed=None, options=None)"
FIVE = "return obs, reward, terminated, truncated, info"
SEEDS = (123, 123, 456)


def check_spaces(env: gym.Env) -> list[Finding]:
    """Whether the spaces are there, can be used, and make sense."""
    found: list[Finding] = []
    for kind, codec in (("observation", observation_codec), ("action", action_codec)):
        space = getattr(env, f"{kind}_space", None)
        if space is None:
            found.append(_error("spaces", f"there is no {kind}_space: set self.{kind}_space in __init__"))
            continue
        try:
            codec(space)
        except UserError as error:
            found.append(_error("spaces", str(error)))
            continue
        look = check_observation_space if kind == "observation" else check_action_space
        said = _said_by_gymnasium("spaces", partial(look, space))
        # Of observations it warns of bounds alone: equal ones are harmless, and crossed ones come below.
        found += [finding for finding in said if kind == "action" or finding.level == "error"]
        for path, leaf in _leaves(space, kind):
            found += _leaf_findings(path, leaf, kind)
    if not any(finding.level == "error" for finding in found):
        try:
            codecs(env.observation_space, env.action_space)
        except UserError as error:
            found.append(_error("spaces", str(error)))
    return found or [Finding("ok", "spaces", "both spaces are understood")]


def check_policy(env: gym.Env) -> list[Finding]:
    """Whether anything keeps a policy from what the environment offers."""
    lines = {
        "actions": advice.unreachable_actions(env.action_space),
        "wrappers": advice.running_statistics(env),
    }
    return [Finding("warning", name, line) for name, of_name in lines.items() for line in of_name]


def check_interface(env: gym.Env) -> list[Finding]:
    """Whether `reset` and `step` take and return what they should, and the metadata is whole.

    What they raise is left to a recording, which says when.
    """
    found = [*_metadata(env), *(finding for layer in layers(env) for finding in _signature(layer))]
    plain = list(layers(env))[-1]
    for look in (env_checker.check_seed_deprecation, env_checker.check_reset_return_info_deprecation):
        found += _said_by_gymnasium("reset and step", partial(look, plain))
    if not any(finding.level == "error" for finding in found):
        found += _returns(env)
    if not any(finding.level == "error" for finding in found):
        found += _seeding(env)
    return found or [Finding("ok", "reset and step", "they take and return what Gymnasium asks for")]


def _error(name: str, message: str) -> Finding:
    return Finding("error", name, message)


def _said_by_gymnasium(name: str, look: Callable[[], Any]) -> list[Finding]:
    """Run one of Gymnasium's checks; its warnings and its exception become findings, in its own words."""
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            look()
        except Exception as error:
            found.append(_error(name, _plain(error)))
    return found + [Finding("warning", name, _plain(warning.message)) for warning in caught]


def _plain(message: Any) -> str:
    """On one line, without the colours of a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(message)).removeprefix("WARN: ").split())


def _signature(layer: gym.Env) -> list[Finding]:
    """Whether `reset` can be called as it will be, whatever its arguments are called."""
    try:
        signature = inspect.signature(layer.reset)
    except (TypeError, ValueError):  # compiled code need not have one
        return []
    found, name = [], type(layer).__name__
    calls: tuple[dict[str, Any], ...] = ({}, {"seed": 0}, {"options": {}})
    for words in calls:
        try:
            signature.bind(**words)
        except TypeError:
            how = f"reset({', '.join(f'{key}={value}' for key, value in words.items())})"
            found.append(_error("reset and step", f"{name} cannot be called as {how}: {RESET}"))
    seed = signature.parameters.get("seed")
    if seed is not None and seed.default not in (None, inspect.Parameter.empty):
        message = f"{name}'s reset has the seed {seed.default} by default, so episodes are all alike: {RESET}"
        found.append(Finding("warning", "reset and step", message))
    return found


def _returns(env: gym.Env) -> list[Finding]:
    """The form of what one reset and one step return."""
    try:
        began = env.reset(seed=0)
        if not isinstance(began, tuple | list) or len(began) != 2:
            message = "return obs, info (info may be {})"
            return [_error("reset and step", f"reset() returned {_form(began)}: end it with: {message}")]
        if not isinstance(began[1], dict):
            kind = type(began[1]).__name__
            return [
                _error("reset and step", f"reset() returned a {kind} as info: return a dict; {{}} will do")
            ]
        stepped = env.step(env.action_space.sample())
    except FAILURES:
        return []
    if isinstance(stepped, tuple | list) and len(stepped) == 5:
        return []
    return [_error("reset and step", f"step() returned {_form(stepped)}: end it with: {FIVE}")]


def _form(value: Any) -> str:
    count = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{count}"


def _seeding(env: gym.Env) -> list[Finding]:
    """Whether a seed decides the state of `np_random`: equal ones the same, another one another."""
    try:
        first, same, other = (_random_state(env, seed) for seed in SEEDS)
    except FAILURES:
        return []
    if first is not None and first == same != other:
        return []
    message = (
        "reset(seed=...) does not seed self.np_random: begin reset() with super().reset(seed=seed) and draw "
        "every random number from self.np_random"
    )
    return [Finding("warning", "reset and step", message)]


def _random_state(env: gym.Env, seed: int) -> Any:
    """As text, for the state may hold arrays; None where there is no generator of NumPy's."""
    env.reset(seed=seed)
    generator = getattr(env.unwrapped, "_np_random", None)
    return repr(generator.bit_generator.state) if isinstance(generator, np.random.Generator) else None


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
