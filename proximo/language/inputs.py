"""The inputs of a run besides its options: checksums of data files and models.

A run that resumes with other data, or with another reference model, would be another run. So `config.json`
holds these checksums, and resuming compares them.
"""

import hashlib
import os
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from proximo.errors import UserError
from proximo.language.files.adapter_files import base_folder
from proximo.language.files.folder import local_folder
from proximo.runs.kinds import refuse_policy
from proximo.runs.sealed import MANIFEST

Options = TypeVar("Options")

FILES = ("data", "evaluation_data", "chat_template")
"""Options that name a file."""

FOLDERS = ("model", "reward_model", "critic_from")
"""Options that name a model's folder; a run's folder stands for the model in it."""


def with_folders(options: Options) -> Options:
    """The same options, with model folders in place of run folders."""
    changes: dict[str, Any] = {}
    for field in fields(options):  # type: ignore[arg-type]
        value = getattr(options, field.name)
        if field.name in FOLDERS and isinstance(value, str):
            changes[field.name] = model_folder(value)
        elif field.name in FOLDERS and isinstance(value, tuple):
            changes[field.name] = tuple(model_folder(name) for name in value)
        elif is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = with_folders(value)
    return replace(options, **changes)  # type: ignore[type-var]


def model_folder(name: str | os.PathLike[str]) -> str:
    """The model folder that a name stands for: a run's model; anything else as it is.

    Raises UserError for a run that has no model yet, and for a run of `proximo train`.
    """
    place = Path(name)
    refuse_policy(place)
    if (place / "model" / "config.json").is_file():
        return str(place / "model")
    if (place / "metrics.jsonl").is_file() and (place / "checkpoints").is_dir():
        raise UserError(f"the run {place} has no model yet: let it finish, or resume it")
    return os.fspath(name)


def sums_of_inputs(options: Any) -> dict[str, str]:
    """Every file and folder that the options name -> a checksum of its content.

    For our own models this is a checksum of the manifest, which holds the checksums of all files. For other
    folders it covers `config.json`, and the names and sizes of all files, since weights are too large to be
    read twice. For models of the Hub it also covers the revision, after which their folder is named.

    Raises UserError if one cannot be read.
    """
    found: dict[str, str] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            found |= sums_of_inputs(value)
        elif field.name in (*FILES, *FOLDERS) and value is not None:
            for name in value if isinstance(value, tuple) else (value,):
                found[str(name)] = _sum_of_data(name) if field.name in FILES else _sum_of_model(name)
    return found


def refuse_other_inputs(began_with: Any, options: Any) -> None:
    """Raises UserError if a run would resume with other files than it started with.

    began_with  the result of `sums_of_inputs` at the start; None (an earlier version) is not compared
    """
    if not isinstance(began_with, dict):
        return
    for name, found in sums_of_inputs(options).items():
        if began_with.get(name) != found:
            raise UserError(
                f"{name} has changed since the run started: restore the old one, or start a new run"
            )


def _sum_of_data(name: str | Path) -> str:
    try:
        with Path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror})") from error


def _sum_of_model(name: str | Path) -> str:
    place = local_folder(name)
    home = base_folder(place)
    found = hashlib.sha256(b"" if Path(name).is_dir() else place.name.encode())
    if home != place:  # adapters alone, which another base makes another model
        found.update((home.name + _sum_of_model(home)).encode())  # of the Hub: its name is the revision
    for telling in (MANIFEST, "config.json"):
        if (place / telling).is_file():
            found.update((place / telling).read_bytes())
    if not (place / MANIFEST).is_file():
        files = sorted(file for file in place.iterdir() if file.is_file())
        found.update(repr([(file.name, file.stat().st_size) for file in files]).encode())
    return found.hexdigest()
