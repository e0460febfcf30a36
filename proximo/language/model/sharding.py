"""A model over several devices: what each of them holds, by the names of the arrays.

The devices form a mesh. Its axis "data" splits the rows of a batch, its axis "model" the weights, as in
Shoeybi et al. 2019 (Megatron-LM, section 3): of two maps that follow each other the first is split by
columns and the second by rows, so that a device goes through both with what it has, and only the sum after
them is made together. Arrays are placed accordingly; XLA finds what has to be sent from that.

All devices belong to one process.
"""

import re
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Split

from proximo.language.model.layers import Attention
from proximo.learn.mesh import MODEL

Tree = TypeVar("Tree")

COLUMNS, ROWS, ENTRIES, WHOLE = Split(None, MODEL), Split(MODEL, None), Split(MODEL), Split()


class Rule(NamedTuple):
    """Where the arrays of some name lie."""

    pattern: str  # of the end of the name
    # the first of these that divides the array is taken; whole on every device where none does
    splits: tuple[Split, ...]
    # only between attention's heads, never through one: where a model has fewer of them (the keys and
    # values of grouped queries), or a number that does not divide, every device holds all
    heads: bool = False


RULES = (
    Rule(r"embedding", (ROWS, COLUMNS)),  # tokens; the width where those do not divide, as GPT-2's 50257
    Rule(r"head\.weight", (COLUMNS, ROWS)),
    Rule(r"positions", ()),
    Rule(r"(norm|\w+_norm|after_attention|after_mlp)\.(weight|bias)", ()),
    Rule(r"attention\.(query|key|value)(\.base\.weight|\.weight|\.up)", (COLUMNS,), heads=True),
    Rule(r"attention\.(query|key|value)(\.base)?\.bias", (ENTRIES,), heads=True),
    Rule(r"attention\.(query|key|value)\.down", ()),
    Rule(r"attention\.output(\.base\.weight|\.weight|\.down)", (ROWS,), heads=True),
    Rule(r"attention\.output((\.base)?\.bias|\.up)", ()),
    Rule(r"mlp\.(gate|up)(\.base\.weight|\.weight|\.up)", (COLUMNS,)),
    Rule(r"mlp\.(gate|up)(\.base)?\.bias", (ENTRIES,)),
    Rule(r"mlp\.(gate|up)\.down", ()),
    Rule(r"mlp\.down(\.base\.weight|\.weight|\.down)", (ROWS,)),
    Rule(r"mlp\.down((\.base)?\.bias|\.up)", ()),
    Rule(r"score\.(weight|bias)", ()),  # heads for one number, not for tokens
)
"""Every array of a model, of its gradients and of Adam's moments of it falls under exactly one."""


def rules_of(name: str) -> list[Rule]:
    """The rules that a name falls under."""
    return [rule for rule in RULES if re.search(rf"(^|\.){rule.pattern}$", name)]


def partition_specs(tree: Tree, model: int) -> Tree:
    """For each array of a tree how it is split; a number on its own is everywhere.

    tree   models, their gradients, states of optimisers: anything whose names end as a model's do
    model  devices along that axis

    Raises ValueError for an array that no rule, or more than one, says anything of.
    """
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, Attention))
    sizes = {_name(path): node.head_size for path, node in found if isinstance(node, Attention)}

    def split(path: Any, leaf: Any) -> Split:
        name, shape = _name(path), np.shape(leaf)
        if shape == ():
            return WHOLE
        rules = rules_of(name)
        if len(rules) != 1:
            raise ValueError(f"{len(rules)} rules say where {name} lies, not one")
        unit = 1
        if rules[0].heads:
            unit = sizes[name[: name.rindex("attention.") + len("attention")]]
        fitting = (s for s in rules[0].splits if shape[tuple(s).index(MODEL)] % (unit * model) == 0)
        return next(fitting, WHOLE)

    splits: Tree = jax.tree_util.tree_map_with_path(split, tree)
    return splits


def shard(tree: Tree, mesh: Mesh | None) -> Tree:
    """The same tree, each array where its rule says. What lies there already is not touched."""
    if mesh is None:
        return tree
    splits = partition_specs(tree, mesh.shape[MODEL])
    placed: Tree = jax.device_put(tree, jax.tree.map(lambda split: NamedSharding(mesh, split), splits))
    return placed


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
