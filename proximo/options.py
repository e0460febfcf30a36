"""Options: frozen dataclasses whose fields have default, reason and range beside each other.

    learning_rate: Annotated[float, above(0), also("--lr")] = 3e-4
    '''Adam's step size.'''

Here they are found by flat names, checked, written as plain data and read again, and said in words of the
command line; every part of the package that has options has these functions.
"""

import dataclasses
import difflib
import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from proximo.core import Clip
from proximo.core.ranges import Range
from proximo.declared import as_declared, fits, kinds_of, words_of
from proximo.errors import OwnCodeMissing, UserError
from proximo.own import PLACE, OwnCode, described, given_again, own_choice, own_code, word_of
from proximo.plain import plain

Options = TypeVar("Options")


class Aliases(tuple[str, ...]):
    """An annotation, as `also` makes it."""


def also(*names: str) -> Aliases:
    """An annotation: other libraries' names for an option of the same meaning, such as `--n-epochs`."""
    return Aliases(names)


SECONDS = tyro.conf.arg(metavar="SECONDS")
"""An annotation: the help shows this unit in the place of a number."""

FILE, FOLDER, MODEL = (tyro.conf.arg(metavar=kind) for kind in ("FILE", "FOLDER", "MODEL"))
"""Annotations: the help shows what a text or a path names."""


class Group(str):
    """An annotation: the heading that an option has in the help, without being part of another class."""


OR_OWN = "or a class or function of the user's own"
"""An annotation: what the numbers of such a class may be, only its author knows."""


class Option(NamedTuple):
    """A field of an options class, as it is declared.

    declared  its type, without annotations
    range     of its numbers; None for any
    aliases   other names on the command line
    or_own    whether `OR_OWN` stands there
    positional  whether it is the command's word without a name, such as `ENV` or `RUN`
    group     its heading in the help, where it has one of its own
    """

    declared: Any
    range: Range | None = None
    aliases: tuple[str, ...] = ()
    or_own: bool = False
    positional: bool = False
    group: str | None = None


def is_part(option: Option) -> bool:
    """Whether it is several options: a class of its own, and no choice among some."""
    return is_dataclass(option.declared)


def own_options(kind: Any) -> dict[str, Option]:
    """The class's fields by their names; a part of several options is a field too."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for name in (field.name for field in fields(kind)):
        annotated = get_origin(hints[name]) is Annotated
        declared, *notes = get_args(hints[name]) if annotated else (hints[name],)
        bounds = next((note for note in notes if isinstance(note, Range)), None)
        aliases = next((note for note in notes if isinstance(note, Aliases)), ())
        positional = tyro.conf.Positional in notes
        group = next((note for note in notes if isinstance(note, Group)), None)
        found[name] = Option(declared, bounds, aliases, OR_OWN in notes, positional, group)
    return found


def flat_options(kind: Any) -> dict[str, Option]:
    """Every option of a class by its flat name, those of its parts too."""
    found: dict[str, Option] = {}
    for name, option in own_options(kind).items():
        found |= flat_options(option.declared) if is_part(option) else {name: option}
    return found


# ---- by flat names


def options_from(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The options of a class from flat names, its defaults for the rest. As `with_options`.

    Raises UserError for an option without a default that is missing, too.
    """
    return _filled(kind, _known(kind, given), None)


def with_options(options: Options, **given: Any) -> Options:
    """Options changed by their flat names; `clip=0.1` is `objective=Clip(0.1)`.

    Raises UserError for a name that does not exist, with the nearest ones, and for a value of another kind.
    """
    return _filled(type(options), _known(type(options), given), options)


