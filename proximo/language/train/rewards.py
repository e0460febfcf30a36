"""Scores of responses: Python functions, reward models, or a weighted sum of several."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.errors import UserError
from proximo.importing import user_object
from proximo.language.model.compiling import jit
from proximo.language.model.heads import RewardModel
from proximo.language.text.messages import normalise_messages
from proximo.language.text.templates import one_line
from proximo.language.train.optimise import rows_of_part
from proximo.language.train.responses import Responses, segments_of
from proximo.learn.descend import in_parts

RewardFunction = Callable[..., Any]
"""f(prompts, completions, completion_ids, **columns) -> a number for each completion (TRL's signature).

None instead of a number means that the function does not score that completion. It may be `async`.

prompts         as in the data: texts, or lists of messages
completions     texts; for prompts that are conversations, lists of messages
completion_ids  the token ids, including the end token
columns         the data's other columns, a list each
"""


TAKEN = ("std",)
"""Metrics of rewards that belong to no single source: `rewards/std`, of the weighted sum."""


def reward_function(name: str) -> RewardFunction:
    """The function that `module:function` or `file.py:function` names.

    This imports the module, so the name must come from the user's own command line, never from a file.

    Raises UserError if the module cannot be imported, for any reason, or has no such function.
    """
    try:
        function: RewardFunction = user_object(name, "function")
    except UserError as error:
        raise UserError(f"--reward {name!r}: {error}") from error
    if not callable(function):
        raise UserError(f"--reward {name!r}: {name.rpartition(':')[2]} is not a function")
    return function


def source_names(functions: Iterable[RewardFunction], models: Iterable[str]) -> list[str]:
    """The name of each source of reward in the metrics: its own, or `score-2` for a second `score`.

    models  names of the reward models; functions come before them
    """
    names: list[str] = []
    own = [getattr(function, "__name__", type(function).__name__) for function in functions]
    for name in [*own, *models]:
        number, free = 1, name
        while free in names or free in TAKEN:
            number += 1
            free = f"{name}-{number}"
        names.append(free)
    return names


def as_trl(prompt: Any, completion: str) -> tuple[Any, Any]:
    """A prompt and its completion in the form that reward functions get, as in TRL.

    For a conversation, the completion is a list of messages. If the conversation ends with the start of the
    assistant's message, that start belongs to the completion, not to the prompt.
    """
    if not isinstance(prompt, list):
        return prompt, completion
    last = normalise_messages(prompt[-1:], "prompt")[0]
    if last["role"] != "assistant":
        return prompt, [{"role": "assistant", "content": completion}]
    return prompt[:-1], [{"role": "assistant", "content": last["content"] + completion}]


def call_rewards(
    functions: Mapping[str, RewardFunction],
    prompts: Sequence[Any],
    completions: Sequence[str],
    completion_ids: Sequence[list[int]],
    columns: Mapping[str, Sequence[Any]],
) -> dict[str, Float[np.ndarray, "B"]]:
    """The scores of functions by their names; NaN for a completion that a function does not score (None).

    `async` functions run concurrently. Raises UserError if a function fails, with the completion and the
    prompt that cause it, if one does: after an exception the function is called again with each completion
    alone, up to the first that raises.
    """
    pairs = [as_trl(*pair) for pair in zip(prompts, completions, strict=True)]
    calls, started = [], []
    for name, function in functions.items():
        own = {
            "prompts": [prompt for prompt, _ in pairs],
            "completions": [answer for _, answer in pairs],
            "completion_ids": [list(ids) for ids in completion_ids],
        }
        calls.append(RewardCall(name, function, _wanted(function, own | dict(columns)), prompts, completions))
    with contextlib.ExitStack() as stack:
        for call in calls:
            started.append(call.start())
            stack.callback(getattr(started[-1], "close", int))  # a coroutine nobody waits for complains
        results = iter(_await_all([found for found in started if inspect.isawaitable(found)]))
    return {
        call.name: call.scores_of(next(results) if inspect.isawaitable(found) else found)
        for call, found in zip(calls, started, strict=True)
    }


class RewardCall(NamedTuple):
    """The call of a reward function on a batch."""

    name: str
    function: RewardFunction
    given: Mapping[str, Sequence[Any]]  # its arguments
    prompts: Sequence[Any]  # for messages
    completions: Sequence[str]

    def start(self) -> Any:
        """What it returns: scores, or an awaitable."""
        try:
            found = self.function(**self.given)
            return found if inspect.isawaitable(found) else list(found)
        except Exception as error:
            raise self.error_of(error) from error

    def scores_of(self, scores: Any) -> Float[np.ndarray, "B"]:
        """The scores as an array. Raises UserError for anything else."""
        if isinstance(scores, BaseException):
            raise self.error_of(scores) from scores
        if len(scores) != len(self.completions):
            first = f"; one is missing {self.at(len(scores))}" if len(scores) < len(self.completions) else ""
            raise UserError(
                f"the reward function {self.name} returned a list of length {len(scores)} for a batch of "
                f"{len(self.completions)}: return one number for each completion{first}"
            )
        found = np.array([_number(score) for score in scores], np.float32)
        wrong = [i for i, score in enumerate(scores) if score is not None and not np.isfinite(found[i])]
        if wrong:
            said = shown(scores[wrong[0]])
            raise UserError(
                f"the reward function {self.name} returned {said} {self.at(wrong[0])}: "
                "return a finite number, or None to leave it out"
            )
        return found

    def error_of(self, error: BaseException) -> UserError:
        """The UserError for an exception that it raised."""
        index, cause = self.culprit() or (None, error)
        together = f"for a batch of {len(self.completions)} completions, but for none of them alone"
        where = together if index is None else self.at(index)
        what = f"{type(cause).__name__}: {_cut(one_line(cause), 200)}"
        return UserError(f"the reward function {self.name} raised {what} {where}")

    def culprit(self) -> tuple[int, BaseException] | None:
        """The first completion that makes it raise when called with that one alone, and the exception."""
        for index in range(len(self.completions)):
            try:
                found = self.function(**{key: [values[index]] for key, values in self.given.items()})
                scores = _await_all([found])[0] if inspect.isawaitable(found) else list(found)
                if isinstance(scores, BaseException):
                    return index, scores
            except Exception as error:
                return index, error
        return None

    def at(self, index: int) -> str:
        """The place in the batch, with prompt and completion."""
        return (
            f"for completion {index} of the batch "
            f"(prompt: {shown(self.prompts[index])}; completion: {shown(self.completions[index])})"
        )


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of coroutines: one for the whole run, so that their connections stay usable.

    It runs in a thread of its own, since a notebook's thread already has a loop.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async rewards", daemon=True).start()
    return loop


def _await_all(waiting: Sequence[Awaitable[Any]]) -> list[Any]:
    """The lists, or the exceptions, of several coroutines that run concurrently."""
    if not waiting:
        return []

    async def scores(one: Awaitable[Any]) -> list[Any]:
        return list(await one)

    async def together() -> list[Any]:
        return await asyncio.gather(*map(scores, waiting), return_exceptions=True)

    return asyncio.run_coroutine_threadsafe(together(), _loop()).result()


NOT_PASSED = {
    "trainer_state": "the progress of the run is not passed",
    "log_extra": "completions.jsonl has the prompt, the completion and the scores",
    "log_metric": "return it as the score of a separate function with reward weight 0",
    "environments": "there are only prompts",
}
"""Arguments that TRL passes to a reward function besides the data, and what replaces them."""


def check_arguments(name: str, function: RewardFunction) -> None:
    """Raises UserError for a function that requires an argument that only TRL passes."""
    takes = _parameters(function) or {}
    for argument, instead in NOT_PASSED.items():
        found = takes.get(argument)
        if found is not None and found.default is found.empty and found.kind != found.VAR_KEYWORD:
            raise UserError(
                f"the reward function {name} requires {argument}, which only TRL passes ({instead}): "
                f"give it a default, {argument}=None"
            )


def _wanted(function: RewardFunction, given: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The arguments that a function takes; all of them if its signature is unknown."""
    takes = _parameters(function)
    every = takes is None or any(p.kind == p.VAR_KEYWORD for p in takes.values())
    return {name: list(values) for name, values in given.items() if every or name in (takes or {})}


def _parameters(function: RewardFunction) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a function; None if unknown, as for some functions written in C."""
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):
        return None


def _number(score: Any) -> np.float32:
    """A score as float32; NaN for anything but a real number."""
    alone = isinstance(score, int | float | np.number) or getattr(score, "shape", None) == ()
    if not alone or isinstance(score, str) or np.iscomplexobj(score):
        return np.float32(np.nan)
    try:
        with np.errstate(over="ignore"):  # the largest of 64 bits are infinite in 32
            return np.float32(float(score.detach() if hasattr(score, "detach") else score))
    except (TypeError, ValueError, OverflowError):
        return np.float32(np.nan)


def shown(value: Any, most: int = 80) -> str:
    """A value for an error message: one line, shortened, without repeated white space."""
    return _cut(repr(" ".join(value.split()) if isinstance(value, str) else value), most)


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else f"{line[: most - 1]}…"


@partial(jit, static_argnames="rows")
def _scores(model: RewardModel, responses: Responses, width: Array, rows: int) -> Float[Array, "B"]:
    def part_scores(part: Responses) -> Float[Array, "rows"]:
        return model.scores(part.ids, segments_of(part, width))

    return jax.lax.map(part_scores, in_parts(responses, rows)).reshape(-1)


def model_scores(
    model: RewardModel, responses: Responses, width: int, micro_batch_tokens: int | None = None
) -> Float[np.ndarray, "B"]:
    """A reward model's scores of prompts with their responses, read at the last token of each.

    width               W, columns of the prompts
    micro_batch_tokens  maximum tokens per forward pass (`rows_of_part`)
    """
    count, length = responses.ids.shape
    rows = rows_of_part(count, length, micro_batch_tokens)
    return np.asarray(_scores(model, responses, jnp.asarray(width), rows))


def weighted(parts: Mapping[str, Float[np.ndarray, "B"]], weights: Sequence[float]) -> Float[np.ndarray, "B"]:
    """The weighted sum of several scores. A source that does not score a completion is left out of its sum.

    NaN for a completion that no source scores. Raises UserError if no source scores any completion.
    """
    columns = np.stack(list(parts.values()))
    judged = ~np.isnan(columns)
    if not judged.any():
        raise UserError(
            f"none of {columns.shape[1]} completions has a score ({', '.join(parts)} returned None for all): "
            "return a number for some of them"
        )
    total = np.tensordot(np.asarray(weights, np.float32), np.where(judged, columns, np.float32(0)), 1)
    return np.where(judged.any(axis=0), total, np.float32(np.nan))
