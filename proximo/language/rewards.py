"""What a response is worth: Python functions, a reward model, or several of both with weights."""

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo import importing
from proximo.errors import UserError
from proximo.language.compiling import jit
from proximo.language.heads import RewardModel
from proximo.language.messages import cleaned
from proximo.language.optimise import in_parts, rows_of_part
from proximo.language.policy import Sequences, segments_of
from proximo.language.templates import one_line

RewardFunction = Callable[..., Sequence[float]]
"""f(prompts, completions, completion_ids, **columns) -> a number for each completion (TRL's signature).

prompts               as they stand in the data: texts, or lists of messages
completions           texts
completion_ids        the tokens, end token included
columns               the data's other columns, a list each
"""


class Scored(NamedTuple):
    """Scores of a batch: the weighted sum, and each source's own, [B] each."""

    total: Float[np.ndarray, "B"]
    parts: dict[str, Float[np.ndarray, "B"]]


TAKEN = ("std",)
"""Metrics of rewards that are of no single source: `rewards/std`, of the weighted sum."""


def reward_function(name: str) -> RewardFunction:
    """The function that `module:function` names; the module may lie in the working folder.

    This imports the module, so the name must come from the user's own command line, never from a file.

    Raises UserError where the module cannot be imported, whatever is wrong in it, or has no such function.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UserError(f"--reward {name!r}: write module:function")
    try:
        imported = importing.user_module(module)
    except Exception as error:  # the user's own code: anything may be wrong in it
        what = f"{type(error).__name__}: {one_line(error)}{_line_of(error)}"
        raise UserError(f"--reward {name!r}: cannot import {module} ({what})") from error
    if not hasattr(imported, attribute):
        raise UserError(f"--reward {name!r}: {module} has no {attribute}")
    function: RewardFunction = getattr(imported, attribute)
    if not callable(function):
        raise UserError(f"--reward {name!r}: {attribute} is not a function")
    return function


def _line_of(error: Exception) -> str:
    """Where in the imported code it happened; nothing where the error says so, or no code was found."""
    ours = (__file__, importing.__file__, importlib.__file__)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if one.filename not in ours and not one.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError) or not theirs:
        return ""
    return f", {Path(theirs[-1].filename).name} line {theirs[-1].lineno}"


def name_of(function: RewardFunction) -> str:
    """What a function is called."""
    return getattr(function, "__name__", type(function).__name__)


def source_names(functions: Iterable[RewardFunction], models: Iterable[str]) -> list[str]:
    """What each source of reward is called in the metrics: its own name, or `score-2` for a second `score`.

    models  names of the reward models; functions come before them
    """
    names: list[str] = []
    for name in [*map(name_of, functions), *models]:
        number, free = 1, name
        while free in names or free in TAKEN:
            number += 1
            free = f"{name}-{number}"
        names.append(free)
    return names


def as_asked(prompt: Any, completion: str) -> tuple[Any, Any]:
    """A prompt and its completion as functions get them, as in TRL.

    To a conversation the completion is a list of messages. Where the conversation ends with the beginning of
    the assistant's message, that is the completion's beginning and no part of the prompt.
    """
    if not isinstance(prompt, list):
        return prompt, completion
    last = cleaned(prompt[-1:], "prompt")[0]
    if last["role"] != "assistant":
        return prompt, [{"role": "assistant", "content": completion}]
    return prompt[:-1], [{"role": "assistant", "content": last["content"] + completion}]


def called(
    name: str,
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[str],
    completion_ids: Sequence[list[int]],
    columns: Mapping[str, Sequence[Any]],
) -> Float[np.ndarray, "B"]:
    """A function's scores.

    Raises UserError for whatever goes wrong in it, with the completion and the prompt where there is one to
    blame: after an exception the function is called once more with each completion alone, up to the first
    that it raises at.
    """
    pairs = [as_asked(*pair) for pair in zip(prompts, completions, strict=True)]
    own: dict[str, Any] = {
        "prompts": [prompt for prompt, _ in pairs],
        "completions": [answer for _, answer in pairs],
        "completion_ids": map(list, completion_ids),
    }
    given = _wanted(function, {key: list(values) for key, values in (own | dict(columns)).items()})

    def at(index: int) -> str:
        return (
            f"for completion {index} of the batch "
            f"(prompt: {shown(prompts[index])}; completion: {shown(completions[index])})"
        )

    try:
        scores = list(function(**given))
    except Exception as error:
        index, cause = _culprit(function, given, len(completions)) or (None, error)
        together = f"for a batch of {len(completions)}, though for none of them alone"
        where = together if index is None else at(index)
        what = f"{type(cause).__name__}: {_cut(one_line(cause), 200)}"
        raise UserError(f"the reward function {name} raised {what} {where}") from cause
    if len(scores) != len(completions):
        first = f"; there is none {at(len(scores))}" if len(scores) < len(completions) else ""
        raise UserError(
            f"the reward function {name} returned {len(scores)} numbers for {len(completions)} completions: "
            f"return one for each{first}"
        )
    numbers = np.array([_number(score) for score in scores], np.float32)
    if not np.isfinite(numbers).all():
        wrong = int(np.argmin(np.isfinite(numbers)))
        raise UserError(f"the reward function {name} returned {shown(scores[wrong])} {at(wrong)}")
    return numbers


def _wanted(function: RewardFunction, given: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Those arguments that a function takes; all of them where it does not say, as some of C do not."""
    try:
        takes = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return given
    if any(p.kind == p.VAR_KEYWORD for p in takes):
        return given
    known = {p.name for p in takes}
    return {key: value for key, value in given.items() if key in known}


