"""Several devices: how a batch's rows, and large weights, are shared out among them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as Split

from proximo.errors import UserError

Tree = TypeVar("Tree")

DATA, MODEL = "data", "model"


@dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """How many devices share the work; their product is the number of devices, or 1."""

    data_parallel: int = 1
    """Split batches across so many groups of devices."""
    model_parallel: int = 1
    """Split weights across so many devices, for models too large for one."""


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
