"""PEFT's `adapter_config.json`: the adapters' options, and whether they are plain LoRA.

Only W + alpha / rank * B A is supported (rsLoRA: alpha / sqrt(rank)). PEFT has many more kinds, and their
files may have the same tensors. So every field and value is either on a list, or refused.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proximo.errors import UserError
from proximo.runs.sealed import json_object

CONFIG = "adapter_config.json"

NUMBERS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
"""What the change is computed from."""

DESCRIBES = (
    *("peft_type", "task_type", "auto_mapping", "peft_version", "inference_mode"),
    *("base_model_name_or_path", "revision"),
    # Which maps were adapted, and how their weights lie: the tensors and the model say that too.
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    # How they were trained, or begun: of no account afterwards, unless `init_lora_weights` changes the base.
    *("lora_dropout", "megatron_core", "ensure_weight_tying", "qalora_group_size"),
    *("eva_config", "loftq_config", "corda_config", "lora_ga_config"),
)
"""Fields that may say anything: the change is the same."""

NO_BIAS = ("bias", "none")

LEAVE_THE_BASE = ("gaussian", "orthogonal", "eva", "mica")
"""`init_lora_weights` that begin A and B in some way and leave the base as it was, besides true and false."""

MERGE = "merge it with PEFT (merge_and_unload) and give the merged model"
INSTEAD = {
    "alora_invocation_tokens": "it acts on some tokens only, so it cannot be merged: train a plain LoRA",
    "arrow_config": "it mixes several adapters token by token: give one of them",
}
"""What to do about a field, if merging does not help."""


def adapter_config(folder: Path) -> dict[str, Any]:
    """The checked content of a folder's `adapter_config.json`.

    Raises UserError if it is missing or damaged, and for adapters that are not plain LoRA.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"there are no adapters in {folder}: it has no {CONFIG}")
    content = json_object(path)
    if content.get("peft_type") != "LORA":
        raise UserError(f"{path}: adapters of type {content.get('peft_type')!r} are not supported: use LORA")
    _check_plain(content, path)
    _check_numbers(content, path)
    return content


def of_map(hub: str, config: Mapping[str, Any], patterns: str, usual: float) -> float:
    """A number of PEFT's, which a pattern may override for maps whose name ends in it (plain names only)."""
    given = (config.get(patterns) or {}).items()
    return next((float(value) for name, value in given if f".{hub}".endswith(f".{name}")), usual)


def _check_plain(content: Mapping[str, Any], path: Path) -> None:
    for name, value in content.items():
        if not value or name in (*NUMBERS, *DESCRIBES, "init_lora_weights") or (name, value) == NO_BIAS:
            continue  # what is null, false or empty asks for nothing
        said = json.dumps(value)
        what = said if len(said) <= 40 else f"{said[:39]}…"
        raise UserError(f"{path}: {name} {what} is not plain LoRA: {INSTEAD.get(name, MERGE)}")
    if not isinstance(content.get("use_rslora", False), bool | None):
        raise UserError(f"{path}: use_rslora is {content['use_rslora']!r}: it must be true or false")
    begun = content.get("init_lora_weights")
    if not (begun is None or isinstance(begun, bool) or str(begun).lower() in LEAVE_THE_BASE):
        raise UserError(
            f"{path}: init_lora_weights {begun!r} changed the base model's own weights: save the adapters as "
            f"plain LoRA with PEFT (path_initial_model_for_weight_conversion), or {MERGE}"
        )


def _check_numbers(content: Mapping[str, Any], path: Path) -> None:
    patterns = [content.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    numbers = [content.get("r", 8), content.get("lora_alpha", 8)]
    try:
        numbers += [value for pattern in patterns for value in pattern.values()]
        names = [name for pattern in patterns for name in pattern]
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError("ranks and alphas are positive numbers")
        if not all(re.fullmatch(r"[\w.]+", name) for name in names):
            raise ValueError("rank_pattern and alpha_pattern must be plain names")
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} does not describe adapters ({error}): save them again") from error
