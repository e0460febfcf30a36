"""What a user types, turned into a `Config`: flat options, presets, and the names of other libraries."""

import contextlib
import io
import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro

from proximo.control.config import Config, preset
from proximo.control.presets import PRESETS
from proximo.envs import find_env
from proximo.errors import UserError
from proximo.options import Option, also, as_word, checked, is_part, kebab, own_options, with_options
from proximo.own import OwnCode
from proximo.own_words import instance, keyword_arguments, names_own_code, own_choice_from, own_code_from
from proximo.paths import absolute, with_absolute_paths
from proximo.plain import whole_number
from proximo.words import understood

NO_ENV = "ENV"  # stands in the help where nothing was named

Arguments = TypeVar("Arguments")
Recipe = TypeVar("Recipe", bound="RecipeArguments")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Options of every command: a file of options, and what is printed."""

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A TOML file of options, one `name = value` per line. Options on the command line override it."""
    json: bool = False
    """Print the result as one JSON object on standard output."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Watched(Shown):
    """Options of a command that takes long."""

    quiet: bool = False
    """Do not show progress."""


LAST = ("config", "json", "quiet", "debug")  # in the list of a command's options


@dataclass(frozen=True)
class RecipeArguments:
    """Options of every command that needs a full configuration."""

    options: Annotated[Config, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Config(NO_ENV)
    )
    preset: Literal[PRESETS] = "default"  # type: ignore[valid-type]
    """The defaults of all other options. `default`: our recipe for this kind of environment; `paper`: table 3
    of Schulman 2017; `roboschool`: its table 4; the rest: methods that it compares PPO with."""
    clip: Annotated[float | None, also("--clip-coef", "--clip-range")] = None
    """Clip range (epsilon), short for --objective clip:EPSILON."""
    num_minibatches: int | None = None
    """Minibatches per epoch: sets --minibatch-size to the batch size divided by this."""


def config_from(arguments: RecipeArguments) -> Config:
    """The configuration that was typed. Raises UserError if a short form does not fit the other options."""
    config = arguments.options
    if arguments.clip is not None:
        config = with_options(config, clip=arguments.clip)
    if arguments.num_minibatches is not None:
        batch = config.num_envs * config.horizon
        if arguments.num_minibatches < 1 or batch % arguments.num_minibatches:
            raise UserError(
                f"num_minibatches is {arguments.num_minibatches}: it must divide the batch size, {batch}"
            )
        config = with_options(config, minibatch_size=batch // arguments.num_minibatches)
    return config


def choice_argument(kinds: Any, own: str = "", read_own: Callable[[str, str], Any] = own_choice_from) -> Any:
    """A union of frozen dataclasses as ONE argument: `clip`, `clip:0.1`, `huber:delta=2`.

    If all names end in the same word, it may be left out: `ipo` for `ipo-loss`.

    own       what the user's own may be, `objective`, where `module:Class` is understood too
    read_own  (word, own) -> the option that such a word says
    """
    choices = {kebab(kind.__name__): kind for kind in get_args(kinds)}
    endings = {name.rpartition("-")[2] for name in choices}

    def read(words: list[str]) -> Any:
        name, _, rest = words[0].partition(":")
        if len(endings) == 1 and f"{name}-{min(endings)}" in choices:
            name = f"{name}-{min(endings)}"
        if name not in choices and own and names_own_code(words[0]):
            return read_own(words[0], own)
        if name not in choices:
            or_own = f", or of your own module:{own} or file.py:{own}" if own else ""
            raise ValueError(f"there is no {name!r}: take one of {', '.join(choices)}{or_own}")
        return instance(choices[name], name, rest)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices) + ",MODULE:NAME" * bool(own) + "}[:NUMBERS]",
        instance_from_str=read,
        is_instance=lambda value: bool(own) or isinstance(value, tuple(choices.values())),
        str_from_instance=lambda value: [as_word(value)],
    )


OWN_ARGUMENT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="MODULE:NAME[:NUMBERS]",
    instance_from_str=lambda words: own_code_from(words[0], "class"),
    is_instance=lambda value: isinstance(value, OwnCode),
    str_from_instance=lambda value: [as_word(value)],
)
"""Code of the user's own as one argument: `module:Class`, `file.py:Class:width=128`."""


registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if info.type is Any:  # `Config.env`: from Python any object, from the command line an id
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="ENV",
            instance_from_str=lambda words: words[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
        )
    if info.type == dict[str, Any]:
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="KEY=VALUE",
            instance_from_str=keyword_arguments,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [f"{name}={json.dumps(one)}" for name, one in value.items()],
        )
    if info.type is OwnCode:
        return OWN_ARGUMENT
    if info.type is int:
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole_number(words[0]),
            is_instance=lambda value: type(value) is int,
            str_from_instance=lambda value: [str(value)],
        )
    choices = get_args(info.type) if isinstance(info.type, UnionType) else ()
    if NoneType in choices:
        return _optional(_without(NoneType, choices), info)
    if OwnCode in choices:
        return choice_argument(_without(OwnCode, choices), "class", own_code_from)
    return choice_argument(info.type) if choices and all(map(is_dataclass, choices)) else None


def _without(kind: Any, choices: tuple[Any, ...]) -> Any:
    """The union of the other choices."""
    return reduce(operator.or_, [one for one in choices if one is not kind])


