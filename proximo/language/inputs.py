"""What a run reads besides its options: files of data and models, by their content.

A run that goes on with other data, or with another reference, is another run; `config.json` holds these
sums, and who goes on compares them.
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
    """The options with models' folders where they named runs."""
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
    """A model's folder, or an id of the Hub, as it is; of a run's folder the model in it.

    Raises UserError for a run that has no model yet, and for one of `proximo train`.
    """
    place = Path(name)
    refuse_policy(place)
    if (place / "model" / "config.json").is_file():
        return str(place / "model")
    if (place / "metrics.jsonl").is_file() and (place / "checkpoints").is_dir():
        raise UserError(f"the run {place} has no model yet: let it come to an end, or resume it")
    return os.fspath(name)


def sums_of_inputs(options: Any) -> dict[str, str]:
    """Every file and folder that the options name -> a sum of its content.

    Of a model of ours the manifest is summed, which has the sums of all files; of another folder
    `config.json` and the names and sizes of all files, since weights are too large to be read twice; of a
    model of the Hub its revision too, which its folder is called after.

    Raises UserError where one cannot be read.
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
    """Raises UserError where a run would go on with other files than those that it began with.

    began_with  what `sums_of_inputs` gave then; None in a run of an earlier version, which is let through
    """
    if not isinstance(began_with, dict):
        return
    for name, found in sums_of_inputs(options).items():
        if began_with.get(name) != found:
            raise UserError(
                f"{name} is not what the run began with: put the old one back, or begin a new run"
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
