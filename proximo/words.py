"""Translates what a user types after a command, and a `--config` file, into our own options.

Other libraries' names are understood too. Names with the same meaning are listed beside the option. Those
that translate to other values, or to several options, are here. `foreign` has those without a counterpart.
"""

import json
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_origin

from proximo.declared import kinds_of
from proximo.errors import UserError
from proximo.foreign import BATCH, PARTS, TRAINED, Foreign, foreign
from proximo.options import Option, flat_name, flat_options, kebab, unknown
from proximo.paths import absolute
from proximo.plain import whole_number

# `{}` is the value. One without `{}` is a switch: it is said where the value is true or missing.
SAID_BY_OTHERS = {
    "--bf16": "--precision bfloat16",
    "--clip": "--objective clip:{}",
    "--cliprange": "--objective clip:{}",
    "--cliprange-value": "--value-loss clipped-squared-error:{}",
    "--env-id": "--env {}",
    "--epsilon": "--objective clip:{}",
    "--kl-coef": "--kl fixed-kl:{}",
    "--label-smoothing": "--loss conservative-loss:{}",
    "--mask-truncated-completions": "--truncated mask",
}
TOGETHER = (BATCH, PARTS, "--use-peft", "--report-to")  # or with values of their own
ATTENTION_AND_MLP = {
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "output",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "c_attn": "query key value",  # GPT-2's
    "c_fc": "up",
    "c_proj": "output down",
}
# (their word, our option): what their values are called here
VALUES: dict[tuple[str, str], dict[str, str]] = {
    ("--lora-targets", "lora_targets"): ATTENTION_AND_MLP,
    ("--lora-target-modules", "lora_targets"): ATTENTION_AND_MLP,
    ("--lr-scheduler-type", "schedule"): {"constant_with_warmup": "constant"},
    ("--torch-dtype", "precision"): {"auto": "float32"},
    ("--dtype", "precision"): {"auto": "float32"},
}
CLOSED: dict[tuple[str, str], dict[str, str]] = {  # the same, where there are no others
    ("--loss-type", "loss"): {"sigmoid": "sigmoid-loss", "ipo": "ipo-loss"},
    ("--loss-type", "aggregation"): dict(grpo="sequences", dapo="tokens", bnpo="tokens", dr_grpo="length"),
    ("--scale-rewards", "advantage"): dict(
        true="standardised", group="standardised", false="centred", none="centred"
    ),
}
REPORTS = ("tensorboard", "wandb")  # those of --report-to
PEFT = {"--lora-rank": "16", "--lora-alpha": "32"}  # what --use-peft alone means to TRL
GROUP = 8  # samples of a prompt in GRPO, TRL's default and ours


class Said(NamedTuple):
    """An option with its values, such as `--reward a:b c:d`; `typed`, or read from a file.

    by  its name before it was translated
    """

    name: str
    values: tuple[str, ...]
    typed: bool = True
    by: str = ""


class Dialect:
    """What a command understands.

    command  `train`, `sft`, `ppo`, ...
    kind     the class of its arguments
    """

    def __init__(self, command: str, kind: Any) -> None:
        self.command, self.options = command, flat_options(kind)
        unnamed = [name for name, one in self.options.items() if one.positional]
        self.has_unnamed = bool(unnamed)
        self.first = f"--{next(iter(unnamed), 'model')}"  # what a word before all options is
        self.aliases = {alias: name for name, one in self.options.items() for alias in one.aliases}
        self.foreign = foreign(command)
        self.converted = {
            theirs: ours
            for theirs, ours in SAID_BY_OTHERS.items()
            if flat_name(ours.split()[0]) in self.options and flat_name(theirs) not in self.options
        }
        self.together = {*(TOGETHER if command in TRAINED else ())}
        self.together |= {"--epsilon-high"} if command == "grpo" else set()

    @property
    def others(self) -> set[str]:
        """All words of other libraries that it knows, whether it translates or refuses them."""
        return {*self.aliases, *self.converted, *self.together, *self.foreign}


