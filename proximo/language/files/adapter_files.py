"""Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

For a map M of the Hub's, PEFT keeps `base_model.model.M.lora_A.weight` [rank, inputs] and `...lora_B.weight`
[outputs, rank]: our `down` and `up`, turned round.

GPT-2 keeps queries, keys and values in one map, and PEFT adapts it as one. Ours, side by side, are one of a
larger rank: A holds the `down` of each, and B is zero but for each one's `up` in the rows of its own outputs.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from proximo.errors import UserError
from proximo.language.files.adapter_config import CONFIG, adapter_config, of_map
from proximo.language.files.folder import CONFIG as CORE
from proximo.language.files.folder import load_model, local_folder, save_model
from proximo.language.files.model_options import ModelOptions
from proximo.language.files.names import NAMINGS, maps_of
from proximo.language.files.tensors import Tensor, open_file, write_file
from proximo.language.model.adapters import (
    AdaptedLinear,
    has_adapters,
    linear_maps,
    merge_adapters,
    replace_maps,
)
from proximo.language.model.config import ModelConfig
from proximo.language.model.transformer import Transformer
from proximo.language.text.tokenizer import Tokenizer
from proximo.runs.sealed import atomic_folder, json_object, verify, write_bytes

WEIGHTS = "adapter_model.safetensors"
BEFORE = "base_model.model."
TARGETS = "proximo_targets"
"""In the safetensors file's own notes: which of GPT-2's queries, keys and values have an adapter."""


class LoRAWeights(NamedTuple):
    """One of PEFT's adapters: A [rank, inputs], B [outputs, rank], and the alpha that goes with the rank."""

    a: np.ndarray
    b: np.ndarray
    alpha: float


def save_adapters(folder: Path, model: Transformer, base: str | None = None) -> None:
    """Write a model's adapters without its own weights, completely or not at all.

    base  the folder or the Hub's id of their base model, for loading them

    Raises UserError if the model has none, if a number is not finite, or if the folder holds anything else.
    """
    nodes, changes, targets = linear_maps(model), {}, ""
    for hub, ours in maps_of(model.config):
        parts = [nodes.get(name) for name in ours]
        here = {name.rpartition(".")[2]: p for name, p in zip(ours, parts, strict=True) if _adapted(p)}
        if here:
            changes[hub] = _fuse_adapters(parts)
            targets = ",".join(here) if len(ours) > 1 else targets
    if not changes:
        raise UserError("this model has no adapters: save the model itself")
    tensors = {
        f"{BEFORE}{hub}.lora_{side}.weight": Tensor(array.shape, "F32", partial(np.asarray, array))
        for hub, change in changes.items()
        for side, array in (("A", change.a), ("B", change.b))
    }
    content = _config(changes, model.config, base)
    with atomic_folder(folder) as place:
        write_bytes(place / CONFIG, json.dumps(content, indent=2, sort_keys=True).encode())
        write_file(place / WEIGHTS, tensors, {"format": "pt"} | ({TARGETS: targets} if targets else {}))


def load_adapters(folder: Path | str, model: Transformer) -> Transformer:
    """The model with the adapters of a folder or of the Hub.

    A PEFT adapter of GPT-2's fused map becomes one each for queries, keys and values, with the same `down` at
    the start. The model is the same, but the three are then trained separately.

    Raises UserError if the files are missing or damaged, belong to another model, or are not plain LoRA.
    """
    if has_adapters(model):
        raise UserError("this model has adapters already: merge them first")
    place = local_folder(folder)
    verify(place)
    config, nodes = adapter_config(place), linear_maps(model)
    found: dict[str, AdaptedLinear] = {}
    with contextlib.ExitStack() as stack:
        left, notes = open_file(place / WEIGHTS, stack)
        for hub, ours in maps_of(model.config):
            pair = [left.pop(f"{BEFORE}{hub}.lora_{side}.weight", None) for side in "AB"]
            if any(pair):
                parts = {name: nodes[name] for name in ours}
                change = _change(hub, pair, parts, config, place)
                targets = notes[TARGETS].split(",") if TARGETS in notes and len(ours) > 1 else []
                found |= _split_adapter(change, parts, targets, config)
        if left or not found:
            what = f"{min(left)} belongs to no layer's map" if left else "there are no adapters"
            raise UserError(f"{place / WEIGHTS}: {what} of this {model.config.family} model")
    return replace_maps(model, found)


def load_merged_model(name: Path | str) -> Transformer:
    """The model of a folder or of the Hub; for adapters alone, their base with the adapters merged.

    Raises UserError as `load_model` and `load_adapters`.
    """
    home = base_folder(name)
    model = load_model(home)
    return model if home == local_folder(name) else merge_adapters(load_adapters(name, model))


def base_folder(name: Path | str) -> Path:
    """The folder with the configuration and the tokenizer of a model: for adapters alone, their base's.

    Raises UserError for adapters that do not name their base.
    """
    place = local_folder(name)
    if (place / CORE).exists() or not (place / CONFIG).exists():
        return place
    config = adapter_config(place)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise UserError(f"{place / CONFIG} names no base model: set base_model_name_or_path")
    home = local_folder(base, revision if isinstance(revision, str) else None)
    if not (home / CORE).exists():
        raise UserError(f"{place / CONFIG}: {base}, the adapters' base, is not a model")
    return home


