"""The user's own code in place of ours: an objective, a value loss, an actor step, a network.

A file holds its name and its numbers, never the code. To load the file, the user passes the class or function
again, on the command line or in Python.
"""

import reprlib
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import jax

from proximo.core.arrays import traceable
from proximo.errors import OwnCodeMissing, OwnCodeUnnamed, UserError, reason, tell
from proximo.paths import short

NAME, PLACE = "name", "own"  # in plain data: what it is called, and where: `module:Class`, None if nowhere
OPTIONS = ("network", "objective", "value_loss", "actor_step")  # that may be code of the user's own


@traceable
@dataclass(frozen=True)
class OwnCode:
    """A user's function, or a class that is called like one, with keyword arguments.

    It is a compile-time constant: other arguments are compiled again. A frozen dataclass of numbers does not
    need this.
    """

    WORDS: ClassVar[str] = "a class or a function"  # as a message names it
    function: Any
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return name_of(self) + (f"({arguments})" if arguments else "")

    def __call__(self, *values: Any) -> Any:
        return self.function(*values, **dict(self.arguments))


def own_code(value: Callable[..., Any]) -> OwnCode:
    """A function or a class, or a `functools.partial` of one, as an option holds it. Raises UserError."""
    if isinstance(value, OwnCode):
        return value
    if isinstance(value, partial):
        if value.args:
            raise UserError(f"{name_of(value.func)} has positional arguments: pass them by name")
        for name, one in value.keywords.items():
            if not _is_plain(one):
                raise UserError(
                    f"{name_of(value.func)} has {name}={reprlib.repr(one)}, which cannot be saved: "
                    "pass numbers, strings or lists of these, or write a function that sets it"
                )
        return OwnCode(value.func, tuple((k, _hashable(v)) for k, v in sorted(value.keywords.items())))
    if not hasattr(value, "__qualname__"):
        raise UserError(
            f"an instance of {name_of(value)} was given: pass the class or function that makes it"
        )
    return OwnCode(value)


def own_choice(value: Any) -> Any:
    """A user's objective, value loss or actor step, as an option holds it.

    A function is wrapped. An instance stays as it is, and its numbers are traced. Raises UserError for
    anything else, and for an instance that is not a pytree of numbers.
    """
    if isinstance(value, type):
        raise UserError(f"{value.__name__} is a class: write {value.__name__}()")
    if isinstance(value, OwnCode | partial) or (callable(value) and hasattr(value, "__qualname__")):
        return own_code(value)
    numbers = [getattr(value, one.name) for one in fields(value)] if is_dataclass(value) else [None]
    if not all(isinstance(number, Real) for number in numbers) or jax.tree_util.all_leaves([value]):
        raise UserError(
            f"{name_of(value)} cannot be compiled: make it a function, or a frozen dataclass of numbers with "
            "the decorator @traceable of proximo.core.arrays"
        )
    return value


def code_of(value: Any) -> Any:
    """The class or the function that is the user's."""
    if isinstance(value, OwnCode):
        return value.function
    return value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)


def name_of(value: Any) -> str:
    """What the class or the function is called."""
    return str(code_of(value).__name__)


def place_of(value: Any) -> str | None:
    """Where a command finds it: `module:Class` or `file.py:Class`; None for a lambda, or in a notebook."""
    code = code_of(value)
    module = sys.modules.get(code.__module__)
    if "<" in code.__qualname__ or module is None:
        return None
    spec = getattr(module, "__spec__", None)
    name = code.__module__ if spec is None else spec.name
    if "." in name:
        return f"{name}:{code.__qualname__}"
    file = getattr(module, "__file__", None)
    return None if file is None else f"{short(Path(file))}:{code.__qualname__}"


def numbers_of(value: Any) -> dict[str, Any]:
    """Its numbers, or its further arguments, by their names."""
    if isinstance(value, OwnCode):
        return dict(value.arguments)
    return {one.name: getattr(value, one.name) for one in fields(value)} if is_dataclass(value) else {}


def described(value: Any) -> dict[str, Any]:
    """As plain data: what it is called, where it is, its numbers."""
    return {NAME: name_of(value), PLACE: place_of(value), **numbers_of(value)}


