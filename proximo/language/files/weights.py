"""A model as the Hub's tensors, and the Hub's tensors as a model."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from proximo.errors import UserError
from proximo.language.files.names import BUFFERS, HEADS, NAMINGS, Entry, entries
from proximo.language.files.tensors import TYPES, Tensor
from proximo.language.model.config import ModelConfig
from proximo.runs.named import named_leaves

Tree = TypeVar("Tree")

HINTS = {
    "score.weight": " (it is not a reward model, i.e. sequence classification with one label)",
    "lm_head.weight": " and config.json does not say that the head is tied",
}
"""What the lack of a tensor may mean."""


def tensors_of(tree: Any, config: ModelConfig, dtype: Any = None, inside: str = "") -> dict[str, Tensor]:
    """A model as the Hub's tensors, by full name; each is made on demand.

    dtype   data type to convert to; by default unchanged
    inside  as in `entries`
    """
    arrays = named_leaves(tree)
    tensors, prefix = {}, NAMINGS[config.family].prefix
    listed = entries(config, arrays, inside)
    if strange := sorted(set(arrays) - {name for entry in listed for name in entry.ours}):
        raise UserError(
            f"{strange[0]} has no place in a {config.family} model's files: merge adapters, drop other heads"
        )
    for entry in listed:
        kind = np.dtype(arrays[entry.ours[0]].dtype if dtype is None else dtype)
        if kind not in TYPES:
            raise UserError(f"weights are saved as float32, bfloat16 or float16, not {kind}")
        head = entry.hub.rpartition(".")[0] in HEADS
        tensors[entry.hub if head else prefix + entry.hub] = Tensor(
            _shape(entry, arrays), TYPES[kind], partial(_made, entry, arrays, kind)
        )
    return tensors


def _made(entry: Entry, arrays: Mapping[str, Any], kind: np.dtype) -> np.ndarray:
    """One of the Hub's tensors from ours."""
    parts = [np.asarray(arrays[name]) for name in entry.ours]
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    whole = whole.T if entry.transposed else whole
    return whole.astype(kind, order="C", copy=False)


def with_tensors(
    template: Tree,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    place: Path,
    inside: str = "",
) -> Tree:
    """A model like `template` with the Hub's tensors in it, as float32.

    template  the model, or the shapes of its arrays
    tensors   by their names, with the family's prefix or without; a wrapper's before all of them, such as
              `module.` or `_orig_mod.`, is left out
    place     their origin, for messages
    inside    as in `entries`

    Raises UserError, naming the tensor, if one is missing, has another shape, is unknown, or is not finite.
    """
    shapes = named_leaves(template)
    listed = entries(config, shapes, inside)
    there = _without_prefix(tensors, config, place)
    arrays: dict[str, jax.Array] = {}
    for entry in listed:
        if entry.hub not in there:
            raise UserError(_missing(entry.hub, place, there))
        _check_shape(entry, there[entry.hub].shape, shapes, place)
    for name in sorted(set(there) - {entry.hub for entry in listed}):
        _check_spare(name, there, config, place, inside)
    for entry in listed:
        whole = there[entry.hub].array()
        if not np.isfinite(whole).all():
            raise UserError(f"{place}: {entry.hub} is not finite: restore the file from a copy")
        whole = whole.T if entry.transposed else whole
        borders = np.cumsum([shapes[name].shape[-1] for name in entry.ours])[:-1]
        for name, part in zip(entry.ours, np.split(whole, borders, axis=-1), strict=True):
            arrays[name] = jnp.array(part.astype(np.float32))  # a copy: nothing refers to the file
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in shapes])


def _shape(entry: Entry, arrays: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the Hub's tensor."""
    first, *_ = parts = [arrays[name].shape for name in entry.ours]
    whole = (*first[:-1], sum(shape[-1] for shape in parts))
    return whole[::-1] if entry.transposed else whole


def _without_prefix(tensors: Mapping[str, Tensor], config: ModelConfig, place: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in _without_wrapper(tensors, config, place).items():
        bare = name.removeprefix(NAMINGS[config.family].prefix)
        if bare in found:
            raise UserError(f"{place} contains {bare} twice, with and without prefix: remove one")
        if not BUFFERS.search(name):
            found[bare] = tensor
    return found


def _without_wrapper(tensors: Mapping[str, Tensor], config: ModelConfig, place: Path) -> Mapping[str, Tensor]:
    """The tensors by the model's own names, where a wrapper was saved that has put its name before all."""
    naming = NAMINGS[config.family]
    known = [before + table for before in (naming.prefix, "") for table in naming.tables]
    if any(name in tensors for name in known):
        return tensors
    found = (name.removesuffix(own) for own in known for name in tensors if name.endswith(f".{own}"))
    prefix = next(found, "")
    if strangers := [name for name in tensors if not name.startswith(prefix)]:
        line = f"{{name[{len(prefix)}:]: x for name, x in state.items() if name.startswith({prefix!r})}}"
        raise UserError(
            f"{place} holds {strangers[0]} beside names that begin with {prefix!r}: "
            f"save the inner model, with {line}"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _missing(name: str, place: Path, there: Mapping[str, Tensor]) -> str:
    layer = name.removesuffix(".weight").removesuffix(".bias")
    if any(other.startswith((f"{layer}.base_layer.", f"{layer}.lora_")) for other in there):
        return f"{place}: {layer} has adapters beside it: save what PEFT's merge_and_unload() returns"
    return f"{place}: {name} is missing{HINTS.get(name, '')}: download or save the model again"


def _check_shape(entry: Entry, shape: tuple[int, ...], shapes: Mapping[str, Any], place: Path) -> None:
    wanted = _shape(entry, shapes)
    if shape == wanted:
        return
    if entry.ours[0].endswith(("embedding", "head.weight")) and shape[1:] == wanted[1:]:
        raise UserError(
            f"{place}: {entry.hub} has {shape[0]} tokens, but config.json's vocab_size is {wanted[0]}: "
            "they belong to different models"
        )
    raise UserError(f"{place}: {entry.hub} is {list(shape)}, but config.json asks for {list(wanted)}")


def _check_spare(
    name: str, there: Mapping[str, Tensor], config: ModelConfig, place: Path, inside: str
) -> None:
    """Checks an unused tensor: harmless only if it is a head equal to the tied embeddings."""
    if name == "lm_head.weight" and inside:
        return  # a reward model needs no head for tokens
    if name == "lm_head.weight" and config.tied:
        table = next(iter(NAMINGS[config.family].tables))
        if not np.array_equal(there[name].array(), there[table].array()):
            raise UserError(
                f"{place}: {name} differs from {table}, but config.json says that they are tied: "
                'write "tie_word_embeddings": false there'
            )
        return
    if name == "score.weight":
        raise UserError(f"{place} is a reward model (it has {name}): load it as one")
    layers = len(config.layers)
    raise UserError(f"{place}: {name} is not part of a {config.family} model of {layers} layers")