def understood(command: str, words: Sequence[str], kind: Any) -> list[str]:
    """The words under our own names; what is typed overrides the `--config` file.

    command  `train`, `sft`, `ppo`, ...
    kind     the class of its arguments

    A first word that is not an option is the model, the environment or the run. Raises UserError for a file
    that cannot be read or that names an unknown option, for other libraries' options that have no counterpart
    or contradict each other, and for code that the file names, such as a reward function, unless it is also
    typed: a file may not import code.
    """
    dialect = Dialect(command, kind)
    loose, typed = groups(words, dialect.first)
    typed = list(behind_key_values(typed, dialect))
    written = []
    if "config" in dialect.options:
        files = [said for said in typed if said.name == "--config"]
        typed = [said for said in typed if said.name != "--config"]
        if files and [len(said.values) for said in files] != [1]:
            raise UserError("--config takes one TOML file")
        if files and any(said.name == "--resume" for said in typed):
            raise UserError("with --resume the options come from the run: leave out --config")
        written = [said for file in files for said in of_file(file.values[0], dialect)]
    found = joined(translated([*written, *typed], dialect), dialect)
    for said in found:
        if not said.typed and _names_code(said, dialect):
            raise UserError(f"a file may not import code: {_with_typed(said, command, words, dialect)}")
        _check_alone(said, dialect)
    found.sort(key=lambda said: said.name != dialect.first)  # it has no name there, and stands first
    return [*(word for said in found for word in spelled(said, dialect)), *loose]


def _names_code(said: Said, dialect: Dialect) -> bool:
    """Whether an option asks for an import of the user's code."""
    option = dialect.options.get(flat_name(said.name))
    if option is not None and option.or_own:  # `clip:0.2` is ours, `my_module:Mine` is not
        ours = {kebab(kind.__name__) for kind in kinds_of(option.declared)}
        return any(":" in value and value.partition(":")[0] not in ours for value in said.values)
    return said.name == "--reward" or (said.name == "--env" and any(":" in value for value in said.values))


def _with_typed(said: Said, command: str, words: Sequence[str], dialect: Dialect) -> str:
    """The command with what its file must not ask for."""
    if said.name != dialect.first:
        return f"confirm it by typing {said.name} {' '.join(said.values)}"
    return f"type: {shlex.join(['proximo', command, *said.values, *words])}"


def _check_alone(said: Said, dialect: Dialect) -> None:
    """Raises UserError where there are two words for the one that stands without a name."""
    option = dialect.options.get(flat_name(said.name))
    if option is None or not option.positional or _takes_several(option) or len(said.values) < 2:
        return
    other = "env" in dialect.options and said.name != "--env"
    hint = f": to name the environment, write --env {said.values[1]}" if other else ""
    raise UserError(f"give one {flat_name(said.name).upper()}, not {' '.join(said.values)}{hint}")


def behind_key_values(every: Sequence[Said], dialect: Dialect) -> Iterator[Said]:
    """The options, where the word without a name may stand behind `--env-kwargs KEY=VALUE ...`."""
    named = any(said.name == dialect.first for said in every)
    for said in every:
        option = dialect.options.get(flat_name(said.name))
        of_pairs = option is not None and get_origin(option.declared) is dict and len(said.values) > 1
        if of_pairs and not named and "=" not in said.values[-1]:
            yield Said(dialect.first, said.values[-1:])
            said = said._replace(values=said.values[:-1])
        yield said


def joined(every: Sequence[Said], dialect: Dialect) -> list[Said]:
    """The options without those of a file that are typed too; values that are typed apart are put together.

    Raises UserError where two words give the same option different values.
    """
    found: list[Said] = []
    at: dict[tuple[str, bool], int] = {}
    for said in every:
        place = at.setdefault((said.name, said.typed), len(found))
        before = found[place] if place < len(found) else None
        if before is not None and said.typed and _takes_several(dialect.options.get(flat_name(said.name))):
            found[place] = before._replace(values=before.values + said.values)
            continue
        if before is not None and before.by != said.by and before.values != said.values:
            raise UserError(f"{before.by} and {said.by} both set {said.name}: give only one of them")
        found.append(said)
    return [said for said in found if said.typed or (said.name, True) not in at]


