"""Options that every language-model command takes, and all options as plain data."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from proximo.errors import UserError
from proximo.language.sharding import MeshOptions
from proximo.runs.sinks import ReportOptions

Options = TypeVar("Options")
LARGEST_SEED = 2**63 - 1  # of JAX's keys


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and what of it is trained."""

    model: str
    """A model folder, or an id of the Hugging Face Hub."""
    from_scratch: bool = False
    """Random weights in the shape that the folder's `config.json` gives; its own weights are not read."""
    lora_rank: int = 0
    """Train adapters of this rank instead of all weights (LoRA, Hu et al. 2021); 0 for all weights."""
    lora_alpha: float = 16.0
    """Adapters count alpha / rank times."""
    lora_targets: tuple[str, ...] = ("query", "value")
    """Which maps have adapters: of query, key, value, output, gate, up, down; or `all-linear`."""
    eos_token: str | None = None
    """The token that ends a text, where the tokenizer does not say."""
    pad_token: str | None = None
    """The token that fills a batch up, where the tokenizer does not say."""
    chat_template: Path | None = None
    """A file with a chat template (Jinja), in the place of the model's; the trained model keeps it."""
    chat_template_kwargs: str | None = None
    """What the chat template is told besides messages, as JSON: `{"enable_thinking": false}`. A record's
    column of this name wins over it."""
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What the model is saved in; as it came unless said, and float32 for random weights. What learns, and
    every checkpoint, is float32."""
    mesh: MeshOptions = field(default_factory=MeshOptions)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out and kept."""

    out: Path | None = None
    """The run folder; a new one under `runs/` unless said otherwise."""
    seed: int = 0
    """Every random stream is split from it."""
    checkpoint_every: float = 60.0
    """Seconds of work that a crash may cost; 0 for a checkpoint after every iteration."""
    max_time: float | None = None
    """End in good time before so many seconds, with a checkpoint to go on from."""
    reports: ReportOptions = field(default_factory=ReportOptions)

    def checked(self) -> "RunOptions":
        """Itself; raises UserError for a seed that no random key has, for times that cannot be, and for
        reports whose package is missing.
        """
        self.reports.check_reports()
        if not self.checkpoint_every >= 0:
            raise UserError(f"checkpoint_every is {self.checkpoint_every:g}: it must be at least 0 seconds")
        if self.max_time is not None and not self.max_time >= 0:
            raise UserError(f"max_time is {self.max_time:g}: it must be at least 0 seconds")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"seed is {self.seed}: it must be at least 0 and at most {LARGEST_SEED}")
        return self


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