def _culprit(
    function: RewardFunction, given: Mapping[str, Sequence[Any]], count: int
) -> tuple[int, Exception] | None:
    """The first completion that a function raises at when it has that one alone, and what it raises."""
    for index in range(count):
        try:
            list(function(**{key: [values[index]] for key, values in given.items()}))
        except Exception as error:
            return index, error
    return None


def _number(score: Any) -> np.float32:
    """A score as the trainers have it; NaN for what is no real number."""
    alone = isinstance(score, int | float | np.number) or getattr(score, "shape", None) == ()
    if not alone or isinstance(score, str) or np.iscomplexobj(score):
        return np.float32(np.nan)
    try:
        with np.errstate(over="ignore"):  # the largest of 64 bits are infinite in 32
            return np.float32(float(score.detach() if hasattr(score, "detach") else score))
    except (TypeError, ValueError, OverflowError):
        return np.float32(np.nan)


def shown(value: Any, most: int = 80) -> str:
    """A text, or anything else, for a message: one line without runs of white space, not too long."""
    return _cut(repr(" ".join(value.split()) if isinstance(value, str) else value), most)


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else f"{line[: most - 1]}…"


@partial(jit, static_argnames="rows")
def _scores(model: RewardModel, sequences: Sequences, width: Array, rows: int) -> Float[Array, "B"]:
    def part_scores(part: Sequences) -> Float[Array, "rows"]:
        return model.scores(part.ids, segments_of(part, width))

    return jax.lax.map(part_scores, in_parts(sequences, rows)).reshape(-1)


def model_scores(
    model: RewardModel, sequences: Sequences, width: int, micro_batch_tokens: int | None = None
) -> Float[np.ndarray, "B"]:
    """A reward model's scores of prompts with their responses, read at the last token of each.

    width               W, columns of the prompts
    micro_batch_tokens  most that go through the model at once (`rows_of_part`)
    """
    count, length = sequences.ids.shape
    rows = rows_of_part(count, length, micro_batch_tokens)
    return np.asarray(_scores(model, sequences, jnp.asarray(width), rows))


def weighted(parts: dict[str, Float[np.ndarray, "B"]], weights: Sequence[float]) -> Scored:
    """The weighted sum of several scores."""
    columns = np.stack(list(parts.values()))
    return Scored(np.tensordot(np.asarray(weights, np.float32), columns, 1), parts)
