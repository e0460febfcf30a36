"""`proximo sweep ENV`: search the options."""

import contextlib
import json
import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args, get_type_hints

import tyro

from proximo.arguments import RecipeArguments, config_from, parse_recipe, translated
from proximo.control.config import Config
from proximo.errors import UserError
from proximo.learn.options import UpdateOptions
from proximo.paths import absolute, short
from proximo.policies import NetworkOptions

if TYPE_CHECKING:
    from proximo.control.sweep import Search, Span, Value

FIXED = ("env", "seed", "steps", "until")  # what a comparison holds equal


@dataclass(frozen=True)
class Sweep(RecipeArguments):
    """Search the options: trials of the same training with other numbers; the same command goes on."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """OPTION=LOW:HIGH, OPTION=LOW:HIGH:log or OPTION=ONE|OTHER, as often as wanted."""
    trials: int = 20
    """How many there shall be, with those that the file has already."""
    seeds: int = 1
    """Each trial is the mean of so many seeds, run as one ensemble."""
    storage: Path | None = None
    """The file that keeps the trials; `OUT/sweep.db` unless said otherwise."""
    out: Path | None = None
    """Where `sweep.md` goes, after every trial; `runs/sweep-ENV` unless said otherwise."""
    json: bool = False
    """End with one JSON object on standard output."""
    quiet: bool = False
    """No progress."""
    debug: bool = False
    """Show the traceback of an error."""


OWN = {"--vary", "--trials", "--seeds", "--storage", "--out"}  # with a value
OWN_FLAGS = {f"--{no}{name}" for name in ("json", "quiet", "debug") for no in ("", "no-")}


class Asked(NamedTuple):
    """The arguments that were typed, and those of their words that say how to train."""

    arguments: Sweep
    recipe: list[str]


def read(words: list[str]) -> Asked:
    """The arguments that were typed."""
    return Asked(parse_recipe(Sweep, "sweep", words), recipe_words(words))


def recipe_words(words: list[str]) -> list[str]:
    """The words without those that are the sweep's own."""
    kept, rest = [], iter(translated(words))
    for word in rest:
        if word in OWN:
            next(rest, None)
        elif word not in OWN_FLAGS:
            kept.append(word)
    return kept


def run(asked: Asked) -> int:
    """Sweep; returns the exit status: 1 if no trial came to its end."""
    from proximo.control.progress import shown
    from proximo.control.sweep import finished_trials, open_study, sweeping
    from proximo.control.sweep_report import outcome, text, write_report
    from proximo.runs.process import orderly_stop, prepare_process

    arguments = asked.arguments
    prepare_process()
    base, search = config_from(arguments), searched(arguments.vary, asked.recipe)
    out = arguments.out or absolute("runs") / f"sweep-{base.name.replace('/', '-')}"
    study = open_study(arguments.storage or out / "sweep.db", base, search, arguments.seeds)
    begun = reported = len(finished_trials(study))
    if begun and not arguments.quiet:
        print(
            f"going on after {begun} trials in {short(arguments.storage or out / 'sweep.db')}",
            file=sys.stderr,
        )

    def report() -> dict[str, Any]:
        found = outcome(study, search, lambda options: ["proximo", "train", *asked.recipe, *spelled(options)])
        write_report(out, text(found, f"Sweep of {base.name}"))
        return found

    rows = sweeping(
        study,
        lambda options: configured(asked.recipe, options),
        search,
        trials=arguments.trials,
        seeds=arguments.seeds,
        allow_import=True,
    )
    steps = max(arguments.trials - begun, 1) * arguments.seeds * base.steps
    with (
        orderly_stop() as stop,
        contextlib.closing(rows),
        contextlib.closing(shown(rows, base, not arguments.quiet, steps)) as progress,
    ):
        for row in progress:
            if row.finished > reported:
                reported = row.finished
                report()
            if stop.requested:
                break
    found = report()
    print(json.dumps(found) if arguments.json else text(found, f"Sweep of {base.name}"))
    return stop.status or int(found["best"] is None)


def configured(recipe: list[str], options: "Mapping[str, Value]") -> Config:
    """The configuration of a trial: what the same words mean to `proximo train`. Raises UserError."""
    return config_from(parse_recipe(RecipeArguments, "sweep", [*recipe, *spelled(options)]))


def spelled(options: "Mapping[str, Value]") -> list[str]:
    """Options as words of the command line: `--hidden 64 64`, `--anneal`, `--no-anneal`."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if bool in kinds_of(name):
            words.append(f"--{flag}" if value == "true" else f"--no-{flag}")
        else:
            words += [f"--{flag}", *shlex.split(str(value))]
    return words


def searched(vary: tuple[str, ...], recipe: list[str]) -> "Search":
    """What is varied, as it was typed. Raises UserError for what cannot be read."""
    if not vary:
        raise UserError("say what to vary, such as --vary learning_rate=1e-5:1e-3:log")
    search: dict[str, Span | tuple[str, ...]] = {}
    for words in vary:
        typed, separator, values = words.partition("=")
        name = translated([f"--{typed}"])[0].removeprefix("--").replace("-", "_")
        if not separator or not values:
            raise UserError(f"--vary {words} is not OPTION=LOW:HIGH nor OPTION=ONE|OTHER")
        kinds = kinds_of(name)
        if name in FIXED or not kinds:
            raise UserError(f"{typed!r} is not an option that can be varied: see `proximo train --help`")
        if name in search or f"--{name.replace('_', '-')}" in recipe:
            raise UserError(f"{name} is said twice: vary it or set it")
        search[name] = choices(words, values, kinds) if "|" in values else span(words, values, kinds)
    return search


def kinds_of(name: str) -> tuple[Any, ...]:
    """The types that an option's value may have; none for a name that is not an option."""
    for owner in (Config, UpdateOptions, NetworkOptions, RecipeArguments):
        hints = get_type_hints(owner)
        if name in hints and name not in ("config", "preset", "update", "network"):
            return get_args(hints[name]) or (hints[name],)
    return ()


def choices(words: str, values: str, kinds: tuple[Any, ...]) -> tuple[str, ...]:
    """`clip:0.1|clip:0.2`, each as it would be typed after the option."""
    found = tuple(choice.strip() for choice in values.split("|"))
    if len(set(found)) < len(found) or not all(found):
        raise UserError(f"--vary {words}: the choices must differ, and none may be empty")
    if bool in kinds and not set(found) <= {"true", "false"}:
        raise UserError(f"--vary {words}: the choices are true and false")
    return found


def span(words: str, values: str, kinds: tuple[Any, ...]) -> "Span":
    """`1e-5:1e-3:log`."""
    from proximo.control.sweep import Span

    low, _, rest = values.partition(":")
    high, _, scale = rest.partition(":")
    kind = next((kind for kind in (float, int) if kind in kinds), None)
    if kind is None or not rest or scale not in ("", "log"):
        hint = "LOW:HIGH or LOW:HIGH:log" if kind else "ONE|OTHER: it takes no span of numbers"
        raise UserError(f"--vary {words} cannot be read: write it as {words.partition('=')[0]}={hint}")
    try:
        bounds = kind(low), kind(high)
    except ValueError as error:
        raise UserError(f"--vary {words} cannot be read: {error}") from None
    if not all(map(math.isfinite, bounds)):
        raise UserError(f"--vary {words}: LOW and HIGH must be finite")
    if not bounds[0] < bounds[1] or (scale == "log" and bounds[0] <= 0):
        raise UserError(f"--vary {words}: LOW must be below HIGH, and above 0 for `log`")
    return Span(*bounds, log=scale == "log", whole=kind is int)
