"""How a run was made, in words: its options, its preset, the words that were typed."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from proximo.envs import find_spec
from proximo.envs.scaling import OLDER_FILES
from proximo.errors import UserError
from proximo.runs.files import RESUMED_WITH
from proximo.runs.report.read import RunData

PARTS = ("update", "network")
NOT_OPTIONS = (
    *(
        "env",
        "env_description",
        "env_source",
        "seed",
        "preset",
        "command",
        RESUMED_WITH,
        "versions",
        "fingerprint",
    ),
    # of a language model's run, whose options are flat beside these; the last ones say how it is kept
    *("options", "iterations", "out", "checkpoint_every", "max_time", "tensorboard", "wandb"),
    "wandb_project",
    *("evaluation", "start_from"),  # what else the command said: it is shown as it was typed
)

# An actor step other than PPO's is what a method is called by; else the objective is.
METHODS = {
    "SingleGradient": "REINFORCE: one gradient step on each batch",
    "AdaptiveGradient": "Policy gradient whose step size follows a target KL",
    "NaturalGradient": "Natural policy gradient",
    "TrustRegion": "Trust Region Policy Optimization",
    "AverageTrustRegion": "Policy gradient within ACER's trust region",
    "CrossEntropy": "Cross-entropy method",
}
PLAIN = "PolicyGradient"
OBJECTIVES = {
    "Clip": "the clipped objective",
    "LogClip": "the objective clipped in log space",
    "DualClip": "the doubly clipped objective",
    "AsymmetricClip": "an asymmetric clip",
    "Unclipped": "the unclipped objective",
    "KLPenalty": "a KL penalty",
    "AdaptiveKLPenalty": "an adaptive KL penalty",
    "QuadraticPenalty": "a quadratic penalty",
}


def options_of(config: dict[str, Any]) -> dict[str, Any]:
    """Every option in one row, by its flat name; without environment and seed."""
    flat: dict[str, Any] = {}
    older = OLDER_FILES if "update" in config else {}  # without it there is no configuration of a training
    for name, value in (older | config | _arguments(config)).items():
        if name in PARTS and isinstance(value, dict):
            flat |= value
        elif name not in NOT_OPTIONS and (name != "env_kwargs" or value):  # older runs have no such option
            flat[name] = value
    return flat


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """The environment's arguments as they are typed, `KEY=VALUE`; nothing where there are none.

    An instance had them without their being an option, so what the environment is counts before the option.
    """
    described = config.get("env_description")
    found = described.get("kwargs") if isinstance(described, dict) else config.get("env_kwargs")
    given = found if isinstance(found, dict) else {}
    return {"env_kwargs": [f"{name}={json.dumps(value)}" for name, value in sorted(given.items())]}


def preset_of(config: dict[str, Any]) -> str | None:
    """The preset that was chosen; None where it is not recorded."""
    name = config.get("preset")
    return name if isinstance(name, str) else None


class Rerun(NamedTuple):
    """How runs are made again.

    lines    commands that do so as they stand, from the folder that the runs were begun in
    reasons  why there is none for some of the runs, a sentence each
    """

    lines: list[str]
    reasons: list[str]


Reproduce = Callable[[Sequence[RunData]], Rerun]
"""Runs that differ in their seed alone -> how they are made again; `proximo.rerun` has them."""


def typed_words(config: Any) -> list[str]:
    """The words after `proximo` that a run was begun with; none where they are not recorded."""
    words = config.get("command")
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []


def was_resumed(config: Any) -> bool:
    """Whether a run was gone on with, by a command."""
    again = config.get(RESUMED_WITH)
    return isinstance(again, list) and bool(again)


def is_registered(env: str) -> bool:
    """Whether a command needs no module to find the environment here."""
    try:
        find_spec(env)
    except (UserError, OSError):  # from a file: it may be no name at all, and too long for one
        return False
    return True


LANGUAGE = {  # the commands of `proximo lm`
    "lm sft": "Supervised fine-tuning",
    "lm reward": "A reward model from preferences (Bradley-Terry)",
    "lm dpo": "Direct Preference Optimization",
    "lm grpo": "Group Relative Policy Optimization",
}


def sentence(options: dict[str, Any], preset: str | None, env: str = "") -> str:
    """The method, and the preset where it is recorded, in a sentence or two."""
    if not options:
        return "Its options are unknown: config.json is missing or unreadable."
    named = ", ".join(f"{name} {options[name]}" for name in ("model", "data") if name in options)
    told = f" {named[0].upper()}{named[1:]}." if named and env.startswith("lm ") else ""
    return f"{method(options, env)}.{told}" + (f" Preset: {preset}." if preset else "")


def method(options: dict[str, Any], env: str = "") -> str:
    """What the method is called."""
    if env in LANGUAGE:
        return LANGUAGE[env]
    step, objective = part_of(options, "actor_step"), part_of(options, "objective")
    moved, name = str(step.get("name", "")), str(objective.get("name", ""))
    if moved in METHODS:
        return METHODS[moved]
    if name == PLAIN:
        return "Advantage actor-critic (policy gradient)"
    numbers = ", ".join(f"{key} {value}" for key, value in objective.items() if key not in ("name", "own"))
    told = OBJECTIVES.get(name, f"the objective {name or 'unknown'}") + (f" ({numbers})" if numbers else "")
    return f"Proximal Policy Optimization with {told}"


def part_of(content: dict[str, Any], name: str) -> dict[str, Any]:
    """What stands under a name, if it is an object: from a file it may be anything."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}
