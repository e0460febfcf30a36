"""Low-rank adapters (Hu et al. 2021, LoRA): small trained matrices beside the frozen ones of a model.

W' = W + alpha / rank * down up                                                    (their section 4.1)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from proximo.errors import UserError
from proximo.language.model.layers import Linear
from proximo.language.model.transformer import Transformer
from proximo.runs.named import named_leaves

Tree = TypeVar("Tree")

TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
ALL = "all-linear"  # each of these that a model has


@dataclass(frozen=True)
class LoRA:
    """Which maps get adapters, and their size."""

    rank: int = 8  # of the change; 8 is enough for most tasks (their section 7.2)
    # the change counts alpha / rank times, so that the learning rate need not follow the rank
    alpha: float = 16.0
    # maps of each layer: of query, key, value, output, gate, up, down, or `all-linear` for all; the
    # paper's choice is query and value
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise UserError(
                f"adapters need a rank of 1 or more and a positive alpha, not {self.rank} and {self.alpha}"
            )
        unknown = [name for name in self.targets if name not in (*TARGETS, ALL)]
        if unknown or not self.targets:
            raise UserError(
                f"adapters go to some of {', '.join(TARGETS)}, not {', '.join(unknown) or 'none'}"
            )


class AdaptedLinear(eqx.Module):
    """x W + b + scale (x down) up."""

    base: Linear  # the frozen map
    down: Float[Array, "inputs rank"]
    up: Float[Array, "rank outputs"]  # zeros at the start: the model is then the one it was
    scale: float = eqx.field(static=True)  # alpha / rank

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        y = self.base(x)
        # Two dimensions, as in `Linear`; `down` and `up` may be wider numbers than the frozen weights.
        change = self.scale * ((x.reshape(-1, x.shape[-1]) @ self.down) @ self.up)
        return y + change.reshape(y.shape).astype(y.dtype)


def with_adapters(model: Tree, lora: LoRA, key: PRNGKeyArray) -> Tree:
    """The same model with adapters, which have no effect yet.

    `down` begins uniform in +- 1 / sqrt(inputs), as in the paper's own code, `up` at zero; both in float32,
    since small steps would be lost in fewer bits.

    model  a transformer, or a tree with transformers in it

    Raises UserError if there are adapters already, or if no layer has one of the targets.
    """
    nodes = linear_maps(model)
    if has_adapters(model):
        raise UserError("this model has adapters already: merge them first")
    named_targets = TARGETS if ALL in lora.targets else lora.targets
    wanted = {f"{part}.{name}" for part in ("attention", "mlp") for name in named_targets}
    chosen = {
        name: node
        for name, node in nodes.items()
        # by two names: a head beside the transformer may be called value too
        if isinstance(node, Linear) and ".".join(name.split(".")[-2:]) in wanted
    }
    absent = sorted(set(lora.targets) - {ALL} - {name.rpartition(".")[2] for name in chosen})
    if absent:
        raise UserError(f"this model's layers have no {absent[0]}: choose other adapter targets")

    def adapted(base: Linear, key: PRNGKeyArray) -> AdaptedLinear:
        inputs, outputs = base.weight.shape
        down = jax.random.uniform(key, (inputs, lora.rank), jnp.float32, -1.0, 1.0) / math.sqrt(inputs)
        return AdaptedLinear(base, down, jnp.zeros((lora.rank, outputs)), lora.alpha / lora.rank)

    keys = jax.random.split(key, len(chosen))
    return replace_maps(model, {name: adapted(chosen[name], k) for name, k in zip(chosen, keys, strict=True)})


def linear_maps(model: Any) -> dict[str, Linear | AdaptedLinear]:
    """Every linear map of a tree by its path, such as `blocks.0.attention.query`."""
    return {name: node for name, node in named_leaves(model, _is_map).items() if _is_map(node)}


def replace_maps(model: Tree, nodes: Mapping[str, Linear | AdaptedLinear]) -> Tree:
    """The same tree with these in the place of the maps at their paths."""
    leaves, structure = jax.tree_util.tree_flatten(model, is_leaf=_is_map)
    names = list(named_leaves(model, _is_map))
    changed: Tree = jax.tree_util.tree_unflatten(
        structure, [nodes.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    )
    return changed


def without_adapters(model: Tree) -> Tree:
    """The model without adapters, the reference. It shares the arrays."""
    return _each_adapter(lambda node: node.base, model)


def merge_adapters(model: Tree) -> Tree:
    """The model with adapters merged into its weights: as large and as fast as without them."""

    def merge(node: AdaptedLinear) -> Linear:
        wide = node.base.weight.astype(jnp.float32) + node.scale * (node.down @ node.up)
        return Linear(wide.astype(node.base.weight.dtype), node.base.bias)

    return _each_adapter(merge, model)


def has_adapters(model: Any) -> bool:
    """Whether any map of a tree is adapted."""
    return any(is_adapter(node) for node in jax.tree_util.tree_leaves(model, is_leaf=is_adapter))


def is_adapter(node: Any) -> bool:
    """Whether this part of a tree is an adapted map."""
    return isinstance(node, AdaptedLinear)


def trainable(model: Tree) -> Tree:
    """What learns: a tree of booleans for `equinox.partition`.

    In a transformer that has adapters these alone; everything else that is a floating-point array, so a
    head for values or scores beside the transformer, and a transformer without adapters.
    """

    def of_transformer(node: Any) -> Any:
        if not isinstance(node, Transformer) or not has_adapters(node):
            return jax.tree.map(eqx.is_inexact_array, node)
        return jax.tree.map(of_map, node, is_leaf=is_adapter)

    def of_map(node: Any) -> Any:
        if not is_adapter(node):
            return False
        frozen = jax.tree.map(lambda _: False, node.base)
        return AdaptedLinear(frozen, True, True, node.scale)  # type: ignore[arg-type]

    mask: Tree = jax.tree.map(of_transformer, model, is_leaf=lambda node: isinstance(node, Transformer))
    return mask


def _each_adapter(change: Any, model: Tree) -> Tree:
    changed: Tree = jax.tree.map(
        lambda node: change(node) if is_adapter(node) else node, model, is_leaf=is_adapter
    )
    return changed


def _is_map(node: Any) -> bool:
    return isinstance(node, Linear | AdaptedLinear)
