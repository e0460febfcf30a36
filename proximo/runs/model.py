"""Models on disk: `model.safetensors` (the arrays) and `model.json` (everything else), nothing executable."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import safetensors
import safetensors.numpy

from proximo.config import Config, validated
from proximo.envs import action_codec, observation_codec, space_from_json, space_to_json
from proximo.errors import UserError
from proximo.learn.agent import Agent
from proximo.learn.named import filled, named_arrays
from proximo.learn.normalise import observation_normaliser, with_offset
from proximo.policies import ActorCritic, NetworkOptions
from proximo.runs.sealed import parsed, read_folder, write_folder

FORMAT = 2
ARRAYS, DESCRIPTION = "model.safetensors", "model.json"


def save_model(agent: Agent, folder: Path) -> None:
    """Write an agent into `folder`, whole or not at all; an older model there is replaced.

    Raises UserError if the folder holds anything else, or if a weight is not finite.
    """
    write_folder(folder, model_files(agent))


def model_files(agent: Agent) -> dict[str, bytes]:
    """The agent as the content of two files. Raises UserError if a weight is not finite."""
    arrays = named_arrays({"policy": agent.policy, "observations": agent.observations})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite: such a policy is not written")
    description = {
        "format": FORMAT,
        "environment": agent.name,
        "network": dataclasses.asdict(agent.policy.options),
        "observation_space": space_to_json(agent.spaces[0]),
        "action_space": space_to_json(agent.spaces[1]),
    }
    return {
        ARRAYS: safetensors.numpy.save(arrays),
        DESCRIPTION: json.dumps(description, indent=1, allow_nan=False).encode(),
    }


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")  # another process may write it too
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_model(folder: Path) -> Agent:
    """The agent that `save_model` wrote into `folder`.

    Raises UserError when a file is missing, unreadable, of another format, or not the one described.
    """
    if not folder.is_dir():
        raise UserError(f"there is no model in {folder}: it is not a folder")
    return agent_from(read_folder(folder, (ARRAYS, DESCRIPTION)), folder)


def agent_from(files: Mapping[str, bytes], folder: Path) -> Agent:
    """The agent that `model_files` described; `folder` is where they came from, for messages."""
    description = parsed(files[DESCRIPTION], folder / DESCRIPTION)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder / DESCRIPTION} is not of model format {FORMAT}, the one this version reads")
    arrays = arrays_from(files[ARRAYS], folder / ARRAYS)
    try:
        spaces = (
            space_from_json(description["observation_space"]),
            space_from_json(description["action_space"]),
        )
        widths = {k: tuple(v) for k, v in description["network"].items() if isinstance(v, list)}
        network = NetworkOptions(**{**description["network"], **widths})
        name = str(description["environment"])
        validated(Config(name, network=network))
        observation = observation_codec(spaces[0])
        template = _template(observation, action_codec(spaces[1]), network)
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(
            f"{folder / DESCRIPTION} does not describe a model ({reason}): it was changed"
        ) from error
    tree = filled(template, with_offset(arrays, observation.normalised), folder / ARRAYS)
    return Agent(tree["policy"], tree["observations"], spaces, name)


def arrays_from(content: bytes, place: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises UserError if it is none."""
    try:
        return safetensors.numpy.load(content)
    except Exception as error:  # the library raises several kinds for what anybody may have written
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place} is not a readable safetensors file ({reason})") from error


def _template(observation: Any, action: Any, network: NetworkOptions) -> dict[str, Any]:
    """The tree of shapes that such a model has; nothing is computed."""

    def build() -> dict[str, Any]:
        policy = ActorCritic(jax.random.key(0), observation.shape[0], action.kind, network)
        return {"policy": policy, "observations": observation_normaliser(observation.normalised)}

    return eqx.filter_eval_shape(build)
