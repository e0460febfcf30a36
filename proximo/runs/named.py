"""Trees of arrays as flat, named NumPy arrays, and back: what a file can hold."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from proximo.errors import UserError

WIDTHS = ({np.dtype("float32"), np.dtype("float64")}, {np.dtype("int32"), np.dtype("int64")})


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree under its path, such as `policy.actor.layers.0.weight`; keys as their numbers."""
    return {name: _numbers(leaf) for name, leaf in named_leaves(tree).items()}


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of a tree under their paths, such as `blocks.0.attention.query.weight`.

    is_leaf  parts that are taken as a whole
    """
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)}


def restore_tree(template: Any, arrays: Mapping[str, np.ndarray], place: Path | str) -> Any:
    """A tree like `template` with these arrays in it.

    template  a tree of arrays, or of their shapes
    place     where the arrays come from, for messages

    Numbers of 32 bits and of 64 are turned into each other, since JAX works in either; all other types must
    be those of the template. Raises UserError where one is missing, of another shape or type, or not finite.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    found = []
    for path, leaf in leaves:
        name, array = _name(path), arrays.get(_name(path))
        wanted = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if array is not None and {array.dtype, wanted.dtype} in WIDTHS:
            array = array.astype(wanted.dtype)
        if array is None or array.shape != wanted.shape or array.dtype != wanted.dtype:
            there = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
            asked = f"{wanted.dtype}{list(wanted.shape)}"
            raise UserError(f"{place}: {name} is {there}, but its description asks for {asked}")
        if jax.numpy.issubdtype(array.dtype, jax.numpy.inexact) and not np.isfinite(array).all():
            raise UserError(f"{place}: {name} is not finite: restore the file from a copy")
        found.append(
            jax.random.wrap_key_data(jax.numpy.asarray(array)) if _is_key(leaf) else jax.numpy.asarray(array)
        )
    return jax.tree_util.tree_unflatten(structure, found)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
