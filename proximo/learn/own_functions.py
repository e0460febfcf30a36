"""An objective, value loss or actor step of the user's own, tried on shapes before anything is trained."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from proximo.errors import UserError, reason
from proximo.learn.actor_steps import Problem
from proximo.learn.options import UpdateOptions
from proximo.options import is_own
from proximo.own import name_of, said_shape

SAMPLES = 4  # of the minibatch that they are tried on; no number of ours is likely to be equal to it
TRACEBACK = "(--debug shows its traceback)"


def check_functions(update: UpdateOptions) -> None:
    """Raises UserError where the user's own functions fail, or return what they should not.

    Nothing is computed: they are called with shapes.
    """
    number = jnp.result_type(float)
    shape = (SAMPLES,) if update.actor_step.joint else (SAMPLES // 2, SAMPLES)  # else it sees all, [T, N]
    sample, values = jax.ShapeDtypeStruct(shape, number), jax.ShapeDtypeStruct((*shape, 1), number)
    if is_own(update, "objective"):
        _check("objective", update.objective, "(log_ratio, advantage, kl)", sample)
        if hasattr(update.objective, "adapted"):
            _check_adapted(update.objective)
    if is_own(update, "value_loss"):
        _check("value loss", update.value_loss, "(value, old_value, target)", values)


def _check(what: str, function: Callable[..., Any], arguments: str, sample: jax.ShapeDtypeStruct) -> None:
    """That it takes three arrays of the sample's shape, and returns one that has a gradient."""
    called, given = f"the {what} {name_of(function)}", f"{arguments}, each {said_shape(sample)}"

    def total(first: Any, *others: Any) -> tuple[Any, Any]:
        found = function(first, *others)
        return jnp.sum(found), found

    try:
        found = jax.eval_shape(function, sample, sample, sample)
        if said_shape(found) == said_shape(sample):
            jax.eval_shape(jax.grad(total, has_aux=True), sample, sample, sample)
    except Exception as error:
        raise UserError(f"{called} failed with {given}: {reason(error)} {TRACEBACK}") from error
    if said_shape(found) != said_shape(sample):
        raise UserError(
            f"{called} returned {said_shape(found)} for {given}: it must return "
            f"{said_shape(sample)}, a number for each transition"
        )


def _check_adapted(objective: Any) -> None:
    """That the next update's objective is one like it."""
    numbers = jax.tree.map(jnp.float32, objective)
    called = f"the objective {name_of(objective)}"
    try:
        found = jax.eval_shape(
            lambda kl: numbers.adapted(kl), jax.ShapeDtypeStruct((), jnp.result_type(float))
        )
    except Exception as error:
        raise UserError(f"{called} failed in adapted(kl): {reason(error)} {TRACEBACK}") from error
    if _shapes(found) != _shapes(numbers):
        raise UserError(
            f"{called} returned {said_tree(found)} from adapted(kl): it must return {said_tree(numbers)}, as "
            "`with_numbers(self, ...)` of proximo.core.arrays does"
        )


def take_actor_step(
    step: Any, policy: Any, memory: Any, problem: Problem
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """An actor step, whose result must be like what it was given: seen as it is compiled, not as it runs.

    Raises UserError for a step that returns anything else.
    """
    called = f"the actor step {name_of(step)}"
    try:
        found = step(policy, memory, problem)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{called} failed: {reason(error)} {TRACEBACK}") from error
    if not isinstance(found, tuple) or len(found) != 3 or not isinstance(found[2], dict):
        raise UserError(f"{called} returned {said_tree(found)}: it must return (policy, memory, metrics)")
    for what, before, after in (("policy", policy, found[0]), ("memory", memory, found[1])):
        if _shapes(before) != _shapes(after):
            raise UserError(
                f"{called} returned a {what} of {said_tree(after)}: it must be as the one before, "
                f"{said_tree(before)}"
            )
    for name, value in found[2].items():
        if jnp.shape(value) != ():
            raise UserError(
                f"{called} returned {said_shape(value)} as the metric {name}: it must be one number"
            )
    return found


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def said_tree(tree: Any) -> str:
    """The type of a tree, and its first arrays."""
    leaves = jax.tree.leaves(tree)
    return (
        f"{type(tree).__name__}({', '.join(map(said_shape, leaves[:3]))}{', ...' if len(leaves) > 3 else ''})"
    )
