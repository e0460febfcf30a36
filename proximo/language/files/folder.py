"""Model folders in the Hugging Face Hub's format: read from `transformers`, and written for it.

No code in a folder is executed: weights are safetensors, the rest is JSON and text, `auto_map` is ignored.
"""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from proximo.errors import UserError
from proximo.language.files.names import NAMINGS
from proximo.language.files.tensors import TYPES, Tensor, open_tensors, write_tensors
from proximo.language.files.weights import tensors_of, with_tensors
from proximo.language.model.config import ModelConfig, model_config
from proximo.language.model.heads import RewardModel, new_reward_model
from proximo.language.model.transformer import Transformer, new_model
from proximo.language.text.tokenizer import Tokenizer
from proximo.runs.extras import require_package
from proximo.runs.named import named_leaves
from proximo.runs.sealed import atomic_folder, json_object, verify, write_bytes

CONFIG, GENERATION = "config.json", "generation_config.json"
SHIFT = "proximo_reward_shift"
"""Field of a reward model's `config.json`: added to the scores that `transformers` gives."""

SHARD = 5 * 10**9  # bytes, what the Hub's own tools take
FETCHED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
NOT_FETCHED = ("*/*", "consolidated*", "*.index.json.*")  # folders hold other formats of the same weights
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_model(folder: Path | str) -> Transformer:
    """Load a language model from a folder or from the Hub, as float32.

    folder  a path, or an id of the Hub such as "Qwen/Qwen2.5-0.5B"

    Raises UserError if there is no model, or if it is not supported, incomplete or damaged.
    """
    place = local_folder(folder)
    verify(place)
    config = load_config(place)
    with open_tensors(place) as tensors:
        config = replace(config, dtype=_dtype_of(tensors))
        template = eqx.filter_eval_shape(lambda: new_model(config, jax.random.key(0)))
        return with_tensors(template, config, tensors, place)


def load_reward_model(folder: Path | str) -> RewardModel:
    """Load a reward model: sequence classification with one label. As `load_model`."""
    place = local_folder(folder)
    verify(place)
    content, config = _content(place), load_config(place)
    shift = content.get(SHIFT, 0.0)
    if not isinstance(shift, int | float) or not math.isfinite(shift):
        raise UserError(f"{place / CONFIG}: {SHIFT} is {shift!r}, not a number")
    pad = None if SHIFT in content else content.get("pad_token_id")
    if pad is not None and (not isinstance(pad, int) or isinstance(pad, bool)):
        raise UserError(f"{place / CONFIG}: pad_token_id is {pad!r}, not a token's id")
    with open_tensors(place) as tensors:
        config = replace(config, dtype=_dtype_of(tensors))
        key = jax.random.key(0)
        template = eqx.filter_eval_shape(lambda: new_reward_model(new_model(config, key), key))
        model = with_tensors(template, config, tensors, place, inside="trunk.")
    return RewardModel(model.trunk, model.score, float(shift), pad)


def is_own_reward_model(folder: Path | str) -> bool:
    """Whether Proximo trained a folder's reward model: its scores are read at an answer's last token."""
    return SHIFT in _content(local_folder(folder))


def load_config(folder: Path | str) -> ModelConfig:
    """The model configuration in a folder's `config.json`. Raises UserError as `load_model`."""
    place = local_folder(folder)
    config, defaults = model_config(_content(place)), place / GENERATION
    if not defaults.is_file():
        return config
    return replace(config, generation=json.dumps(json_object(defaults), sort_keys=True))


def save_model(folder: Path, model: Transformer, tokenizer: Tokenizer | None = None) -> None:
    """Write a language model, completely or not at all; it replaces an older model of ours in the folder.

    tokenizer  saved with it; its PAD and end tokens are written into `config.json`

    Weights keep their original data type (`ModelConfig.dtype`). `generation_config.json` is kept too
    (`ModelConfig.generation`), except for PAD and end tokens.

    Raises UserError if the folder holds anything else, if a weight is not finite, or if the model has
    adapters (merge them first, or save them separately).
    """
    if model.head is None and not model.config.tied:
        raise UserError(
            "this model has no head for tokens and its configuration ties none: it cannot be saved"
        )
    content = {k: v for k, v in model.config.as_json().items() if k not in (SHIFT, "id2label", "label2id")}
    content["architectures"] = [NAMINGS[model.config.family].architectures[0]]
    _save(folder, model, model.config, content, tokenizer)