def unknown(name: str, names: Iterable[str]) -> UserError:
    """The error for an option that does not exist: it names the nearest ones."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return UserError(f"there is no option {name!r}" + (f"; the nearest: {', '.join(near)}" if near else ""))


def _known(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    known, given = flat_options(kind), dict(given)
    if "objective" in known and "clip" in given:
        given["objective"] = Clip(_of_its_kind("clip", Option(float), given.pop("clip")))
    for name in given:
        if name not in known:
            raise unknown(name, [*known, *(["clip"] if "objective" in known else [])])
    return {name: _of_its_kind(name, known[name], value) for name, value in given.items()}


def _filled(kind: type[Options], values: Mapping[str, Any], before: Any) -> Options:
    """An instance from flat values; what is not among them comes from `before`, or from the class."""
    arguments: dict[str, Any] = {}
    own = own_options(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        option = own[field.name]
        made = _default(field, option) if before is None else getattr(before, field.name)
        if is_part(option):
            arguments[field.name] = _filled(option.declared, values, made)
        elif field.name in values:
            arguments[field.name] = values[field.name]
        elif made is dataclasses.MISSING:
            raise UserError(f"{field.name} is missing: it must be {words_of(option.declared)}")
        else:
            arguments[field.name] = made
    return kind(**arguments)


def _default(field: Any, option: Option) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if is_part(option) and field.default is dataclasses.MISSING else field.default


# ---- what they may be


def checked(options: Options) -> Options:
    """The same options, with plain numbers. Raises UserError for the first invalid one, with what is valid.

    Conditions on several options together are checked by the code that uses them.
    """
    return _checked(options, "")


def _checked(options: Options, whose: str) -> Options:
    changes = {}
    for name, option in own_options(type(options)).items():
        value = getattr(options, name)
        if is_part(option) and isinstance(value, option.declared):
            changes[name] = _checked(value, whose)
            continue
        value = changes[name] = _of_its_kind(whose + name, option, value)
        if option.range is not None:
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(number is None or number in option.range for number in numbers):
                raise UserError(_refused(whose + name, value, option.range))
        if is_dataclass(value) and type(value) in kinds_of(option.declared):
            changes[name] = _checked(value, f"{type(value).__name__}'s ")
    return replace(options, **changes)  # type: ignore[type-var]


def _refused(name: str, value: Any, bounds: Range) -> str:
    one, numbers = ("each", value) if isinstance(value, tuple) else ("it", (value,))
    finite = bounds == Range() or bounds.infinite or all(-math.inf < number < math.inf for number in numbers)
    be = "lie" if str(bounds).startswith("between") else "be" if finite else "be finite and"
    return f"{name} is {value}: {one} must {be} {bounds}"


def _of_its_kind(name: str, option: Option, value: Any) -> Any:
    """The value as its option holds it. Raises UserError for one of another kind."""
    declared = option.declared
    if declared is Any:
        return value
    if OwnCode in kinds_of(declared) and callable(value):
        value = own_code(value)
    value = as_declared(declared, plain(value))
    if fits(declared, value):
        return value
    alone = as_declared(declared, (value,))
    if fits(declared, alone):  # one of what may be several
        return alone
    if isinstance(value, type) and is_dataclass(value):
        raise UserError(f"{value.__name__} is a class: write {value.__name__}()")
    if option.or_own and (callable(value) or is_dataclass(value)):
        return own_choice(value)
    typed = value.partition(":")[0] if isinstance(value, str) else ""
    for one in kinds_of(declared):
        named = isinstance(one, type) and is_dataclass(one) and kebab(one.__name__) == typed
        if named:  # a word of the command line
            raise UserError(
                f"{name} is {value!r}: in Python write {one.__name__}(...), from {one.__module__} import "
                f"{one.__name__}"
            )
    raise UserError(f"{name} is {reprlib.repr(value)}: it must be {words_of(declared)}")


def is_own(options: Any, name: str) -> bool:
    """Whether an option of a class that allows it is code of the user's own."""
    return type(getattr(options, name)) not in kinds_of(own_options(type(options))[name].declared)


# ---- as plain data


def as_json(options: Any) -> Any:
    """Options as plain data; of an option that is one of several classes {"name": class, ...its numbers}."""
    if is_dataclass(options) and not isinstance(options, type):
        found = {}
        for name, option in own_options(type(options)).items():
            value = getattr(options, name)
            if value is None and OwnCode in kinds_of(option.declared):
                continue  # files without code of the user's own are as they were before there was any
            found[name] = as_json(value) if is_part(option) else _as_choice(value, option)
        return found
    if isinstance(options, Path):
        return str(options)
    if isinstance(options, list | tuple):
        return [as_json(value) for value in options]
    return options


