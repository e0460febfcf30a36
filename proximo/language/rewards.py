"""What a response is worth: Python functions, a reward model, or several of both with weights."""

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.errors import UserError
from proximo.language.heads import RewardModel
from proximo.language.policy import Sequences, segments_of

RewardFunction = Callable[..., Sequence[float]]
"""f(prompts, completions, completion_ids, **columns) -> a number for each completion (TRL's signature).

prompts, completions  texts (prompts as they stood in the data: messages stay messages)
completion_ids        the tokens, end token included
columns               the data's other columns, a list each
"""


class Scored(NamedTuple):
    """Scores of a batch: the weighted sum, and each source's own, [B] each."""

    total: Float[np.ndarray, "B"]
    parts: dict[str, Float[np.ndarray, "B"]]


def reward_function(name: str) -> RewardFunction:
    """The function that `module:function` names; the module may lie in the working folder.

    This imports the module, so the name must come from the user's own command line, never from a file.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        raise UserError(f"--reward {name!r}: write module:function")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UserError(f"--reward {name!r}: cannot import {module} ({error})") from error
    except AttributeError:
        raise UserError(f"--reward {name!r}: {module} has no {attribute}") from None
    if not callable(function):
        raise UserError(f"--reward {name!r}: {attribute} is not a function")
    found: RewardFunction = function
    return found


def name_of(function: RewardFunction) -> str:
    """What a function is called in the metrics."""
    return getattr(function, "__name__", type(function).__name__)


def called(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[str],
    completion_ids: Sequence[list[int]],
    columns: dict[str, list[Any]],
) -> Float[np.ndarray, "B"]:
    """A function's scores. Raises UserError, with the index and the prompt, for whatever goes wrong in it."""
    name = name_of(function)
    wanted = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns}
    takes = inspect.signature(function).parameters.values()
    if not any(p.kind == p.VAR_KEYWORD for p in takes):
        known = {p.name for p in takes}
        wanted = {key: value for key, value in wanted.items() if key in known}
    try:
        scores = list(function(**wanted))
    except Exception as error:
        raise UserError(
            f"the reward function {name} raised {type(error).__name__}: {error} "
            f"(a batch of {len(prompts)}; its first prompt: {shown(prompts[0])})"
        ) from error
    if len(scores) != len(completions):
        raise UserError(
            f"the reward function {name} returned {len(scores)} numbers for {len(completions)} completions"
        )
    for index, score in enumerate(scores):
        if not _is_number(score) or not math.isfinite(score):
            raise UserError(
                f"the reward function {name} returned {score!r} for completion {index} of the batch "
                f"(prompt: {shown(prompts[index])}; completion: {shown(completions[index])})"
            )
    return np.asarray(scores, np.float32)


def _is_number(score: Any) -> bool:
    return isinstance(score, int | float | np.integer | np.floating) or (
        hasattr(score, "shape") and score.shape == ()
    )


def shown(text: Any, most: int = 80) -> str:
    """A text for a message: one line, not too long."""
    line = repr(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


@jax.jit
def _scores(model: RewardModel, sequences: Sequences, width: Array) -> Float[Array, "B"]:
    last = width + sequences.lengths - 1
    return model.scores(sequences.ids, segments_of(sequences, width), last)


def model_scores(model: RewardModel, sequences: Sequences, width: int) -> Float[np.ndarray, "B"]:
    """A reward model's scores of prompts with their responses, read at the last token of each."""
    return np.asarray(_scores(model, sequences, jnp.asarray(width)))


def weighted(parts: dict[str, Float[np.ndarray, "B"]], weights: Sequence[float]) -> Scored:
    """The weighted sum of several scores."""
    columns = np.stack(list(parts.values()))
    return Scored(np.tensordot(np.asarray(weights, np.float32), columns, 1), parts)
