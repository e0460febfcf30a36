"""Actors and what they say, as plain vectors: what second-order steps and populations compute with."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from proximo.policies import ActorCritic


def actor_parts(policy: ActorCritic) -> tuple[Any, ...]:
    """What an action depends on."""
    return policy.acting


def actor_vector(policy: ActorCritic) -> Float[Array, " P"]:
    """The actor's parameters as one vector."""
    return ravel_pytree(actor_parts(policy))[0]


def with_actor(policy: ActorCritic, flat: Float[Array, " P"]) -> ActorCritic:
    """The policy with the actor that a vector describes."""
    unravel = ravel_pytree(actor_parts(policy))[1]
    return eqx.tree_at(actor_parts, policy, unravel(flat))


def rows(tree: Any, shape: tuple[int, ...]) -> Float[Array, "T N D"]:
    """What is said of each state as one vector per state."""
    return jnp.concatenate([leaf.reshape(*shape, -1) for leaf in jax.tree.leaves(tree)], axis=-1)


def from_rows(vectors: Float[Array, "T N D"], like: Any) -> Any:
    """The inverse of `rows`."""
    leaves, structure = jax.tree.flatten(like)
    widths = [leaf.size // vectors[..., 0].size for leaf in leaves]
    cuts = [sum(widths[: index + 1]) for index in range(len(widths) - 1)]
    parts = jnp.split(vectors, cuts, axis=-1)
    shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