def groups(words: Iterable[str], first: str = "--model") -> tuple[list[str], list[Said]]:
    """The words that belong to no option, and each option with its values.

    first  the option whose value a first word is

    Underscores in names are hyphens; `--name=value` is `--name value`.
    """
    loose: list[str] = []
    found: list[Said] = []
    for index, word in enumerate(words):
        if word in ("-h", "--help"):
            loose.append("--help")
        elif word == "--":
            raise UserError("-- stands alone: to give a value that begins with a hyphen, write --name=VALUE")
        elif word.startswith("--"):
            name, separator, value = word.partition("=")
            found.append(Said(name.replace("_", "-"), (value,) if separator else ()))
        elif index == 0:
            found.append(Said(first, (word,)))
        elif found:
            found[-1] = found[-1]._replace(values=(*found[-1].values, word))
        else:
            loose.append(word)
    return loose, found


def of_file(path: str, dialect: Dialect) -> list[Said]:
    """The options in a TOML file: flat, with hyphens or underscores, ours or others'."""
    try:
        text = absolute(path).read_text()
        content = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if path.endswith(".json"):
            raise UserError(
                f"--config {path} is JSON: write TOML, a line such as gamma = 0.99 for each option. (A run's "
                "config.json is a record: `proximo report RUN` shows the command that made it)"
            ) from error
        raise UserError(f"--config {path} is not TOML ({' '.join(str(error).split())[:200]})") from error
    known = {*dialect.options, *map(flat_name, dialect.others)} - {"config", "resume"}
    found = []
    for key, value in content.items():
        name = key.replace("-", "_")
        option = dialect.options.get(name)
        if isinstance(value, dict) and option is not None and get_origin(option.declared) is dict:
            pairs = tuple(f"{argument}={json.dumps(one)}" for argument, one in value.items())
            found.append(Said(f"--{name.replace('_', '-')}", pairs, typed=False))
            continue
        if isinstance(value, dict):
            raise UserError(
                f"--config {path}: [{key}] is a table: write options at the top level, without tables"
            )
        if name not in known:
            raise UserError(f"--config {path}: {unknown(key, known)}")
        values = value if isinstance(value, list) else [value]
        words = [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
        found.append(Said(f"--{name.replace('_', '-')}", tuple(words), typed=False))
    return found


def translated(every: Sequence[Said], dialect: Dialect) -> list[Said]:
    """The options by our own names. Raises UserError for those of others that have no counterpart."""
    every = [_switched(said, dialect)._replace(by=said.name) for said in every]
    last = {said.name: said for said in every}
    found: list[Said] = []
    for said in every:
        foreign = dialect.foreign.get(said.name)
        if _is_harmless(said, foreign) or _is_said_already(said, last, dialect):
            continue
        if said.name in dialect.together:
            found += _put_together(said, last, dialect)
        elif foreign is not None:
            raise UserError(f"{said.name}: {foreign.instead}")
        else:
            found += _renamed(said, dialect)
    return found


def _switched(said: Said, dialect: Dialect) -> Said:
    """`--no-bf16` is `--bf16 false`; a name that itself begins with `no-` stays."""
    name = said.name.replace("--no-", "--", 1)
    if said.name == name or said.values:
        return said
    option = dialect.options.get(dialect.aliases.get(name, flat_name(name)))
    is_switch = option is not None and option.declared is bool
    is_switch = is_switch or "{}" not in dialect.converted.get(name, "{}")
    # transformers' parser has `--no-NAME` for every switch that is on by itself
    is_switch = is_switch or name in dialect.foreign
    return said._replace(name=name, values=("false",)) if is_switch else said


def _is_harmless(said: Said, foreign: Foreign | None) -> bool:
    """Whether an option of others asks for what happens here anyway, or for nothing."""
    values = " ".join(said.values).lower() or "true"
    return foreign is not None and (foreign.harmless is None or values in foreign.harmless)


def _is_said_already(said: Said, last: Mapping[str, Said], dialect: Dialect) -> bool:
    """Whether another word of others contains what this one says."""
    if said.name == "--loss-type" and said.values == ("sigmoid",):
        return "--label-smoothing" in last  # together they are the conservative loss
    if said.name == "--model-name-or-path":
        return "--sft-model-path" in last  # TRL's PPO takes only the tokenizer from there
    return said.name == "--epsilon" and "--epsilon-high" in last and "--epsilon-high" in dialect.together


def _put_together(said: Said, last: Mapping[str, Said], dialect: Dialect) -> list[Said]:
    """What a word of others says together with the rest of them."""
    if said.name in (BATCH, PARTS):
        if BATCH not in last:
            raise UserError(f"{said.name}: {dialect.foreign[said.name].instead}")
        return [_batch_size(dialect.command, last)]
    if said.name == "--epsilon-high":
        low = _one(last["--epsilon"]) if "--epsilon" in last else "0.2"
        return [Said("--objective", (f"asymmetric-clip:{low},{_one(said)}",), said.typed)]
    if said.name == "--use-peft":
        others = [other for name, other in last.items() if name not in dialect.together]
        given = {ours.name for other in others for ours in _renamed(other, dialect)}
        new = PEFT.items() if _is_on(said) else ()
        return [Said(name, (number,), said.typed) for name, number in new if name not in given]
    wanted = REPORTS if said.values == ("all",) else said.values
    for name in wanted:
        if name not in REPORTS:
            raise UserError(
                f"--report-to {name}: there are {' and '.join(REPORTS)}; "
                "RUN/metrics.jsonl has every number in any case"
            )
    return [Said(f"--{name}", ("true",), said.typed, said.name) for name in wanted]


def _renamed(said: Said, dialect: Dialect) -> list[Said]:
    """An option by our own name, its values by ours; nothing for a switch that is off."""
    if said.name in dialect.converted:
        name, _, rest = dialect.converted[said.name].partition(" ")
        if "{}" in rest:
            return [said._replace(name=name, values=(rest.format(_one(said)),))]
        return [said._replace(name=name, values=(rest,))] if _is_on(said) else []
    ours = dialect.aliases.get(said.name, flat_name(said.name))
    called = VALUES.get((said.name, ours), {}) | CLOSED.get((said.name, ours), {})
    if (said.name, ours) in CLOSED:
        for one in said.values:
            if one.lower() not in {*called, *called.values()}:
                raise UserError(f"{said.name} {one}: it may be one of {', '.join(called)}")
    values = [
        word
        for one in said.values
        for word in (called[one.lower()].split() if one.lower() in called else [one])
    ]
    return [said._replace(name=f"--{ours.replace('_', '-')}", values=tuple(values))]


def _batch_size(command: str, last: Mapping[str, Said]) -> Said:
    """TRL counts rows of a pass; here a batch is all that a step learns from, prompts where it samples."""
    parts, samples = last.get(PARTS), last.get("--num-generations", last.get("--samples"))
    rows = _whole(last[BATCH]) * (_whole(parts) if parts else 1)
    typed = last[BATCH].typed or (parts is not None and parts.typed)
    if command != "grpo":
        return Said("--batch-size", (str(rows),), typed)
    group = _whole(samples) if samples else GROUP
    if rows % group:
        raise UserError(
            f"{BATCH} makes batches of {rows} responses: the {group} responses per prompt must divide that"
        )
    return Said("--batch-size", (str(rows // group),), typed)


def spelled(said: Said, dialect: Dialect) -> list[str]:
    """An option as words of the command line."""
    option = dialect.options.get(flat_name(said.name))
    if option is not None and option.positional:
        return list(said.values)
    if option is not None and option.declared is bool:
        if dialect.has_unnamed and said.values not in ((), ("true",), ("false",)):
            return [said.name, *said.values]  # the environment behind a switch
        return [said.name if _is_on(said) else f"--no-{said.name.removeprefix('--')}"]
    if len(said.values) == 1 and said.values[0].startswith("-"):
        return [f"{said.name}={said.values[0]}"]
    return [said.name, *said.values]


def _takes_several(option: Option | None) -> bool:
    return option is not None and any(get_origin(kind) is tuple for kind in kinds_of(option.declared))


def _is_on(said: Said) -> bool:
    values = tuple(value.lower() for value in said.values)
    if values not in ((), ("true",), ("false",)):
        raise UserError(f"{said.name} {' '.join(said.values)}: it is a switch: write true, false or nothing")
    return values != ("false",)


def _one(said: Said) -> str:
    if len(said.values) != 1:
        raise UserError(f"{said.name} takes one value, not {len(said.values)}")
    return said.values[0]


def _whole(said: Said) -> int:
    try:
        return whole_number(_one(said))
    except ValueError as error:
        raise UserError(f"{said.name}: {error}") from None
