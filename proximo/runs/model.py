"""Models on disk: `model.safetensors` (the arrays) and `model.json` (everything else), nothing executable."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import safetensors
import safetensors.numpy

from proximo.config import Config, validated
from proximo.core import empty_moments
from proximo.envs import action_codec, observation_codec, space_from_json, space_to_json
from proximo.errors import UserError
from proximo.learn.agent import Agent
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic, NetworkOptions

FORMAT = 1
ARRAYS, DESCRIPTION = "model.safetensors", "model.json"


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree under its path, such as `policy.actor.layers.0.weight`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf, order="C")
        for path, leaf in leaves
    }


def save_model(agent: Agent, folder: Path) -> None:
    """Write an agent into `folder`, which is made; an older model there is replaced, arrays first."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = safetensors.numpy.save(
        named_arrays({"policy": agent.policy, "observations": agent.observations})
    )
    description = {
        "format": FORMAT,
        "environment": agent.name,
        "network": dataclasses.asdict(agent.policy.options),
        "observation_space": space_to_json(agent.spaces[0]),
        "action_space": space_to_json(agent.spaces[1]),
        "sha256": {ARRAYS: hashlib.sha256(arrays).hexdigest()},
    }
    replace_file(folder / ARRAYS, arrays)
    replace_file(folder / DESCRIPTION, json.dumps(description, indent=1, allow_nan=False).encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)


def load_model(folder: Path) -> Agent:
    """The agent that `save_model` wrote into `folder`.

    Raises UserError when a file is missing, unreadable, of another format, or not the one described.
    """
    description = _description(folder)
    arrays = _arrays(folder, description)
    try:
        spaces = (
            space_from_json(description["observation_space"]),
            space_from_json(description["action_space"]),
        )
        network = NetworkOptions(
            **{**description["network"], "hidden": tuple(description["network"]["hidden"])}
        )
        name = str(description["environment"])
        validated(Config(name, network=network))
        template = _template(observation_codec(spaces[0]), action_codec(spaces[1]), network)
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(
            f"{folder / DESCRIPTION} does not describe a model ({reason}): it was changed"
        ) from error
    tree = _filled(template, arrays, folder)
    return Agent(tree["policy"], tree["observations"], spaces, name)


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            f"there is no model in {folder}: {path.name} cannot be read ({error.strerror})"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON ({error}): restore it from a copy") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{path} is not of model format {FORMAT}, the one this version reads")
    return description


def _arrays(folder: Path, description: dict[str, Any]) -> dict[str, np.ndarray]:
    path = folder / ARRAYS
    try:
        content = path.read_bytes()
        expected = description["sha256"][ARRAYS]
    except OSError as error:
        raise UserError(
            f"there is no model in {folder}: {path.name} cannot be read ({error.strerror})"
        ) from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / DESCRIPTION} has no SHA-256 of {ARRAYS}: it was changed") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"{path} is not the file that was saved (its SHA-256 differs): restore it from a copy"
        )
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error


def _template(observation: Any, action: Any, network: NetworkOptions) -> dict[str, Any]:
    """The tree of shapes that such a model has; nothing is computed."""

    def build() -> dict[str, Any]:
        policy = ActorCritic(jax.random.key(0), observation.shape[0], action.kind, network)
        active = jax.numpy.asarray(observation.normalised)
        return {"policy": policy, "observations": ObservationNormaliser(empty_moments(active.shape), active)}

    return eqx.filter_eval_shape(build)


def _filled(template: dict[str, Any], arrays: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    filled = []
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        array = arrays.get(name)
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            found = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
            wanted = f"{leaf.dtype}{list(leaf.shape)}"
            raise UserError(f"{folder / ARRAYS}: {name} is {found}, but {DESCRIPTION} asks for {wanted}")
        filled.append(jax.numpy.asarray(array))
    return jax.tree_util.tree_unflatten(structure, filled)
