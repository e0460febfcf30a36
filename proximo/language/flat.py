"""Options by their flat names: `learning_rate=1e-4` finds the part that it belongs to."""

import dataclasses
import difflib
import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from proximo.core import Clip
from proximo.errors import UserError
from proximo.language.options import as_declared, fits, kinds_of, words
from proximo.plain import plain
from proximo.runs.kinds import is_policy_run

Options = TypeVar("Options")

FOLDERS = ("model", "reward_model", "critic_from")
"""Options that name a model's folder; a run's folder stands for the model in it."""


def option_owners(kind: Any) -> dict[str, tuple[str, ...]]:
    """Every option's flat name -> the parts of the options class that lead to it; () for its own."""
    owners: dict[str, tuple[str, ...]] = {}
    for name, declared in get_type_hints(kind).items():
        if dataclasses.is_dataclass(declared):
            owners |= {inner: (name, *parts) for inner, parts in option_owners(declared).items()}
        else:
            owners[name] = ()
    return owners


def option_types(kind: Any) -> dict[str, Any]:
    """Every option's flat name -> its declared type."""
    types: dict[str, Any] = {}
    for name, declared in get_type_hints(kind).items():
        types |= option_types(declared) if dataclasses.is_dataclass(declared) else {name: declared}
    return types


def options_from(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The options of a class from flat names, its defaults for the rest; `clip=0.1` is `Clip(0.1)`.

    Raises UserError for a name that does not exist, with the nearest ones; for a value of a wrong type; and
    for one without a default that is missing.
    """
    given = dict(given)
    owners, types = option_owners(kind), option_types(kind)
    if "objective" in owners and "clip" in given:
        given["objective"] = Clip(_checked("clip", float, given.pop("clip")))
    for name in given:
        if name not in owners:
            raise unknown(name, owners)
    values = {name: _checked(name, types[name], value) for name, value in given.items()}
    return with_folders(_filled(kind, values))


def unknown(name: str, names: Iterable[str]) -> UserError:
    """The error for an option that does not exist: it names the nearest ones."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return UserError(f"there is no option {name!r}" + (f"; the nearest: {', '.join(near)}" if near else ""))


def with_folders(options: Options) -> Options:
    """The options with models' folders where they named runs."""
    changes: dict[str, Any] = {}
    for field in fields(options):  # type: ignore[arg-type]
        value = getattr(options, field.name)
        if field.name in FOLDERS and isinstance(value, str):
            changes[field.name] = model_folder(value)
        elif field.name in FOLDERS and isinstance(value, tuple):
            changes[field.name] = tuple(model_folder(name) for name in value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = with_folders(value)
    return replace(options, **changes)  # type: ignore[type-var]


def model_folder(name: str | os.PathLike[str]) -> str:
    """A model's folder, or an id of the Hub, as it is; of a run's folder the model in it.

    Raises UserError for a run that has no model yet.
    """
    place = Path(name)
    if (place / "model" / "config.json").is_file():
        return str(place / "model")
    if (place / "metrics.jsonl").is_file() and (place / "checkpoints").is_dir():
        if is_policy_run(place):
            raise UserError(
                f"{place} is a run of `proximo train`, no language model: `proximo evaluate {place}`"
            )
        raise UserError(f"the run {place} has no model yet: let it come to an end, or resume it")
    return os.fspath(name)


def _checked(name: str, declared: Any, value: Any) -> Any:
    kinds, value = kinds_of(declared), plain(value)
    if Path not in kinds:
        parts = [str(one) if isinstance(one, Path) else one for one in _several(value)]
        value = tuple(parts) if isinstance(value, list | tuple) else parts[0]
    value, alone = as_declared(declared, value), as_declared(declared, (value,))
    if fits(declared, value):
        return value
    if fits(declared, alone):  # one of what may be several
        return alone
    raise UserError(f"{name} is {reprlib.repr(value)}: it must be {words(declared)}")


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _filled(kind: type[Options], values: Mapping[str, Any], default: Any = None) -> Options:
    """An instance from flat values; what is not among them comes from `default`, or from the class."""
    arguments: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        own, made = hints[field.name], _default(field) if default is None else getattr(default, field.name)
        if dataclasses.is_dataclass(own):
            arguments[field.name] = _filled(own, values, made)  # type: ignore[arg-type]
        elif field.name in values:
            arguments[field.name] = values[field.name]
        elif made is dataclasses.MISSING:
            raise UserError(f"{field.name} is missing: it must be {words(own)}")
        else:
            arguments[field.name] = made
    return kind(**arguments)


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if dataclasses.is_dataclass(field.type) else field.default
