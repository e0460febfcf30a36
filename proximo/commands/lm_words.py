"""What a user types after `proximo lm COMMAND`, and what stands in a `--config` file, as words of ours."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_origin

from proximo.commands.lm_aliases import (
    ALIASES,
    BATCH,
    GROUP,
    LOSS_TYPES,
    PARTS,
    PEFT,
    REPORTS,
    VALUES,
)
from proximo.commands.lm_without import HARMLESS, HARMLESS_BY, REFUSED, REFUSED_BY
from proximo.errors import UserError
from proximo.language.flat import unknown
from proximo.language.options import kinds_of

CLOSED = ("--loss-type", "--scale-rewards")
"""Options of TRL's whose values are all translated: others have no counterpart."""

TRAINED = ("sft", "reward", "ppo", "dpo", "grpo")


class Said(NamedTuple):
    """An option with its values, such as `--reward a:b c:d`; `typed`, or read from a file.

    by  its name before it was translated
    """

    name: str
    values: tuple[str, ...]
    typed: bool = True
    by: str = ""


def understood(command: str, words: Sequence[str], types: Mapping[str, Any]) -> list[str]:
    """The words in our own names; what is typed wins over the `--config` file.

    command  `sft`, `ppo`, ...
    types    every option of the command by its flat name

    The first word may be the model. Raises UserError for a file that cannot be read or that names an unknown
    option, for names of TRL that have no counterpart or contradict each other, and for a reward function in
    the file that is not confirmed on the command line: it imports a module, which no file may ask for.
    """
    loose, typed = groups(words)
    files = [path for said in typed if said.name == "--config" for path in said.values]
    if "--config" in {said.name for said in typed} and len(files) != 1:
        raise UserError("--config takes one TOML file")
    written = [said for path in files for said in of_file(command, path, types)]
    every = [*written, *(said for said in typed if said.name != "--config")]
    found: dict[str, Said] = {}
    for said in sorted(translated(command, every, types), key=lambda said: said.typed):
        before = found.get(said.name)
        if before is not None and before.typed == said.typed:
            if said.typed and _takes_several(types.get(flat(said.name))):
                said = said._replace(values=before.values + said.values)
            elif before.by != said.by and before.values != said.values:
                raise UserError(f"{before.by} and {said.by} both say what {said.name} is: give one of them")
        found[said.name] = said
    reward = found.get("--reward")
    if reward is not None and not reward.typed:
        named = " ".join(reward.values)
        raise UserError(f"a file never imports a module: confirm it by typing --reward {named}")
    return [*loose, *(word for said in found.values() for word in spelled(said, types))]


def groups(words: Iterable[str]) -> tuple[list[str], list[Said]]:
    """The words that belong to no option, and each option with its values.

    A first word is the model; underscores in names are hyphens; `--name=value` is `--name value`.
    """
    loose: list[str] = []
    found: list[Said] = []
    for index, word in enumerate(words):
        if word in ("-h", "--help"):
            loose.append("--help")
        elif word == "--":
            raise UserError("-- stands alone: to give a value that begins with a hyphen, say --name=VALUE")
        elif word.startswith("--"):
            name, separator, value = word.partition("=")
            found.append(Said(name.replace("_", "-"), (value,) if separator else ()))
        elif index == 0:
            found.append(Said("--model", (word,)))
        elif found:
            found[-1] = found[-1]._replace(values=(*found[-1].values, word))
        else:
            loose.append(word)
    return loose, found


def of_file(command: str, path: str, types: Mapping[str, Any]) -> list[Said]:
    """The options in a TOML file: flat, with hyphens or underscores, ours or TRL's."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--config {path} is not TOML ({' '.join(str(error).split())[:200]})") from error
    known = {*types, *map(flat, trl_names(command))} - {"config", "resume"}
    found = []
    for key, value in content.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise UserError(
                f"--config {path}: [{key}] is a table: options stand side by side, without tables"
            )
        if name not in known:
            raise UserError(f"--config {path}: {unknown(key, known)}")
        values = value if isinstance(value, list) else [value]
        words = [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
        found.append(Said(f"--{name.replace('_', '-')}", tuple(words), typed=False))
    return found


def trl_names(command: str) -> set[str]:
    """All names of TRL's that a command knows: to take, or to say why not."""
    names = {*ALIASES[command]}
    if command in TRAINED:
        names |= {*harmless(command), *refused(command), BATCH, PARTS, "--use-peft"}
    return names | ({"--epsilon-high"} if command == "grpo" else set())


def harmless(command: str) -> dict[str, tuple[str, ...]]:
    """TRL's options that ask for nothing of a training command -> with which values; () for any."""
    return HARMLESS | HARMLESS_BY.get(command, {})


def refused(command: str) -> dict[str, str]:
    """TRL's options that a training command has no counterpart of -> what to say instead."""
    return REFUSED | REFUSED_BY.get(command, {})


