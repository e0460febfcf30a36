"""The command that reproduces a run, from what its folder records.

A command is parsed again before it is shown, and shown only if it asks for what is recorded. Nothing that a
file names is imported: the user's own environment is shown as it was typed, without importing it.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from proximo.arguments import RecipeArguments, config_from, parse_recipe
from proximo.commands.train import RunArguments, Train
from proximo.control.config import as_json, validate
from proximo.control.files import SOURCE
from proximo.envs import name_of
from proximo.errors import UserError
from proximo.options import as_json as options_as_json
from proximo.options import as_words, changes, flat_name, flat_options, from_json, options_from
from proximo.own import described_in
from proximo.paths import with_absolute_paths
from proximo.runs.files import CONFIG, RESUMED_WITH
from proximo.runs.report.read import RunData
from proximo.runs.report.recipe import Rerun, is_registered, options_of, part_of, typed_words
from proximo.words import Dialect, Said, behind_key_values, groups, spelled

# How a run is kept and watched decides no number, and a folder that is there is taken.
KEPT = {*flat_options(RunArguments)} - {*flat_options(RecipeArguments)} - {"config"}
LATER = ("steps", "until")  # what a resumed run may have changed


def policy_commands(runs: Sequence[RunData]) -> Rerun:
    """The commands for runs of `proximo train` whose options are equal."""
    lines: dict[str, None] = {}
    reasons: dict[str, None] = {}
    untyped = []
    for run in runs:
        typed = _typed(run)
        if typed is None:
            untyped.append(run)
        else:
            lines |= {shlex.join(["proximo", "train", *words]): None for words in typed}
    if untyped and (options := options_of(untyped[0].config)):
        reason = _obstacle(untyped[0].config)
        for words in [] if reason else _by_options(untyped, options):
            try:
                asked, seeds = read_back(words)
            except UserError as error:
                reason = str(error)
                break
            if not _agree(asked, options) or not seeds:
                names = [name for name, value in options.items() if asked.get(name) != value]
                reason = f"no option sets its {', '.join(names[:3])}"
                break
            lines[shlex.join(["proximo", "train", *words])] = None
        if reason:
            reasons[f"{untyped[0].name} cannot be reproduced by a command: {reason}"] = None
    return Rerun(list(lines), list(reasons))


def _typed(run: RunData) -> list[list[str]] | None:
    """The words after `proximo train` that were typed, without `KEPT`, if they make the run today.

    One line, unless the run was resumed with other --steps, over which a rate is annealed: then one for each
    part.
    """
    config, words = run.config, typed_words(run.config)
    if not words or words[0] != "train" or {"--help", "-h"} & {*words}:
        return None
    try:
        own, said = _said(words[1:])
    except UserError:
        return None
    if own is None or name_of(own) != config.get("env"):
        return None
    parts = _resumed(config)
    until = {"until": config["until"]} if parts and config.get("until") is not None else {}
    kept = [one for one in said if _option(one) not in until]
    plain = [*_spelled(own, kept), *as_words(until)]
    steps = [value for part in parts if (value := part.get("steps")) is not None]
    # To read back what names the user's own code would import it.
    if ":" not in own and is_registered(own) and not described_in(config):
        if any(_option(one) == "config" for one in said):
            return None  # a file may change: its options are said instead
        try:
            asked, seeds = read_back(plain)
        except UserError:
            return None
        recorded = options_of(config)
        steps = [value for value in steps if value != str(asked["steps"])]
        asked["steps"] = int(steps[-1]) if steps else asked["steps"]
        if not _agree(asked, recorded) or config.get("seed") not in seeds:
            return None
    if not steps:
        return [plain]
    out = f"{run.path.name}-again"
    several = any(_option(one) == "seeds" and one.values != ("1",) for one in said)
    member = f"{out}/seed-{config.get('seed')}" if several else out
    imported = [*([own] if ":" in own else []), *as_words(described_in(config))]
    return [[*plain, "--out", out], *([*imported, "--resume", member, "--steps", value] for value in steps)]


def _resumed(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """What each command that resumed a run said of `LATER`."""
    again = config.get(RESUMED_WITH)
    found = []
    for words in again if isinstance(again, list) else []:
        plain = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
        with contextlib.suppress(UserError):
            said = {_option(one): one.values[-1] for one in groups(plain[1:])[1] if one.values}
            found.append({name: value for name, value in said.items() if name in LATER})
    return found


DIALECT = Dialect("train", Train)


def _option(said: Said) -> str:
    """Which of our options a word is."""
    name = said.name.replace("--no-", "--", 1) if flat_name(said.name) not in DIALECT.options else said.name
    return DIALECT.aliases.get(name, flat_name(name))


def _said(words: Sequence[str]) -> tuple[str | None, list[Said]]:
    """The environment, and the options as they were typed, without `KEPT`."""
    _, every = groups(words, "--env")
    env, kept = None, []
    for said in behind_key_values(every, DIALECT):
        option = DIALECT.options.get(_option(said))
        if _option(said) == "env" and said.values:
            env = said.values[0]
            continue
        if option is not None and option.declared is bool and said.values not in ((), ("true",), ("false",)):
            env, said = said.values[-1], said._replace(values=said.values[:-1])  # behind a switch
        if _option(said) not in KEPT:
            kept.append(said)
    return env, kept


def _spelled(env: str, said: Sequence[Said]) -> list[str]:
    return [env, *(word for one in said for word in _as_typed(one))]


def _as_typed(said: Said) -> list[str]:
    return spelled(said, DIALECT) if _option(said) == flat_name(said.name) else [said.name, *said.values]


def _by_options(runs: Sequence[RunData], options: Mapping[str, Any]) -> list[list[str]]:
    """The words that say every recorded option: one line for seeds that follow each other, else one each."""
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    line = [runs[0].env, *as_words(options)]
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return [[*line, "--seeds", str(len(seeds)), *(["--seed", str(seeds[0])] if seeds[0] else [])]]
    return [[*line, *(["--seed", str(seed)] if seed else [])] for seed in seeds or [0]]


def _obstacle(config: Mapping[str, Any]) -> str | None:
    """Why no command makes the environment of a run that was begun from Python; None where one does."""
    described, env = part_of(dict(config), "env_description"), config.get("env")
    if not isinstance(env, str) or ":" in env or not is_registered(env):
        source = config.get(SOURCE)
        if isinstance(source, str) and source.isprintable():
            return f"it was started from Python; on the command line its environment is {source}"
        return f"{env} is not registered here, and the module that it came from is not recorded"
    if described.get("obstacle"):
        return str(described["obstacle"])
    wrappers = described.get("wrappers")
    if isinstance(wrappers, list) and wrappers:
        return f"it was started from Python, with {env} wrapped in {wrappers[0][0]}"
    return None


def read_back(words: Sequence[str]) -> tuple[dict[str, Any], range]:
    """What `proximo train WORDS` asks for: every option as a run records it, and its seeds.

    The first word is a registered environment: nothing is imported. Raises UserError for what cannot be.
    """
    if ":" in words[0] or not is_registered(words[0]):
        raise UserError(f"{words[0]} is not registered here")
    arguments = parse_recipe(Train, "train", list(words))
    config = validate(config_from(arguments))
    plain = json.loads(json.dumps(as_json(config)))
    return options_of(plain), range(config.seed, config.seed + arguments.seeds)


def _agree(asked: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Whether each option that was recorded is asked for; those that are newer stand as they are."""
    return all(name in asked and asked[name] == value for name, value in recorded.items())


