"""Types as options declare them: which values they allow, and what a message calls them."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def kinds_of(declared: Any) -> tuple[Any, ...]:
    """The types that a union allows; a type that is none stands for itself."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def as_declared(declared: Any, value: Any) -> Any:
    """A value as an option holds it: lists are tuples, a path is a Path or text, as is declared."""
    kinds = kinds_of(declared)
    if isinstance(value, list | tuple):
        members = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), Any)
        return tuple(as_declared(members, part) for part in value)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    if isinstance(value, Path) and Path not in kinds:
        return str(value)
    if isinstance(value, float) and int in kinds and float not in kinds and value.is_integer():
        return int(value)  # Python's 1e6
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        with contextlib.suppress(OverflowError):  # then it is no number of a computer's
            return float(value)
    return value


def fits(declared: Any, value: Any) -> bool:
    """Whether an option of this type can have this value."""
    origin = get_origin(declared)
    if declared is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(kind, value) for kind in get_args(declared))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(declared)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(get_args(declared)[0], part) for part in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if isinstance(value, bool):  # Python counts it as a number
        return declared is bool
    return isinstance(value, declared)


WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "None",
}


def words_of(declared: Any) -> str:
    """A type as a message names it: `a number or None`, `one of token, sequence`, `Clip or DualClip`.

    A class may say it itself, in `WORDS`.
    """
    origin = get_origin(declared)
    if origin in (Union, UnionType):
        return " or ".join(words_of(kind) for kind in get_args(declared))
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(declared)))}"
    if origin is tuple:
        return f"a list, each {words_of(get_args(declared)[0])}"
    if origin is dict:
        return "names with values, such as {'is_slippery': False}"
    return WORDS.get(declared) or str(getattr(declared, "WORDS", getattr(declared, "__name__", declared)))