def _as_choice(value: Any, option: Option) -> Any:
    """A value as plain data: one of several classes with its name, the user's own with its place as well."""
    if not is_dataclass(value):
        return as_json(value)
    if isinstance(value, OwnCode) or (option.or_own and type(value) not in kinds_of(option.declared)):
        return as_json(described(value))
    return {"name": type(value).__name__, **as_json(value)}


def from_json(kind: type[Options], data: Any, place: str, own: Mapping[str, Any] | None = None) -> Options:
    """The options that `as_json` described. Raises UserError for what no options of this version say.

    It comes from a file: names are looked up among our own classes, nothing else happens.

    place  what a message calls the file
    own    the user's own code that the options ask for, given again by the options' names
    """
    try:
        built: Options = _built("kind", Option(kind), data, own or {})
        return built
    except OwnCodeMissing:
        raise
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place} does not describe options of this version ({reason})") from error


def _built(name: str, option: Option, value: Any, own: Mapping[str, Any]) -> Any:
    """A value of a declared type from plain data; parts of options may have a class's name too."""
    declared = option.declared
    if isinstance(value, Mapping) and get_origin(declared) is not dict:
        kinds: dict[str, Any] = {
            k.__name__: k
            for k in kinds_of(declared)
            if hasattr(k, "__dataclass_fields__") and k is not OwnCode
        }
        called = value.get("name", *(kinds if len(kinds) == 1 else [None]))
        own_name = PLACE in value or called not in kinds  # such as a network of the user's own called Lstm
        if own_name and (option.or_own or OwnCode in kinds_of(declared)):
            return given_again(name, value, own.get(name))
        if called not in kinds:
            raise ValueError(
                f"its {name} is {called!r}, which is not a class of Proximo's, and a file never imports code"
            )
        known = own_options(kinds[called])
        inside = {key: part for key, part in value.items() if key != "name"}
        if new := sorted(set(inside) - set(known)):
            raise ValueError(f"unknown options {new}")
        return kinds[called](**{key: _built(key, known[key], part, own) for key, part in inside.items()})
    value = as_declared(declared, value)
    if not fits(declared, value):
        raise TypeError(f"{name} is {reprlib.repr(value)}, not {words_of(declared)}")
    return value


# ---- in words of the command line


def changes(options: Options, before: Options) -> dict[str, Any]:
    """Those options that differ from others of the same class, by their flat names."""
    found: dict[str, Any] = {}
    for name, option in own_options(type(options)).items():
        value, other = getattr(options, name), getattr(before, name)
        if is_part(option):
            found |= changes(value, other)
        elif value != other:
            found[name] = value
    return found


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options by their flat names, as they are typed: `--hidden 64 64 --no-anneal --kl fixed-kl:beta=0.1`.

    A value may also be plain data, as `as_json` has it.
    """
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(as_word, value)]
        else:
            words += [f"--{flag}", as_word(value)]
    return words


def as_word(value: Any) -> str:
    """A value in one word: `0.001`, `clip:epsilon=0.2`; several with spaces between them."""
    if isinstance(value, OwnCode) or (isinstance(value, Mapping) and "own" in value):
        return str(word_of(value))
    if is_dataclass(value) and not isinstance(value, type):
        value = {"name": type(value).__name__, **as_json(value)}
    if isinstance(value, list | tuple):
        return " ".join(map(as_word, value))
    if not isinstance(value, Mapping):
        return str(value)
    numbers = ",".join(f"{key}={_short(number)}" for key, number in value.items() if key != "name")
    return kebab(str(value.get("name", ""))) + (f":{numbers}" if numbers else "")


def flat_name(word: str) -> str:
    """`--learning-rate` -> `learning_rate`."""
    return word.removeprefix("--").replace("-", "_")


def _short(number: Any) -> str:
    """`1` for 1.0 and for True, and never fewer digits than the number has."""
    if isinstance(number, list | tuple):
        return f"[{','.join(map(_short, number))}]"
    short = f"{number:g}" if isinstance(number, int | float) else str(number)
    return short if isinstance(number, int | float) and float(short) == number else str(number)


def kebab(name: str) -> str:
    """`SquaredError` -> `squared-error`, `KLPenalty` -> `kl-penalty`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