def save_reward_model(folder: Path, model: RewardModel, tokenizer: Tokenizer | None = None) -> None:
    """Write a reward model as sequence classification with one label; otherwise as `save_model`.

    `transformers` reads a text's score at its last token that is not PAD, so `config.json` must name PAD: the
    tokenizer's, or else that of the trunk's configuration. Its score is ours minus the model's shift, which
    is stored in the field `proximo_reward_shift`.
    """
    config = model.trunk.config
    content = config.as_json() | {
        "architectures": [NAMINGS[config.family].architectures[1]],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        SHIFT: float(model.shift),
    }
    if tokenizer is None and content.get("pad_token_id") is None:
        raise UserError(
            "a reward model's config.json must name PAD: pass the tokenizer, or set pad_token_id there"
        )
    _save(folder, model, config, content, tokenizer, inside="trunk.")


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer, name: str) -> None:
    """Raises UserError unless the model has an embedding for every token id; it may have more."""
    if tokenizer.vocab_size > config.vocabulary:
        raise UserError(
            f"{name}: the tokenizer has {tokenizer.vocab_size} ids, but the model only {config.vocabulary}: "
            "use the tokenizer that belongs to the model"
        )


def local_folder(folder: Path | str, revision: str | None = None) -> Path:
    """The folder of a model: a path as it is, an id of the Hub after downloading it.

    revision  version on the Hub; by default the newest

    Only weights, JSON and text are downloaded, never code or pickles. `huggingface_hub` caches downloads, so
    later calls work offline.

    Raises UserError if there is no such folder and the download fails.
    """
    if Path(folder).is_dir():
        return Path(folder)
    name = str(folder)
    if not HUB_ID.fullmatch(name):
        raise UserError(f"there is no folder {name}, and it is no id of the Hub such as Qwen/Qwen2.5-0.5B")
    hub = require_package("huggingface_hub", "hub")
    try:
        return Path(
            hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(FETCHED),
                ignore_patterns=list(NOT_FETCHED),
                library_name="proximo",
            )
        )
    except Exception as error:  # no network, no such model, no permission, a full disk: many libraries' kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"there is no folder {name}, and the Hub's download failed ({reason})") from error


def _content(place: Path) -> dict[str, Any]:
    path = place / CONFIG
    if not path.is_file():
        adapter = (place / "adapter_config.json").exists()
        hint = " (these are adapters: load their base, then the adapters)" if adapter else ""
        raise UserError(f"there is no model in {place}: it has no {CONFIG}{hint}")
    content = json_object(path)
    if content.get("quantization_config"):
        raise UserError(f"{path}: quantised models are not supported: use the original weights")
    return content


def _save(
    folder: Path,
    model: Any,
    config: ModelConfig,
    content: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    inside: str = "",
) -> None:
    """Write all files of a model; `content` for `config.json`, and `inside` as in `entries`."""
    dtype = _saved_in(config, model)
    tensors = tensors_of(model, config, dtype, inside)
    kept = {k: v for k, v in content.items() if k not in ("auto_map", "torch_dtype", "_name_or_path")}
    kept["dtype"] = str(np.dtype(dtype))
    files, generation = dict[str, bytes](), json.loads(config.generation)
    if tokenizer is not None:
        check_vocabulary(config, tokenizer, str(folder))
        files |= tokenizer.files()
        ends = tokenizer.eos_ids
        named = {"pad_token_id": tokenizer.pad_id, "eos_token_id": ends[0] if len(ends) == 1 else list(ends)}
        kept, generation = kept | named, generation | named
    files[CONFIG] = json.dumps(kept, indent=2, sort_keys=True).encode()
    if generation:  # where `transformers`, and our tokenizer, look for the ends of a response
        files[GENERATION] = json.dumps(generation, indent=2, sort_keys=True).encode()
    with atomic_folder(folder) as partial:
        for name, written in files.items():
            write_bytes(partial / name, written)
        write_tensors(partial, tensors, SHARD)


def _dtype_of(tensors: Mapping[str, Tensor]) -> str:
    """The data type of most of a folder's weights; float32 if it is not a supported one."""
    sizes = Counter[str]()
    for tensor in tensors.values():
        sizes[tensor.kind] += math.prod(tensor.shape)
    kinds = {kind: str(dtype) for dtype, kind in TYPES.items()}
    return kinds.get(max(sizes, key=lambda kind: sizes[kind], default="F32"), "float32")


def _saved_in(config: ModelConfig, model: Any) -> Any:
    """The data type for saving a model; float32 if float16, whose largest number is 65504, cannot hold it.

    Saving must not fail at the end of a run, or the trained model would be lost.
    """
    dtype = jnp.dtype(config.dtype)
    if dtype == jnp.float16:
        for name, array in named_leaves(model).items():
            if np.abs(np.asarray(array)).max(initial=0.0) > np.finfo(np.float16).max:
                warnings.warn(f"{name} is too large for float16: the model is saved in float32", stacklevel=3)
                return jnp.dtype(jnp.float32)
    return dtype