# ---- language models


def language_commands(runs: Sequence[RunData]) -> Rerun:
    """The commands for runs of `proximo lm`, one for each, from the options that are recorded."""
    lines: dict[str, None] = {}
    reasons: dict[str, None] = {}
    for run in runs:
        try:
            lines[shlex.join(["proximo", *language_words(run)])] = None
        except UserError as error:
            reasons[f"{run.name} cannot be reproduced by a command: {error}"] = None
    return Rerun(list(lines), list(reasons))


def language_words(run: RunData) -> list[str]:
    """The words after `proximo` that make a run of a language model again: the options that are no defaults.

    Raises UserError where no words do.
    """
    from proximo.commands.lm_train import read
    from proximo.language import need_libraries
    from proximo.language.running import method
    from proximo.language.train.options import RunOptions

    need_libraries()
    command = run.env.removeprefix("lm ")
    kind, _ = method(command)
    recorded: Any = from_json(kind, run.config.get("options"), str(run.path / CONFIG))
    begun = replace(RunOptions(), seed=recorded.run.seed)
    recorded = replace(recorded, run=begun)
    rewards = recorded.rewards.reward if hasattr(recorded, "rewards") else ()
    for name in rewards:
        if not NAMED.fullmatch(name) or name.startswith("__main__:"):
            raise UserError(f"its reward is {name}, a function from Python that no command can name")
    given = changes(recorded, options_from(kind, {"model": "", "data": ""}))
    order = {name: given[name] for name in ("model", "data") if name in given}
    words = as_words(order | given)
    if language_json(read(command, words).arguments.options) != language_json(recorded):
        raise UserError("the command line cannot set all of its options")
    return ["lm", command, *words]


NAMED = re.compile(r"[\w.]+:\w+")


def language_json(options: Any) -> Any:
    """Options as plain data, paths as they are from the root on."""
    return options_as_json(with_absolute_paths(options))
