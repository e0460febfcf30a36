"""Models on disk: `model.safetensors` (the arrays) and `model.json` (everything else), nothing executable."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import safetensors.numpy

from proximo.control.agent import Agent
from proximo.control.config import Config, validate
from proximo.control.seen import codec_asked
from proximo.envs import (
    EnvDescription,
    action_codec,
    description_from_json,
    space_from_json,
    space_to_json,
)
from proximo.envs.actions import with_dependent
from proximo.envs.scaling import OLDER_FILES
from proximo.errors import OwnCodeMissing, UserError
from proximo.learn.normalise import observation_normaliser, with_offset
from proximo.options import as_json, from_json
from proximo.own import described_in, require_given
from proximo.policies import (
    OLDER_NETWORKS,
    ActorCritic,
    EncodedActorCritic,
    NetworkOptions,
    OwnPolicy,
    dependent_names,
    new_policy,
)
from proximo.runs.files import CONFIG
from proximo.runs.named import named_arrays, restore_tree
from proximo.runs.sealed import arrays_from, parsed, read_folder, write_folder

FORMAT = 3
OLDER_FORMAT = 2  # of versions that would pass `scale_actions` over in silence
ARRAYS, DESCRIPTION = "model.safetensors", "model.json"
CHECKPOINTS = "checkpoints"


def save_model(agent: Agent, folder: Path) -> None:
    """Write an agent into `folder`, whole or not at all; an older model there is replaced.

    Raises UserError if the folder holds anything else, or if a weight is not finite.
    """
    write_folder(folder, model_files(agent))


def load_model(folder: Path, network: Any = None) -> Agent:
    """The agent that `save_model` wrote into `folder`.

    network  the class or function of its network, if it is the user's own

    Raises OwnCodeMissing where that is missing or another one, UserError when a file is missing, unreadable,
    of another format, or not the one described.
    """
    if not folder.is_dir():
        raise UserError(f"there is no model in {folder}: it is not a folder")
    return agent_of(read_folder(folder, (ARRAYS, DESCRIPTION)), folder, network)


def model_files(agent: Agent) -> dict[str, bytes]:
    """The agent as the content of two files.

    Of a network of the user's own they name its class, which whoever loads them gives again. Raises
    UserError if a weight is not finite, and for policies that no options ask for.
    """
    if not isinstance(agent.policy, ActorCritic | EncodedActorCritic | OwnPolicy):
        kind = type(agent.policy).__name__
        raise UserError(
            f"only networks of Proximo, and networks passed as network=, can be saved, not a {kind}: "
            "save its arrays yourself"
        )
    arrays = named_arrays({"policy": agent.policy, "observations": agent.observations})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite: the policy was not saved")
    description = {
        "format": FORMAT,
        "environment": agent.name,
        "env_description": agent.environment.as_json(),
        "network": as_json(agent.policy.options),
        "observation_space": space_to_json(agent.spaces[0]),
        "action_space": space_to_json(agent.spaces[1]),
        "scale_actions": agent.scale_actions,
        "masked": agent.masked,
        "dependent_choices": dependent_names(agent.policy.head),
    }
    return {
        ARRAYS: safetensors.numpy.save(arrays),
        DESCRIPTION: json.dumps(description, indent=1, allow_nan=False).encode(),
    }


def agent_of(files: Mapping[str, bytes], folder: Path, network: Any = None) -> Agent:
    """The agent in the content of the files that `model_files` made.

    folder   where they came from, for messages
    network  as in `load_model`

    Raises OwnCodeMissing as `load_model`, UserError where they are of another format, do not fit each other,
    or hold what is not finite.
    """
    description = parsed(files[DESCRIPTION], folder / DESCRIPTION)
    arrays = arrays_from(files[ARRAYS], folder / ARRAYS)
    if not isinstance(description, dict) or description.get("format") not in (OLDER_FORMAT, FORMAT):
        formats = f"{OLDER_FORMAT} or {FORMAT}, which this version reads"
        raise UserError(f"{folder / DESCRIPTION} is not in model format {formats}")
    try:
        spaces = (
            space_from_json(description["observation_space"]),
            space_from_json(description["action_space"]),
        )
        needed = described_in({"network": description["network"]})
        require_given(needed, {"network": network}, "proximo evaluate", "proximo.load", run_of(folder))
        described = {**OLDER_NETWORKS, **description["network"]}
        options = from_json(NetworkOptions, described, str(folder), {"network": network})
        environment = _environment(description)
        validate(Config(environment.name, network=options))
        observation = codec_asked(options, spaces)
        kind = with_dependent(action_codec(spaces[1]).kind, description.get("dependent_choices", []))
        template = _template(observation, kind, options)
        older = OLDER_FILES if description["format"] == OLDER_FORMAT else {}
        described = {"masked": False, **older, **description}
        scale_actions, masked = described["scale_actions"], described["masked"]
        if not isinstance(scale_actions, bool) or not isinstance(masked, bool):
            raise ValueError(f"scale_actions is {scale_actions!r}, masked {masked!r}")
    except OwnCodeMissing:
        raise
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(
            f"{folder / DESCRIPTION} does not describe a model ({reason}): the file was changed"
        ) from error
    tree = restore_tree(template, with_offset(arrays, observation.normalised), folder / ARRAYS)
    return Agent(
        tree["policy"],
        tree["observations"],
        spaces,
        environment,
        scale_actions=scale_actions,
        masked=masked,
    )


def run_of(folder: Path) -> Path:
    """The run that a folder with a model belongs to: of `RUN/model`, or `RUN/checkpoints/STEPS`."""
    place = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder.parent
    return place if (place / CONFIG).is_file() else folder


def _environment(description: Mapping[str, Any]) -> EnvDescription:
    """What the agent was trained on; older files have its name alone."""
    name = str(description["environment"])
    if "env_description" in description:
        return dataclasses.replace(description_from_json(description["env_description"]), name=name)
    obstacle = "it was made by a function without a name" if "<" in name else None
    return EnvDescription(name, obstacle=obstacle, only_name=True)


def bytes_of(agent: Agent) -> dict[str, bytes]:
    """What stands for an agent where Python copies it or hands it to another process.

    Raises UserError, which says that an agent cannot be handed on so, and why.
    """
    try:
        return model_files(agent)
    except UserError as error:
        raise UserError(f"this agent cannot be copied or pickled: {error}") from error


def agent_from_bytes(files: Mapping[str, bytes], key: np.ndarray, network: Any = None) -> Agent:
    """The agent again; its own random stream continues from `key`. `network` as in `load_model`."""
    agent = agent_of(files, Path("the agent's bytes"), network)
    agent._key = jax.random.wrap_key_data(jax.numpy.asarray(key))
    return agent


def _template(observation: Any, kind: Any, network: NetworkOptions) -> dict[str, Any]:
    """The tree of shapes that such a model has; nothing is computed."""

    def build() -> dict[str, Any]:
        seen, private = observation.seen, observation.private
        policy = new_policy(jax.random.key(0), seen.numbers, kind, network, seen.parts, private)
        return {"policy": policy, "observations": observation_normaliser(observation.normalised)}

    return eqx.filter_eval_shape(build)
