"""A model over several devices: what each of them holds, by the names of the arrays.

The devices form a mesh. Its axis "data" splits the rows of a batch, its axis "model" the weights, as in
Shoeybi et al. 2019 (Megatron-LM, section 3): of two maps that follow each other the first is split by
columns and the second by rows, so that a device goes through both with what it has, and only the sum after
them is made together. Arrays are placed accordingly; XLA finds what has to be sent from that.

All devices belong to one process.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Split

from proximo.errors import UserError
from proximo.language.job import Outcome, Trainer
from proximo.language.layers import Attention

Tree = TypeVar("Tree")

DATA, MODEL = "data", "model"
COLUMNS, ROWS, ENTRIES, WHOLE = Split(None, MODEL), Split(MODEL, None), Split(MODEL), Split()


@dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """How many devices share the work; the product is all that there are, or 1 for one of them."""

    data_parallel: int = 1
    """Parts that a batch's rows are split into, each on devices of its own."""
    model_parallel: int = 1
    """Parts that weights are split into, each on devices of its own: for models too large for one."""


class Rule(NamedTuple):
    """Where the arrays of some name lie.

    pattern  of the end of the name
    splits   the first of these that divides the array is taken; whole on every device where none does
    heads    only between attention's heads, never through one: where a model has fewer of them (the keys
             and values of grouped queries), or a number that does not divide, every device holds all
    """

    pattern: str
    splits: tuple[Split, ...]
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


def mesh_of(options: MeshOptions) -> Mesh | None:
    """The mesh of all devices, or None where one device does all: then nothing here changes anything.

    Raises UserError unless the options take as many devices as there are.
    """
    data, model = options.data_parallel, options.model_parallel
    if min(data, model) < 1:
        raise UserError(f"data_parallel is {data} and model_parallel {model}: each must be at least 1")
    if data * model == 1:
        return None
    there = jax.device_count()
    if data * model != there:
        raise UserError(
            f"data_parallel {data} x model_parallel {model} takes {data * model} devices, but there "
            f"{'is' if there == 1 else 'are'} {there}: their product must be that, or 1"
        )
    devices = np.array(jax.devices()).reshape(data, model)
    return Mesh(devices, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def splits_of(tree: Tree, model: int) -> Tree:
    """For each array of a tree how it is split; a number on its own is everywhere.

    tree   models, their gradients, states of optimisers: anything whose names end as a model's do
    model  devices along that axis

    Raises ValueError for an array that no rule, or more than one, says anything of.
    """
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_attention)
    sizes = {_name(path): node.head_size for path, node in found if _is_attention(node)}

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
        return next((s for s in rules[0].splits if _divides(s, shape, unit, model)), WHOLE)

    splits: Tree = jax.tree_util.tree_map_with_path(split, tree)
    return splits


def laid_out(tree: Tree, mesh: Mesh | None) -> Tree:
    """The same tree, each array where its rule says. What lies there already is not touched."""
    if mesh is None:
        return tree
    splits = splits_of(tree, mesh.shape[MODEL])
    placed: Tree = jax.device_put(tree, jax.tree.map(lambda split: NamedSharding(mesh, split), splits))
    return placed


def laid_out_batch(batch: Tree) -> Tree:
    """The same batch, its rows shared out among the devices that a computation runs on (see `on_mesh`).

    It is for inside of compiled functions: XLA would let every device compute all rows of what was shuffled
    or cut into parts on the way.

    Raises UserError where the devices do not get as many rows each.
    """
    data = data_parallel()
    if data == 1:
        return batch
    for rows in {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch)}:
        if rows % data:
            raise UserError(
                f"data_parallel is {data}, but {rows} rows go through the model at once: choose batch_size, "
                f"minibatches and micro_batch_tokens so that these are a multiple of {data}"
            )
    shared: Tree = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, Split(DATA)), batch)
    return shared


def data_parallel() -> int:
    """How many ways rows are split where a computation runs (see `on_mesh`); 1 on one device."""
    return int(jax.sharding.get_abstract_mesh().shape.get(DATA, 1))


@contextlib.contextmanager
def on_mesh(mesh: Mesh | None) -> Iterator[None]:
    """Computations run on this mesh, and `laid_out_batch` sees it."""
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        yield


@contextlib.contextmanager
def in_host_memory(mesh: Mesh | None) -> Iterator[None]:
    """New arrays lie with the CPU until they are laid out: one device may be too small for all of them."""
    if mesh is None:
        yield
        return
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # somebody has told JAX to leave the CPU alone
        yield
        return
    with jax.default_device(host):
        yield


class Meshed:
    """A trainer on a mesh (see `job.Trainer`): its state is laid out, and its iterations run there.

    notes  the trainer's, if it has any
    """

    def __init__(self, trainer: Trainer, mesh: Mesh) -> None:
        self.trainer, self.mesh = trainer, mesh
        self.notes: tuple[str, ...] = getattr(trainer, "notes", ())

    @property
    def total(self) -> int:
        """The trainer's."""
        return self.trainer.total

    def begin(self) -> Any:
        """The trainer's, laid out."""
        return laid_out(self.trainer.begin(), self.mesh)

    def iterate(self, state: Any, number: int) -> Outcome:
        """The trainer's. A state from a checkpoint is laid out first."""
        with on_mesh(self.mesh):
            return self.trainer.iterate(laid_out(state, self.mesh), number)

    def save(self, state: Any, folder: Path) -> None:
        """The trainer's."""
        self.trainer.save(state, folder)


def meshed(trainer: Trainer, options: MeshOptions) -> Trainer:
    """The trainer on the mesh of the options, or as it is where one device does all."""
    mesh = mesh_of(options)
    return trainer if mesh is None else Meshed(trainer, mesh)


def _divides(split: Split, shape: Sequence[int], unit: int, model: int) -> bool:
    axis = tuple(split).index(MODEL)
    return shape[axis] % (unit * model) == 0


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_attention(node: Any) -> bool:
    return isinstance(node, Attention)
