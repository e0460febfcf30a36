"""Recognises a folder of another kind than the command needs, and says so."""

import re
from pathlib import Path
from typing import Any

from proximo.errors import UserError
from proximo.runs.files import CONFIG
from proximo.runs.sealed import json_object

SCORES = ("reward",)  # commands whose models score a text, and do not write one


def check_is_policy(place: Path) -> None:
    """Raises UserError, naming what is meant, for a folder of a language model or of several runs."""
    said = language_advice(place)
    if said is not None:
        raise UserError(said)
    inside = runs_inside(place)
    if inside:
        names = ", ".join(map(str, inside[:3])) + (", ..." if len(inside) > 3 else "")
        raise UserError(
            f"{place} holds {len(inside)} runs: name one of them ({names}), or use `proximo "
            "report` for all of them"
        )


def runs_inside(place: Path) -> list[Path]:
    """The runs in a folder that is none itself, such as one of `train --seeds`: seed-2 before seed-10."""
    if not place.is_dir() or (place / CONFIG).exists() or (place / "model.json").exists():
        return []
    return sorted((path.parent for path in place.glob(f"*/{CONFIG}")), key=natural)


def natural(path: Path) -> list[Any]:
    """A key that puts seed-2 before seed-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def language_command(place: Path) -> str | None:
    """The command of `proximo lm` that made a run; None if none did."""
    content = config_of(place)
    command = content.get("command")
    if not isinstance(command, str) or "options" not in content:
        return None
    return "".join(letter for letter in command if letter.isalnum())[:20]  # from a file: it may be anything


def language_advice(place: Path) -> str | None:
    """What to do with the folder of a language model instead; None if it is none."""
    command = language_command(place)
    if command is not None:
        kind = f"is a run of `proximo lm {command}`"
    elif "model_type" in config_of(place) or (place / "adapter_config.json").exists():
        kind = "holds a language model"
    else:
        return None
    writes = "" if command in SCORES else f", `proximo lm chat {place}` chats with it"
    return f"{place} {kind}: `proximo lm eval {place}` measures it{writes}"


def is_policy_run(place: Path) -> bool:
    """Whether it is a run of `proximo train`, or the model of one."""
    content = config_of(place)
    return (isinstance(content.get("env"), str) and "update" in content) or (place / "model.json").is_file()


def refuse_policy(place: Path) -> None:
    """Raises UserError, with the commands to use, for a run of `proximo train`: it is no language model."""
    if is_policy_run(place):
        raise UserError(
            f"{place} is a run of `proximo train`, not a language model: `proximo evaluate {place}` measures "
            f"it, `proximo watch {place}` shows it, `proximo train --resume {place}` resumes it"
        )


def config_of(place: Path) -> dict[str, Any]:
    """The configuration of a run or a model; empty where there is none that can be read."""
    try:
        return json_object(place / CONFIG)
    except UserError:
        return {}