def _optional(kind: Any, info: Any) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A value or None, shown as the value; `None` turns off a default value."""
    inner = tyro.constructors.ConstructorRegistry.get_primitive_spec(
        tyro.constructors.PrimitiveTypeInfo.make(kind, info.markers)
    )
    if not isinstance(inner, tyro.constructors.PrimitiveConstructorSpec):
        return None
    return replace(
        inner,
        instance_from_str=lambda words: None if words == ["None"] else inner.instance_from_str(words),
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else inner.str_from_instance(value),
        choices=None if inner.choices is None else (*inner.choices, "None"),
    )


_under_way: list[type] = []
_groups: dict[type, tuple[tyro.constructors.StructFieldSpec, ...]] = {}  # options under a heading of the help


@registry.struct_rule
def _(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """A class of options as tyro has it, with ranges and other names appended to the help."""
    if info.type in _groups:
        return tyro.constructors.StructConstructorSpec(dict, _groups[info.type])
    if not is_dataclass(info.type) or _under_way:
        return None
    _under_way.append(info.type)
    try:
        spec = tyro.constructors.ConstructorRegistry.get_struct_spec(info)
    finally:
        _under_way.pop()
    if not isinstance(spec, tyro.constructors.StructConstructorSpec):
        return None
    known = own_options(info.type)
    told = [_told(one, known.get(one.name)) for one in sorted(spec.fields, key=lambda one: one.name in LAST)]
    return _under_headings(replace(spec, fields=tuple(told)), known)


def _under_headings(
    spec: tyro.constructors.StructConstructorSpec, known: dict[str, Option]
) -> tyro.constructors.StructConstructorSpec:
    """The same class, where options that have a heading of their own are to tyro a class within it."""
    headings = {str(option.group): list[Any]() for option in known.values() if option.group is not None}
    if not headings:
        return spec
    direct = list[Any]()
    for one in spec.fields:
        option = known.get(one.name)
        (headings[option.group] if option is not None and option.group is not None else direct).append(one)
    for heading, options in headings.items():
        kind = type(heading, (), {"__doc__": ""})
        _groups[kind] = tuple(options)
        direct.append(tyro.constructors.StructFieldSpec(heading, kind, tyro.MISSING))

    def instantiate(**given: Any) -> Any:
        inside = [given.pop(heading) for heading in headings]
        return spec.instantiate(**given, **{name: value for part in inside for name, value in part.items()})

    return replace(spec, instantiate=instantiate, fields=tuple(direct))


def _default_hint(explained: bool, default: str) -> str:
    """What stands behind an option's help: its default, unless the help explains what None means."""
    if default == NO_ENV:
        return "(required)"
    if explained and default in ("", "None"):
        return ""
    return f"(default: {'none' if default in ('', 'None') else default})"


def _told(
    field: tyro.constructors.StructFieldSpec, option: Option | None
) -> tyro.constructors.StructFieldSpec:
    if option is None or is_part(option):
        return field
    declared: Any = field.type
    if option.or_own:
        declared = Annotated[option.declared, choice_argument(option.declared, field.name.replace("_", " "))]
    told = [field.helptext() if callable(field.helptext) else field.helptext]
    told += [f"{str(option.range).capitalize()}."] if option.range else []
    told += [f"Also {', '.join(option.aliases)}."] if option.aliases else []
    text = " ".join(" ".join(filter(None, told)).split())  # a line break of the source is none of the help
    hint = partial(_default_hint, "by default" in text.lower())
    hinted: Any = Annotated[declared, tyro.conf.arg(help_behavior_hint=hint)]
    return replace(field, type=hinted, helptext=text)


def parse_recipe(kind: type[Recipe], command: str, words: list[str]) -> Recipe:
    """The arguments of a training command; defaults come from the preset and the environment's family.

    Raises UserError for words that cannot be parsed, and for an unknown environment.
    """
    words = understood(command, words, kind)
    asks_help = any(word in ("-h", "--help") for word in words)
    env = words[0] if words and not words[0].startswith("-") else None
    if env is None and asks_help:
        return parse(kind, command, words)
    if env is None:
        env = parse(kind, command, words).options.env  # the options came first
    if env == NO_ENV:
        raise UserError(f"no environment given: name it first, as in proximo {command} CartPole-v1")
    if absolute(env).is_dir():
        raise UserError(f"{env} is a folder: to resume the run in it, type proximo train --resume {env}")
    find_env(env, allow_import=True)
    name = next((after for word, after in pairwise(words) if word == "--preset"), "default")
    return with_absolute_paths(parse(kind, command, words, kind(options=preset(name, env))))


def parse_words(kind: type[Arguments], command: str, words: list[str]) -> Arguments:
    """The arguments of a command, with those of a `--config` file; paths are absolute. Raises UserError."""
    return with_absolute_paths(parse(kind, command, understood(command, words, kind)))


def parse(
    kind: type[Arguments], command: str, words: list[str], default: Arguments | None = None
) -> Arguments:
    """The arguments of a command. Raises UserError, in one line, for words that cannot be parsed."""
    if sum(word.partition("=")[0].replace("_", "-") == "--env-kwargs" for word in words) > 1:
        raise UserError("--env-kwargs is given twice: list every KEY=VALUE after one of them")
    complaint = io.StringIO()
    try:
        with registry, contextlib.redirect_stderr(complaint):
            options: dict[str, Any] = {} if default is None else {"default": default}
            arguments = tyro.cli(kind, args=words, prog=f"proximo {command}", **options)
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(one_line(complaint.getvalue())) from None
    return checked(arguments)


def one_line(complaint: str) -> str:
    """A parser's complaint without its frame and colours, in one line."""
    complaint = re.sub(r"╭[^\n]*╮", "", complaint)  # the frame's title
    plain = re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│]|─+", " ", complaint)
    plain = re.sub(r"For full helptext.*|Argument helptext:.*", "", re.sub(r"\s+", " ", plain))
    return plain.strip() + " (see --help)"
