"""What many functions of `core` share: a number, a mask, and options that JAX can trace."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin

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
    """Registers a frozen dataclass of options as a tree: its numbers are leaves, all else is compiled in.

    A field is a leaf if its declared type has `float` in it, or a class that is traceable itself; None for
    "none" stays possible. An instance can then be traced by `jit`, mapped by `vmap` and changed by
    `jax.tree.map`, which put arrays in the place of the numbers: changing a number does not recompile. What
    is compiled in has to be hashable: whole numbers, words, True and False.

    `option` is returned. Raises nothing.
    """
    _traceable.add(option)
    names = [field.name for field in fields(option) if _is_number(field.type)]  # type: ignore[arg-type]
    others = [field.name for field in fields(option) if field.name not in names]  # type: ignore[arg-type]

    def take_apart(instance: Class) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(instance, name) for name in names], tuple(getattr(instance, name) for name in others)

    def rebuild(compiled_in: Iterable[Any], numbers: Iterable[Any]) -> Class:
        # Past __init__: JAX also rebuilds with placeholders, which a check of types there would refuse.
        instance = object.__new__(option)
        for name, value in zip([*names, *others], [*numbers, *compiled_in], strict=True):
            object.__setattr__(instance, name, value)
        return instance

    register_pytree_node(option, take_apart, rebuild)
    return option


_traceable: set[type] = set()


def _is_number(declared: Any) -> bool:
    if isinstance(declared, str):  # where annotations are not evaluated
        return "float" in declared
    if get_origin(declared) is Annotated:
        declared = declared.__origin__
    return any(kind is float or kind in _traceable for kind in get_args(declared) or (declared,))


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
    changed: Class = object.__new__(type(option))  # past __init__, as above
    for name in names:
        object.__setattr__(changed, name, numbers.get(name, getattr(option, name)))
    return changed


def global_norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers of a tree together: sqrt(sum x^2).

    With a dot product per array: on a CPU XLA compiles a sum of squares to a chain of small kernels, and
    small networks spend much of their time on starting kernels. Over all axes as they are: to flatten an
    array that is split over devices would be to gather it.

    tree  arrays of real numbers, of any shapes

    Raises nothing.
    """
    squares = [jnp.tensordot(leaf, leaf, leaf.ndim) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.asarray(sum(squares)))
