"""Code of the user's own as it is typed: `module:Name` or `file.py:Name`, then its numbers after a colon.

    --objective my_objectives.py:SmoothClip:k=3      --network my_networks:Residual:width=128,layers=3

Reading such a word imports the module. So only a word that the user typed is read
(`importing.typed_by_user`): one of a file, such as the command that a run folder records, is refused.
"""

import json
import re
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

from proximo.errors import UserError, reason
from proximo.importing import user_object, was_typed
from proximo.own import OwnCode, own_code

PYTHON = {"True": True, "False": False, "None": None}  # a text "False" would count as true
BETWEEN_NUMBERS = r",(?![^\[]*\])"  # a comma, but for those between brackets
SWITCH = {"true": True, "false": False, "1": True, "0": False}


def _typed_object(word: str, what: str) -> tuple[Any, str, str]:
    """What a word names, its place, and its numbers. Raises UserError for a word that was not typed."""
    if not was_typed(word):
        raise UserError(f"{word} names code to import, but was not typed: a file may not name code")
    place, numbers = split_word(word)
    return user_object(place, what), place, numbers


def names_own_code(word: str) -> bool:
    """Whether a word names code of the user's own: `module:Name` or `file.py:Name`."""
    module, separator, rest = word.partition(":")
    return bool(separator and re.fullmatch(r"[^\W\d][\w.]*", rest.partition(":")[0])) and "=" not in module


def own_code_from(word: str, what: str) -> OwnCode:
    """A function or class that a word names, with its numbers by name. Raises UserError."""
    found, _, numbers = _typed_object(word, what)
    return _with_numbers(found, numbers)


def own_choice_from(word: str, what: str) -> Any:
    """The same; of a frozen dataclass of numbers an instance. Raises UserError."""
    found, place, numbers = _typed_object(word, what)
    if isinstance(found, type) and is_dataclass(found):
        try:
            return instance(found, place, numbers)
        except ValueError as error:
            raise UserError(f"{word}: {error}") from error
        except Exception as error:  # its own code, such as a check of its numbers
            raise UserError(f"{word} cannot be made: {reason(error)}") from error
    if isinstance(found, type):
        raise UserError(f"{place} is a class but not a frozen dataclass: make it one, or use a function")
    return _with_numbers(found, numbers)


def _with_numbers(function: Any, numbers: str) -> OwnCode:
    return own_code(partial(function, **numbers_from(numbers)))


def split_word(word: str) -> tuple[str, str]:
    """`file.py:Name:k=3` -> `file.py:Name`, `k=3`."""
    module, _, rest = word.partition(":")
    name, _, numbers = rest.partition(":")
    return f"{module}:{name}", numbers


def numbers_from(text: str) -> dict[str, Any]:
    """`width=128,layers=3` as arguments by name. Raises UserError."""
    try:
        return keyword_arguments(list(filter(None, re.split(BETWEEN_NUMBERS, text))))
    except ValueError as error:
        raise UserError(f"{error}: write the name too, as in k=3") from None


def instance(kind: Any, name: str, rest: str) -> Any:
    """A frozen dataclass with numbers as they are typed: `0.1`, `low=0.1,high=0.3`, `channels=[16,32]`.

    Raises ValueError for a number that it does not have.
    """
    names = [f.name for f in fields(kind)]
    kinds = get_type_hints(kind)
    numbers: dict[str, Any] = {}
    if ":" in rest:
        raise ValueError(f"{name}:{rest} has two colons: write {name}:{rest.replace(':', ',')}")
    for position, word in enumerate(filter(None, re.split(BETWEEN_NUMBERS, rest))):
        key, separator, number = word.rpartition("=")
        if not separator and position >= len(names):
            raise ValueError(f"{name} takes {len(names)} numbers")
        key = key if separator else names[position]
        if key not in names:
            raise ValueError(f"{name} has no {key!r}: it has {', '.join(names) or 'no numbers'}")
        numbers[key] = _number_from(number, kinds[key])
    return kind(**numbers)


def _number_from(word: str, declared: Any) -> Any:
    """A number, a switch, or several numbers, `[16,32]`. Raises ValueError for another word."""
    if declared is bool and word in SWITCH:
        return SWITCH[word]
    if get_origin(declared) is not tuple:
        return declared(word)
    member = get_args(declared)[0]
    return tuple(member(one) for one in word.removeprefix("[").removesuffix("]").split(","))


def keyword_arguments(words: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as keyword arguments: a value is JSON, Python's True, False or None, or else text.

    Raises ValueError for a word of another form, and for a key that is there twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(f"{word!r} is not of the form KEY=VALUE")
        if name in found:
            raise ValueError(f"{name} is given twice")
        try:
            found[name] = PYTHON[text] if text in PYTHON else json.loads(text)
        except ValueError:
            found[name] = text
    return found