def translated(command: str, every: Sequence[Said], types: Mapping[str, Any]) -> list[Said]:
    """The options by our own names. Raises UserError for those of TRL that have no counterpart."""
    every = [_switched(said, types, command) for said in every]
    instead = refused(command) if command in TRAINED else {}
    last = {said.name: said for said in every}
    found: list[Said] = []
    for said in every:
        if command in TRAINED and _is_harmless(said, harmless(command)):
            continue
        if said.name == "--loss-type" and "--label-smoothing" in last and said.values == ("sigmoid",):
            continue  # together they are the conservative loss, which contains the other
        if said.name == "--model-name-or-path" and "--sft-model-path" in last:
            continue  # TRL's PPO takes only the tokenizer from there
        if said.name == "--epsilon" and "--epsilon-high" in last and command == "grpo":
            continue
        if said.name in (BATCH, PARTS) and BATCH in last and command in TRAINED:
            found.append(_batch_size(command, last))
        elif said.name == "--epsilon-high" and command == "grpo":
            low = _one(last["--epsilon"]) if "--epsilon" in last else "0.2"
            found.append(Said("--objective", (f"asymmetric-clip:{low},{_one(said)}",), said.typed))
        elif said.name == "--use-peft" and command in TRAINED:
            given = {ours.name for other in every for ours in _renamed(command, other)}
            new = PEFT.items() if _is_on(said) else ()
            found += [Said(name, (number,), said.typed) for name, number in new if name not in given]
        elif said.name == "--report-to" and command in TRAINED:
            found += _reports(said)
        elif said.name in instead:
            raise UserError(f"{said.name}: {instead[said.name]}")
        else:
            found += _renamed(command, said)
    return found


def _switched(said: Said, types: Mapping[str, Any], command: str) -> Said:
    """`--no-bf16` is `--bf16 false`; a name that begins so by itself stays."""
    name = said.name.replace("--no-", "--", 1)
    is_switch = types.get(flat(name)) is bool or "{}" not in ALIASES[command].get(name, "{}")
    if command in TRAINED:  # transformers' parser has `--no-NAME` for every switch that is on by itself
        is_switch = is_switch or name in harmless(command)
    if said.name == name or said.values or not is_switch:
        return said
    return said._replace(name=name, values=("false",))


def _is_harmless(said: Said, known: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an option of TRL's asks for what happens here anyway, or for nothing."""
    values = " ".join(said.values).lower() or "true"
    return said.name in known and (not known[said.name] or values in known[said.name])


def _renamed(command: str, said: Said) -> list[Said]:
    """An option by our own name, its values by ours; nothing for a switch that is off."""
    template, said = ALIASES[command].get(said.name), said._replace(by=said.name)
    if template is None:
        return [said]
    name, _, rest = template.partition(" ")
    if "{}" not in rest:
        return [said._replace(name=name, values=(rest,))] if _is_on(said) else []
    called = LOSS_TYPES[command] if said.name == "--loss-type" else VALUES.get(said.name, {})
    unknown_ones = [one for one in said.values if one.lower() not in {*called, *called.values()}]
    if said.name in CLOSED and unknown_ones:
        raise UserError(f"{said.name} {unknown_ones[0]}: it may be one of {', '.join(called)}")
    words = [
        w for one in said.values for w in (called[one.lower()].split() if one.lower() in called else [one])
    ]
    if rest != "{}":
        words = [rest.format(_one(said._replace(values=tuple(words))))]
    return [said._replace(name=name, values=tuple(words))]


def _reports(said: Said) -> list[Said]:
    """`--report-to wandb` is `--wandb`."""
    wanted = REPORTS if said.values == ("all",) else said.values
    for name in wanted:
        if name not in REPORTS:
            raise UserError(
                f"--report-to {name}: there are {' and '.join(REPORTS)}; "
                "every number is a line of RUN/metrics.jsonl in any case"
            )
    return [Said(f"--{name}", ("true",), said.typed, said.name) for name in wanted]


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
            f"{BATCH} makes batches of {rows} responses: {group} for each prompt must divide them"
        )
    return Said("--batch-size", (str(rows // group),), typed)


def spelled(said: Said, types: Mapping[str, Any]) -> list[str]:
    """An option as words of the command line."""
    if types.get(flat(said.name)) is bool:
        return [said.name if _is_on(said) else f"--no-{said.name.removeprefix('--')}"]
    if len(said.values) == 1 and said.values[0].startswith("-"):
        return [f"{said.name}={said.values[0]}"]
    return [said.name, *said.values]


def flat(name: str) -> str:
    """`--learning-rate` -> `learning_rate`."""
    return name.removeprefix("--").replace("-", "_")


def _takes_several(declared: Any) -> bool:
    return any(get_origin(kind) is tuple for kind in kinds_of(declared))


def _is_on(said: Said) -> bool:
    values = tuple(value.lower() for value in said.values)
    if values not in ((), ("true",), ("false",)):
        raise UserError(f"{said.name} {' '.join(said.values)}: it is a switch, so say true, false or nothing")
    return values != ("false",)


def _one(said: Said) -> str:
    if len(said.values) != 1:
        raise UserError(f"{said.name} takes one value, not {len(said.values)}")
    return said.values[0]


def _whole(said: Said) -> int:
    try:
        return int(_one(said))
    except ValueError:
        raise UserError(f"{said.name} is {_one(said)!r}: it must be a whole number") from None