def word_of(value: Any) -> str | None:
    """As a command takes it: `my_module.py:SmoothClip:k=5`; None where it cannot. Also of plain data."""
    data = value if isinstance(value, Mapping) else described(value)
    place = data.get(PLACE)
    numbers = ",".join(f"{key}={number}" for key, number in data.items() if key not in (NAME, PLACE))
    return None if place is None else f"{place}:{numbers}" if numbers else str(place)


def given_again(option: str, data: Mapping[str, Any], given: Any) -> Any:
    """The user's own code, passed again, with the numbers from the file.

    given  the class, the function, or an instance; None if nothing was passed

    Raises OwnCodeMissing if it is missing, or is not what the file describes.
    """
    called = data.get(NAME)
    numbers = {key: _hashable(value) for key, value in data.items() if key not in (NAME, PLACE)}
    if given is None:
        raise OwnCodeMissing(
            f"its {option} is {called}, code of your own: pass it again as {option}={called}"
        )
    given = own_code(given) if isinstance(given, partial) else given
    code, words = code_of(given), {} if isinstance(given, type) else numbers_of(given)
    if code.__name__ != called:
        raise OwnCodeMissing(f"its {option} is {called}, not {code.__name__}: pass {called} again")
    for name, value in words.items():
        if numbers.get(name) != value:
            told = f"has {name}={numbers[name]}" if name in numbers else f"has no {name}"
            raise OwnCodeMissing(
                f"its {option} is {called}, which {told}, not {name}={value}: leave {name} out"
            )
    try:
        is_class = option != "network" and is_dataclass(code)
        return code(**numbers) if is_class else OwnCode(code, tuple(sorted(numbers.items())))
    except Exception as error:
        raise OwnCodeMissing(f"its {option} cannot be {called} with {numbers}: {reason(error)}") from error


def described_in(config: Any) -> dict[str, Mapping[str, Any]]:
    """The user's own code that a configuration as plain data asks for, by the options' names."""
    if not isinstance(config, Mapping):  # from a file: it may be anything
        return {}
    parts = [part for part in (config.get("network"), config.get("update")) if isinstance(part, Mapping)]
    found = {name: part[name] for part in parts for name in OPTIONS if name in part}
    return {name: value for name, value in found.items() if isinstance(value, Mapping) and PLACE in value}


def require_given(
    needed: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], command: str, call: str, run: Path
) -> None:
    """Raises OwnCodeMissing unless the user passed exactly the code that a run needs.

    needed  as in `described_in`
    given   by the options' names; None for nothing
    command, call  with which to pass it again: `proximo evaluate`, `proximo.load`
    """
    for name, value in given.items():
        if value is not None and name not in needed:
            raise OwnCodeMissing(f"{run} has no {name} of your own: leave {name} out")
    missing = {name: data for name, data in needed.items() if given.get(name) is None}
    if not missing:
        return
    names = {name: str(data.get(NAME)) for name, data in needed.items()}
    what = ", ".join(f"{name.replace('_', ' ')} {called}" for name, called in names.items())
    words = {name: word_of(data) for name, data in needed.items()}
    typed = [text for name, word in words.items() if word for text in (f"--{name.replace('_', '-')}", word)]
    line = shlex.join([*command.split(), str(short(run)), *typed])
    python = f"{call}({str(short(run))!r}, {', '.join(f'{name}={called}' for name, called in names.items())})"
    told = f"{line}, or in Python " if all(words.values()) else ""
    raise OwnCodeMissing(
        f"{short(run)} was trained with code of your own ({what}), which run files never import. "
        f"Pass it again: {told}{python}"
    )


def tell_unnamed(values: Mapping[str, Any]) -> None:
    """Warn, before training, of code that no command can name, such as a lambda or a notebook's function."""
    for option, value in values.items():
        code = code_of(value)
        if "<" in code.__qualname__:
            tell(
                OwnCodeUnnamed(
                    f"the {option.replace('_', ' ')} {code.__qualname__} has no name that a command can "
                    f"use: to load or resume this run, pass the same function in Python as {option}="
                )
            )


def said_shape(value: Any) -> str:
    """`float32[4]`, or the type of what is no array."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
