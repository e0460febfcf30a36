"""What many functions of `core` share: a number, a mask, and options that JAX can trace."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import register_pytree_node
from jaxtyping import Array, Bool, Float, Int

Class = TypeVar("Class")

Scalar: TypeAlias = int | float | Float[Array, ""] | Int[Array, ""]
"""A number, or an array that holds one: what a schedule returns, what `jit` and `vmap` trace."""

Mask: TypeAlias = Bool[Array, "*shape"] | Float[Array, "*shape"]
"""1 (or True) for a transition, 0 for a seam, padding, a dead agent, a prompt token."""


def traceable(option: type[Class]) -> type[Class]:
    """Registers a frozen dataclass of numbers as a tree, each field a leaf.

    `option` is returned. Made from plain numbers, as its types say, an instance can then be traced by
    `jit`, mapped by `vmap` and changed by `jax.tree.map`, which put arrays in the place of the numbers.

    Raises nothing.
    """
    names = [field.name for field in fields(option)]  # type: ignore[arg-type]

    def take_apart(instance: Class) -> tuple[list[Any], None]:
        return [getattr(instance, name) for name in names], None

    def rebuild(_: None, numbers: Iterable[Any]) -> Class:
        # Past __init__: JAX also rebuilds with placeholders, which a check of types there would refuse.
        instance = object.__new__(option)
        for name, number in zip(names, numbers, strict=True):
            object.__setattr__(instance, name, number)
        return instance

    register_pytree_node(option, take_apart, rebuild)
    return option


def with_numbers(option: Class, **numbers: Scalar) -> Class:
    """A copy of a `traceable` option with some of its numbers changed; they may be traced arrays.

    option   any instance of a traceable class
    numbers  field name -> its new value
    returns  an instance of the same class

    Raises TypeError for a name that is not a field.
    """
    names = [field.name for field in fields(option)]  # type: ignore[arg-type]
    if unknown := set(numbers) - set(names):
        raise TypeError(f"{type(option).__name__} has no {sorted(unknown)}")
    leaves, structure = jax.tree.flatten(option)
    values = [numbers.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
    changed: Class = jax.tree.unflatten(structure, values)
    return changed


def global_norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers of a tree together: sqrt(sum x^2).

    tree  arrays of real numbers, of any shapes

    Raises nothing.
    """
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.asarray(sum(squares)))
