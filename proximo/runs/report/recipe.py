"""What a run was made with, in words: its options, its preset, the command for it."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from proximo.envs import find_spec
from proximo.envs.scaling import OLDER_FILES
from proximo.errors import UserError
from proximo.options import as_words
from proximo.runs.files import RESUMED_WITH

PARTS = ("update", "network")
NOT_OPTIONS = (
    *("env", "env_description", "seed", "preset", "command", RESUMED_WITH, "versions", "fingerprint"),
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


def recorded_commands(config: dict[str, Any]) -> list[str]:
    """The command lines that made a run, as typed, in order; none where the first is not recorded."""
    first, again = config.get("command"), config.get(RESUMED_WITH)
    every = [first, *again] if isinstance(again, list) else [first]
    typed = [words for words in every if isinstance(words, list) and all(isinstance(w, str) for w in words)]
    return [shlex.join(["proximo", *words]) for words in typed] if first in typed else []


def is_registered(env: str) -> bool:
    """Whether a command needs no module to find the environment here."""
    try:
        find_spec(env)
    except UserError:
        return False
    return True


def from_options(env: str, options: dict[str, Any], seeds: Sequence[int]) -> str:
    """The command line that says every recorded option; seeds with gaps between them become a loop."""
    words = ["proximo", "train", env if is_registered(env) else f"MODULE:{env}"]
    line = shlex.join([*words, *as_words(options)])
    ordered = sorted(set(seeds))
    if not ordered:
        return line
    if ordered != list(range(ordered[0], ordered[0] + len(ordered))):
        return f"for seed in {' '.join(map(str, ordered))}; do {line} --seed $seed; done"
    first = f" --seed {ordered[0]}" if ordered[0] else ""
    return line + (f" --seeds {len(ordered)}" if len(ordered) > 1 else "") + first


def sentence(options: dict[str, Any], preset: str | None) -> str:
    """The method, and the preset where it is recorded, in a sentence or two."""
    if not options:
        return "Its options are unknown: config.json is missing or unreadable."
    return f"{method(options)}." + (f" Preset: {preset}." if preset else "")


def method(options: dict[str, Any]) -> str:
    """What the method is called."""
    step, objective = part_of(options, "actor_step"), part_of(options, "objective")
    moved, name = str(step.get("name", "")), str(objective.get("name", ""))
    if moved in METHODS:
        return METHODS[moved]
    if name == PLAIN:
        return "Advantage actor-critic (policy gradient)"
    numbers = ", ".join(f"{key} {value}" for key, value in objective.items() if key != "name")
    told = OBJECTIVES.get(name, f"the objective {name or 'unknown'}") + (f" ({numbers})" if numbers else "")
    return f"Proximal Policy Optimization with {told}"


def part_of(content: dict[str, Any], name: str) -> dict[str, Any]:
    """What stands under a name, if it is an object: from a file it may be anything."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}
