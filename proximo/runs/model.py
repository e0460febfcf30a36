"""Models on disk: `model.safetensors` (the arrays) and `model.json` (everything else), nothing executable."""

import os
from collections.abc import Mapping
from pathlib import Path

from proximo.errors import UserError
from proximo.learn.agent import Agent
from proximo.learn.model_files import ARRAYS, DESCRIPTION, agent_from, arrays_from, model_files
from proximo.runs.sealed import parsed, read_folder, write_folder


def save_model(agent: Agent, folder: Path) -> None:
    """Write an agent into `folder`, whole or not at all; an older model there is replaced.

    Raises UserError if the folder holds anything else, or if a weight is not finite.
    """
    write_folder(folder, model_files(agent))


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
    return agent_of(read_folder(folder, (ARRAYS, DESCRIPTION)), folder)


def agent_of(files: Mapping[str, bytes], folder: Path) -> Agent:
    """The agent in the content of a folder's files; `folder` is where they came from, for messages."""
    description = parsed(files[DESCRIPTION], folder / DESCRIPTION)
    return agent_from(description, arrays_from(files[ARRAYS], folder / ARRAYS), folder)
