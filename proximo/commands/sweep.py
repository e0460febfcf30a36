"""`proximo sweep ENV`: tune hyperparameters."""

import contextlib
import json
import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proximo.arguments import RecipeArguments, Watched, config_from, parse_recipe
from proximo.control.config import Config
from proximo.declared import kinds_of
from proximo.errors import UserError
from proximo.options import as_words, flat_name, flat_options, own_options
from proximo.paths import absolute, short
from proximo.plain import whole_number
from proximo.words import Dialect, understood

if TYPE_CHECKING:
    from proximo.control.study import Search, Span, Value

FIXED = ("env", "seed", "steps", "until", "preset")  # what a comparison holds equal


@dataclass(frozen=True)
class Sweep(Watched, RecipeArguments):
    """Tune hyperparameters: train with different options and compare. The same command continues a sweep."""

    vary: tuple[str, ...] = ()
    """What to vary, one or more of OPTION=LOW:HIGH, OPTION=LOW:HIGH:log and OPTION=ONE|OTHER."""
    trials: int = 20
    """Total number of trials, including those that are already finished."""
    seeds: int = 1
    """Number of seeds per trial, trained together. A trial's score is their mean."""
    storage: Path | None = None
    """The file that stores the trials. By default OUT/sweep.db."""
    out: Path | None = None
    """The folder for the report sweep.md, written after every trial. By default runs/sweep-ENV."""


class ParsedSweep(NamedTuple):
    """The arguments that were typed, and the words among them that configure the training."""

    arguments: Sweep
    recipe: list[str]


def read(words: list[str]) -> ParsedSweep:
    """The arguments that were typed."""
    return ParsedSweep(parse_recipe(Sweep, "sweep", words), recipe_words(words))


def recipe_words(words: list[str]) -> list[str]:
    """The words without those that are the sweep's own."""
    own = {*own_options(Sweep)} - {*own_options(RecipeArguments)}
    kept, ours = [], True
    for word in understood("sweep", words, Sweep):
        if word.startswith("--"):
            ours = flat_name(word.partition("=")[0].replace("--no-", "--", 1)) not in own
        if ours:
            kept.append(word)
    return kept


def run(asked: ParsedSweep) -> int:
    """Sweep; returns the exit status: 1 if no trial finished."""
    from proximo.control.progress import shown
    from proximo.control.study import finished_trials, open_study
    from proximo.control.sweep import sweeping
    from proximo.control.sweep_report import outcome, text, write_report
    from proximo.runs.process import graceful_stop, prepare_process

    arguments = asked.arguments
    prepare_process()
    base, search = config_from(arguments), parse_search_space(arguments.vary, asked.recipe)
    out = arguments.out or absolute("runs") / f"sweep-{base.name.replace('/', '-')}"
    study = open_study(arguments.storage or out / "sweep.db", base, search, arguments.seeds)
    begun = reported = len(finished_trials(study))
    if begun and not arguments.quiet:
        print(
            f"continuing after {begun} trials in {short(arguments.storage or out / 'sweep.db')}",
            file=sys.stderr,
        )

    def report() -> dict[str, Any]:
        seeds = ["--seeds", str(arguments.seeds)] if arguments.seeds > 1 else []
        trained = ["proximo", "train", *asked.recipe, *seeds]
        found = outcome(study, search, lambda options: [*trained, *spelled(options)])
        write_report(out, text(found, f"Sweep of {base.name}"))
        return found

    rows = sweeping(
        study,
        lambda options: trial_config(asked.recipe, options),
        search,
        trials=arguments.trials,
        seeds=arguments.seeds,
        allow_import=True,
    )
    steps = max(arguments.trials - begun, 1) * arguments.seeds * base.steps
    progress = shown(rows, base, not arguments.quiet, steps)
    with graceful_stop() as stop, contextlib.closing(progress):
        for row in progress:
            if row.finished > reported:
                reported = row.finished
                report()
            if stop.requested:
                break
    found = report()
    print(json.dumps(found) if arguments.json else text(found, f"Sweep of {base.name}"))
    return stop.status or int(found["best"] is None)


def trial_config(recipe: list[str], options: "Mapping[str, Value]") -> Config:
    """The configuration of a trial: what the same words mean to `proximo train`. Raises UserError."""
    return config_from(parse_recipe(RecipeArguments, "sweep", [*recipe, *spelled(options)]))


def spelled(options: "Mapping[str, Value]") -> list[str]:
    """Options as words of the command line: `--hidden 64 64`, `--anneal`, `--no-anneal`."""
    return as_words({name: typed(name, value) for name, value in options.items()})


def typed(name: str, value: "Value") -> Any:
    """A value of a search as an option's own."""
    if bool in varied(name):
        return value == "true"
    return shlex.split(value) if isinstance(value, str) else value


def parse_search_space(vary: tuple[str, ...], recipe: list[str]) -> "Search":
    """The search space, as it was typed. Raises UserError if it cannot be parsed."""
    if not vary:
        raise UserError("pass --vary, such as --vary learning_rate=1e-5:1e-3:log")
    search: dict[str, Span | tuple[str, ...]] = {}
    for words in vary:
        asked, separator, values = words.partition("=")
        name = Dialect("sweep", RecipeArguments).aliases.get(f"--{asked.replace('_', '-')}", flat_name(asked))
        if not separator or not values:
            raise UserError(f"--vary {words} is neither OPTION=LOW:HIGH nor OPTION=ONE|OTHER")
        kinds = varied(name)
        if not kinds:
            raise UserError(f"{asked!r} is not an option that can be varied: see `proximo train --help`")
        if name in search or f"--{name.replace('_', '-')}" in recipe:
            raise UserError(f"{name} is given twice: vary it or set it")
        search[name] = choices(words, values, kinds) if "|" in values else span(words, values, kinds)
    return search


def varied(name: str) -> tuple[Any, ...]:
    """The types that an option's value may have; none for a name that is no option, or not to be varied."""
    option = flat_options(RecipeArguments).get(name)
    return () if option is None or name in FIXED else kinds_of(option.declared)


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
    from proximo.control.study import Span

    low, _, rest = values.partition(":")
    high, _, scale = rest.partition(":")
    kind = next((kind for kind in (float, int) if kind in kinds), None)
    if kind is None or not rest or scale not in ("", "log"):
        hint = "LOW:HIGH or LOW:HIGH:log" if kind else "ONE|OTHER: it cannot take a range of numbers"
        raise UserError(f"--vary {words} cannot be read: write it as {words.partition('=')[0]}={hint}")
    try:
        read = whole_number if kind is int else float
        bounds = read(low), read(high)
    except ValueError as error:
        raise UserError(f"--vary {words} cannot be read: {error}") from None
    if not all(map(math.isfinite, bounds)):
        raise UserError(f"--vary {words}: LOW and HIGH must be finite")
    if not bounds[0] < bounds[1] or (scale == "log" and bounds[0] <= 0):
        raise UserError(f"--vary {words}: LOW must be below HIGH, and above 0 for `log`")
    return Span(*bounds, log=scale == "log", whole=kind is int)
