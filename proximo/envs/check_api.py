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
from proximo.envs.actions import action_codec, codecs
from proximo.envs.findings import Finding, error, ok, warning
from proximo.envs.parts import children, is_image
from proximo.envs.recording import FAILURES
from proximo.envs.spaces import observation_codec
from proximo.envs.vector.returned import from_reset, from_step
from proximo.envs.vector.snapshot import layers
from proximo.envs.vector.trees import with_texts
from proximo.errors import Misfit, UserError

RESET = "declare def reset(self, *, seed=None, options=None)"
SEEDS = (123, 123, 456)


def has_error(findings: list[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.level == "error" for finding in findings)


def check_spaces(env: gym.Env) -> list[Finding]:
    """Whether the spaces are there, can be used, and make sense."""
    found = [*_space_findings(env, "observation"), *_space_findings(env, "action")]
    if not has_error(found):
        try:
            codecs(env.observation_space, env.action_space)
        except UserError as raised:
            found.append(error("spaces", str(raised)))
    return found or [ok("spaces", "both spaces are supported")]


def check_policy(env: gym.Env) -> Iterator[Finding]:
    """Whether anything keeps a policy from what the environment offers."""
    yield from (
        warning("actions", line) for line in advice.unreachable_actions(env.action_space, 1.0, scaled=True)
    )
    yield from (warning("wrappers", line) for line in advice.running_statistics(env))


def check_interface(env: gym.Env) -> list[Finding]:
    """Whether `reset` and `step` take and return what they should, and the metadata is whole.

    What they raise is left to a recording, which says when.
    """
    found = [*_metadata(env), *(finding for layer in layers(env) for finding in _signature(layer))]
    for look in (env_checker.check_seed_deprecation, env_checker.check_reset_return_info_deprecation):
        found += _said_by_gymnasium("reset and step", partial(look, env.unwrapped))
    for check in (_returns, _seeding):
        if not has_error(found):
            found += check(env)
    return found or [ok("reset and step", "they take and return what Gymnasium requires")]


def _said_by_gymnasium(name: str, look: Callable[[], Any]) -> Iterator[Finding]:
    """Run one of Gymnasium's checks; its warnings and its exception become findings, in its own words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            look()
        except Exception as raised:
            yield error(name, _plain(raised))
    yield from (warning(name, _plain(one.message)) for one in caught)


def _plain(message: Any) -> str:
    """On one line, without the colours of a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(message)).removeprefix("WARN: ").split())


def _metadata(env: gym.Env) -> Iterator[Finding]:
    modes = env.metadata.get("render_modes")
    if modes is None:
        remedy = 'declare metadata = {"render_modes": [...], "render_fps": 30}'
        yield warning("rendering", f'metadata has no "render_modes": {remedy}')
    elif env.render_mode is not None and env.render_mode not in modes:
        which = f'render_mode is {env.render_mode!r}, which is not in metadata["render_modes"]'
        yield warning("rendering", f"{which}: add it there")
    elif modes and "render_fps" not in env.metadata:
        remedy = "declare the frames per second, so that videos play at the right speed"
        yield warning("rendering", f'metadata has no "render_fps": {remedy}')


def _signature(layer: gym.Env) -> Iterator[Finding]:
    """Whether `reset` can be called as it will be, whatever its arguments are called."""
    try:
        signature = inspect.signature(layer.reset)
    except (TypeError, ValueError):  # compiled code need not have one
        return
    name = type(layer).__name__
    calls: dict[str, dict[str, Any]] = {"": {}, "seed=0": {"seed": 0}, "options={}": {"options": {}}}
    for words, options in calls.items():
        try:
            signature.bind(**options)
        except TypeError:
            yield error("reset and step", f"{name} cannot be called as reset({words}): {RESET}")
    seed = signature.parameters.get("seed")
    if seed is not None and seed.default not in (None, inspect.Parameter.empty):
        fault = f"{name}'s reset uses the seed {seed.default} by default, so all episodes are the same"
        yield warning("reset and step", f"{fault}: {RESET}")


def _returns(env: gym.Env) -> Iterator[Finding]:
    """The form of what one reset and one step return, looked at as in training."""
    try:
        from_reset(env.reset(seed=0))
        from_step(env.step(env.action_space.sample()))
    except Misfit as misfit:
        yield error("reset and step", str(misfit))
    except FAILURES:
        pass


def _seeding(env: gym.Env) -> Iterator[Finding]:
    """Whether a seed decides the state of `np_random`: equal ones the same, another one another."""
    try:
        first, same, other = (_random_state(env, seed) for seed in SEEDS)
    except FAILURES:
        return
    if first is None or not first == same != other:
        message = (
            "reset(seed=...) does not seed self.np_random: begin reset() with super().reset(seed=seed) and "
            "draw every random number from self.np_random"
        )
        yield warning("reset and step", message)


def _random_state(env: gym.Env, seed: int) -> Any:
    """As text, for the state may hold arrays; None where there is no generator of NumPy's."""
    env.reset(seed=seed)
    generator = getattr(env.unwrapped, "_np_random", None)
    return repr(generator.bit_generator.state) if isinstance(generator, np.random.Generator) else None


def _space_findings(env: gym.Env, kind: str) -> Iterator[Finding]:
    space = getattr(env, f"{kind}_space", None)
    if space is None:
        yield error("spaces", f"there is no {kind}_space: set self.{kind}_space in __init__")
        return
    of_observations = kind == "observation"
    try:
        observation_codec(with_texts(space)) if of_observations else action_codec(space)
    except UserError as raised:
        yield error("spaces", str(raised))
        return
    look = check_observation_space if of_observations else check_action_space
    for finding in _said_by_gymnasium("spaces", partial(look, space)):
        # Of observations it warns of bounds alone: equal ones are harmless, and crossed ones come below.
        if finding.level == "error" or not of_observations:
            yield finding
    for path, leaf in _leaves(space, kind):
        yield from _leaf_findings(path, leaf, of_observations)


def _leaves(space: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The spaces inside a Dict or a Tuple, each with its path; the space itself if it is neither."""
    inside = children(space)
    if inside is None:
        yield path, space
    for key, child in (inside or {}).items():
        yield from _leaves(child, f"{path}[{key!r}]")


def _leaf_findings(path: str, space: Any, of_observations: bool) -> Iterator[Finding]:
    if hasattr(space, "low"):
        if np.any(space.low > space.high):
            yield error("spaces", f"{path}: a low bound is above its high bound; swap them")
        if of_observations:
            yield from (warning("spaces", f"{path}: {line}") for line in _image_advice(space))
    if not of_observations and getattr(space, "n", None) == 1 and space.shape == ():
        yield warning("spaces", f"{path}: there is only one action, so there is nothing to learn")
    start = getattr(space, "start", 0)
    if np.any(start != 0):
        yield ok("spaces", f"{path}: values start at {start}; not every library supports that")


def _image_advice(space: Any) -> Iterator[str]:
    """What is an image should be one plainly, and what looks like one should be declared as one."""
    if not is_image(space):
        looks = advice.undeclared_picture(space)
        yield from looks
        if len(space.shape) > 1 and not looks:
            yield f"a Box of shape {space.shape} is neither a vector nor an image; it will be flattened"
    elif space.dtype.kind == "f":
        yield f"an image of dtype {space.dtype}; use uint8, which takes a quarter of the memory"
    elif space.dtype == np.uint8 and (np.any(space.low != 0) or np.any(space.high != 255)):
        yield "an image whose bounds are not 0 and 255; declare Box(0, 255, shape, np.uint8)"
    yield from advice.unclear_order(space)
