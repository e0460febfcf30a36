"""Options as plain data, and back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from proximo.errors import UserError

Options = TypeVar("Options")


def as_json(options: Any) -> Any:
    """Options as plain data; one of several classes is {"name": class, ...its numbers}."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return {"name": type(options).__name__} | {
            f.name: as_json(getattr(options, f.name)) for f in fields(options)
        }
    if isinstance(options, Path):
        return str(options)
    if isinstance(options, list | tuple):
        return [as_json(value) for value in options]
    if isinstance(options, Mapping):
        return {str(key): as_json(value) for key, value in options.items()}
    if callable(options):
        return f"{options.__module__}:{options.__qualname__}"
    return options


def from_json(kind: type[Options], data: Any, place: str) -> Options:
    """The options that `as_json` described. Raises UserError for what no options of this version say.

    It comes from a file: names are looked up among our own classes, nothing else happens.
    """
    try:
        built: Options = _built(kind, data)
        return built
    except UserError:
        raise
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(f"{place} does not describe options of this version ({reason})") from error


def _built(declared: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        kinds = kinds_of(declared)
        choices = {kind.__name__: kind for kind in kinds if hasattr(kind, "__dataclass_fields__")}
        kind = choices[value["name"]]
        hints = get_type_hints(kind)
        inside = {name: _built(hints[name], part) for name, part in value.items() if name != "name"}
        return kind(**inside)
    value = as_declared(declared, value)
    if not fits(declared, value):
        raise TypeError(f"{value!r} is not {words(declared)}")
    return value


def kinds_of(declared: Any) -> tuple[Any, ...]:
    """The types that a union allows; a type that is none stands for itself."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def as_declared(declared: Any, value: Any) -> Any:
    """A value as an option holds it: lists are tuples, a path where one is declared is a Path."""
    kinds = kinds_of(declared)
    if isinstance(value, list | tuple):
        members = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), Any)
        return tuple(as_declared(members, part) for part in value)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    return float(value) if type(value) is int and float in kinds and int not in kinds else value


def fits(declared: Any, value: Any) -> bool:
    """Whether an option of this type can have this value."""
    if declared is Any:
        return True
    if get_origin(declared) in (Union, UnionType):
        return any(fits(kind, value) for kind in get_args(declared))
    if get_origin(declared) is Literal:
        return type(value) is str and value in get_args(declared)
    if get_origin(declared) is tuple:
        return isinstance(value, tuple) and all(fits(get_args(declared)[0], part) for part in value)
    if isinstance(value, bool):  # Python counts it as a number
        return declared is bool
    return isinstance(value, declared)


def words(declared: Any) -> str:
    """A type as a message names it: `float or None`, `one of token, sequence`, `Clip or DualClip`."""
    if get_origin(declared) in (Union, UnionType):
        return " or ".join(words(kind) for kind in get_args(declared))
    if get_origin(declared) is Literal:
        return f"one of {', '.join(map(str, get_args(declared)))}"
    if get_origin(declared) is tuple:
        return f"a list of {words(get_args(declared)[0])}"
    return "None" if declared is type(None) else str(getattr(declared, "__name__", declared))