def is_reward_model(name: str) -> bool:
    """Whether a model folder holds a reward model, which scores texts instead of continuing them."""
    path = base_folder(name) / CORE
    if not path.is_file():
        raise UserError(f"there is no model in {name}: it has no {CORE}")
    kinds = json_object(path).get("architectures")
    return isinstance(kinds, list) and any("SequenceClassification" in str(kind) for kind in kinds)


def save_with_adapters(folder: Path, model: Transformer, tokenizer: Tokenizer, options: ModelOptions) -> None:
    """Write a model with its adapters merged; if it has any, also write them alone, beside it in `adapter`.

    options  of the model. Adapters alone are useful only if their base model is a folder of its own: not for
             random weights, nor for a model that was given as adapters
    """
    save_model(folder, merge_adapters(model), tokenizer)
    base = Path(options.model)
    adapters_themselves = base.is_dir() and not (base / CORE).exists()
    if has_adapters(model) and not options.from_scratch and not adapters_themselves:
        save_adapters(folder.with_name("adapter"), model, options.model)


def _adapted(node: Any) -> bool:
    return isinstance(node, AdaptedLinear)


def _fuse_adapters(parts: list[Any]) -> LoRAWeights:
    """The adapters of fused maps as one; often there is just one."""
    adapted = [part for part in parts if _adapted(part)]
    scale = adapted[0].scale
    a = np.concatenate([np.asarray(part.down, np.float32) for part in adapted], axis=1).T
    blocks, first = [], 0
    for part in parts:
        outputs = (part.base if _adapted(part) else part).weight.shape[1]
        block = np.zeros((outputs, len(a)), np.float32)
        if _adapted(part):
            first, start = first + part.down.shape[1], first
            block[:, start:first] = np.asarray(part.up, np.float32).T * (part.scale / scale)
        blocks.append(block)
    return LoRAWeights(a, np.concatenate(blocks), scale * len(a))


def _split_adapter(
    change: LoRAWeights, parts: Mapping[str, Any], targets: list[str], config: Mapping[str, Any]
) -> dict[str, AdaptedLinear]:
    """A PEFT adapter as ours; `targets` are those of a fused map that we saved."""
    rank = change.a.shape[0]
    scale = change.alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    down, found = change.a.T, {}
    borders = np.cumsum([node.weight.shape[1] for node in parts.values()])[:-1]
    ups = dict(zip(parts, np.split(change.b.T, borders, axis=1), strict=True))
    mine = [name for name in parts if name.rpartition(".")[2] in targets] or list(parts)
    each = rank // len(mine) if targets else rank
    for index, name in enumerate(mine):
        rows = slice(index * each, (index + 1) * each) if targets else slice(None)
        found[name] = AdaptedLinear(parts[name], jnp.array(down[:, rows]), jnp.array(ups[name][rows]), scale)
    return found


def _change(
    hub: str, pair: list[Tensor | None], parts: Mapping[str, Any], config: Mapping[str, Any], place: Path
) -> LoRAWeights:
    """An adapter from its two tensors, whose shapes must be those of the map and of the configuration."""
    a, b = pair
    if a is None or b is None:
        raise UserError(
            f"{place / WEIGHTS}: {hub} has only one of lora_A and lora_B: save the adapters again"
        )
    rank = int(of_map(hub, config, "rank_pattern", config.get("r", 8)))
    inputs = next(iter(parts.values())).weight.shape[0]
    outputs = sum(node.weight.shape[1] for node in parts.values())
    if (a.shape, b.shape) != ((rank, inputs), (outputs, rank)):
        raise UserError(
            f"{place / WEIGHTS}: {hub} has lora_A {list(a.shape)} and lora_B {list(b.shape)}, but "
            f"rank {rank} and this model ask for {[rank, inputs]} and {[outputs, rank]}"
        )
    alpha = float(of_map(hub, config, "alpha_pattern", config.get("lora_alpha", 8)))
    a_array, b_array = (tensor.array().astype(np.float32) for tensor in (a, b))
    for side, array in (("lora_A", a_array), ("lora_B", b_array)):
        if not np.isfinite(array).all():
            raise UserError(f"{place / WEIGHTS}: {hub}.{side} is not finite: restore the file from a copy")
    return LoRAWeights(a_array, b_array, alpha)


def _config(changes: Mapping[str, LoRAWeights], config: ModelConfig, base: str | None) -> dict[str, Any]:
    """PEFT's configuration; patterns only for maps with another rank or alpha than most."""
    rank, alpha = next((len(one.a), one.alpha) for one in changes.values())
    # Without the names' first part: older versions of PEFT want to see something before a pattern.
    ends = {hub.partition(".")[2]: change for hub, change in changes.items()}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {end: len(one.a) for end, one in ends.items() if len(one.a) != rank},
        "alpha_pattern": {end: one.alpha for end, one in ends.items() if one.alpha != alpha},
        "target_modules": _short(changes, config),
        "fan_in_fan_out": NAMINGS[config.family].inputs_first,
        "lora_dropout": 0.0,
        "bias": "none",
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_dora": False,
        "use_rslora": False,
    }


def _short(changes: Mapping[str, LoRAWeights], config: ModelConfig) -> list[str]:
    """The adapted maps by their last names, `q_proj`, where that says it; else by their whole names."""
    ends = {hub: hub.rpartition(".")[2] for hub, _ in maps_of(config)}
    partly = {end for hub, end in ends.items() if hub not in changes}
    return sorted({hub if ends[hub] in partly else ends[hub] for hub in changes})
