"""What a response is worth: Python functions, a reward model, or several of both with weights."""

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

None instead of a number says that the function does not judge that completion. It may be `async`.

prompts               as they stand in the data: texts, or lists of messages
completions           texts
completion_ids        the tokens, end token included
columns               the data's other columns, a list each
"""


TAKEN = ("std",)
"""Metrics of rewards that are of no single source: `rewards/std`, of the weighted sum."""


def reward_function(name: str) -> RewardFunction:
    """The function that `module:function` or `file.py:function` names.

    This imports the module, so the name must come from the user's own command line, never from a file.

    Raises UserError where the module cannot be imported, whatever is wrong in it, or has no such function.
    """
    try:
        function: RewardFunction = user_object(name, "function")
    except UserError as error:
        raise UserError(f"--reward {name!r}: {error}") from error
    if not callable(function):
        raise UserError(f"--reward {name!r}: {name.rpartition(':')[2]} is not a function")
    return function


def source_names(functions: Iterable[RewardFunction], models: Iterable[str]) -> list[str]:
    """What each source of reward is called in the metrics: its own name, or `score-2` for a second `score`.

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
    """A prompt and its completion as functions get them, as in TRL.

    To a conversation the completion is a list of messages. Where the conversation ends with the beginning of
    the assistant's message, that is the completion's beginning and no part of the prompt.
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
    """The scores of functions by their names; NaN for a completion that a function does not judge (None).

    Those that are `async` wait side by side. Raises UserError for whatever goes wrong in one, with the
    completion and the prompt where there is one to blame: after an exception the function is called once more
    with each completion alone, up to the first that it raises at.
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
    """A reward function on its way through a batch."""

    name: str
    function: RewardFunction
    given: Mapping[str, Sequence[Any]]  # its arguments
    prompts: Sequence[Any]  # for messages
    completions: Sequence[str]

    def start(self) -> Any:
        """What it returns: scores, or something to wait for."""
        try:
            found = self.function(**self.given)
            return found if inspect.isawaitable(found) else list(found)
        except Exception as error:
            raise self.error_of(error) from error

    def scores_of(self, scores: Any) -> Float[np.ndarray, "B"]:
        """The scores as the trainers have them. Raises UserError for what is none."""
        if isinstance(scores, BaseException):
            raise self.error_of(scores) from scores
        if len(scores) != len(self.completions):
            first = f"; there is none {self.at(len(scores))}" if len(scores) < len(self.completions) else ""
            raise UserError(
                f"the reward function {self.name} returned {len(scores)} numbers for "
                f"{len(self.completions)} completions: return one for each{first}"
            )
        found = np.array([_number(score) for score in scores], np.float32)
        wrong = [i for i, score in enumerate(scores) if score is not None and not np.isfinite(found[i])]
        if wrong:
            said = shown(scores[wrong[0]])
            raise UserError(f"the reward function {self.name} returned {said} {self.at(wrong[0])}")
        return found

    def error_of(self, error: BaseException) -> UserError:
        """What to say of an exception that it raised."""
        index, cause = self.culprit() or (None, error)
        together = f"for a batch of {len(self.completions)}, though for none of them alone"
        where = together if index is None else self.at(index)
        what = f"{type(cause).__name__}: {_cut(one_line(cause), 200)}"
        return UserError(f"the reward function {self.name} raised {what} {where}")

    def culprit(self) -> tuple[int, BaseException] | None:
        """The first completion that it raises at when it has that one alone, and what it raises."""
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
        """Where in the batch."""
        return (
            f"for completion {index} of the batch "
            f"(prompt: {shown(self.prompts[index])}; completion: {shown(self.completions[index])})"
        )


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Where coroutines run: one loop for all of a run, so that what they keep open stays usable.

    In a thread of its own, since a notebook's thread has a loop already.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async rewards", daemon=True).start()
    return loop


def _await_all(waiting: Sequence[Awaitable[Any]]) -> list[Any]:
    """The lists, or the exceptions, of several coroutines that run side by side."""
    if not waiting:
        return []

    async def scores(one: Awaitable[Any]) -> list[Any]:
        return list(await one)

    async def together() -> list[Any]:
        return await asyncio.gather(*map(scores, waiting), return_exceptions=True)

    return asyncio.run_coroutine_threadsafe(together(), _loop()).result()


NOT_PASSED = {
    "trainer_state": "how far the run has come is not told",
    "log_extra": "columns of completions.jsonl are the prompt, the completion and the scores",
    "log_metric": "return it as the score of a function of its own, with the reward weight 0",
    "environments": "there are none beside the prompts",
}
"""What TRL passes to a reward function besides the data, and what there is here."""


def check_arguments(name: str, function: RewardFunction) -> None:
    """Raises UserError for a function that cannot do without what TRL alone passes."""
    takes = _parameters(function) or {}
    for argument, instead in NOT_PASSED.items():
        found = takes.get(argument)
        if found is not None and found.default is found.empty and found.kind != found.VAR_KEYWORD:
            raise UserError(
                f"the reward function {name} asks for {argument}, which only TRL passes ({instead}): "
                f"give it a default, {argument}=None"
            )


def _wanted(function: RewardFunction, given: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Those arguments that a function takes; all of them where it does not say."""
    takes = _parameters(function)
    every = takes is None or any(p.kind == p.VAR_KEYWORD for p in takes.values())
    return {name: list(values) for name, values in given.items() if every or name in (takes or {})}


def _parameters(function: RewardFunction) -> Mapping[str, inspect.Parameter] | None:
    """What a function takes; None where it does not say, as some of C do not."""
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):
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
def _scores(model: RewardModel, responses: Responses, width: Array, rows: int) -> Float[Array, "B"]:
    def part_scores(part: Responses) -> Float[Array, "rows"]:
        return model.scores(part.ids, segments_of(part, width))

    return jax.lax.map(part_scores, in_parts(responses, rows)).reshape(-1)


def model_scores(
    model: RewardModel, responses: Responses, width: int, micro_batch_tokens: int | None = None
) -> Float[np.ndarray, "B"]:
    """A reward model's scores of prompts with their responses, read at the last token of each.

    width               W, columns of the prompts
    micro_batch_tokens  most that go through the model at once (`rows_of_part`)
    """
    count, length = responses.ids.shape
    rows = rows_of_part(count, length, micro_batch_tokens)
    return np.asarray(_scores(model, responses, jnp.asarray(width), rows))


def weighted(parts: Mapping[str, Float[np.ndarray, "B"]], weights: Sequence[float]) -> Float[np.ndarray, "B"]:
    """The weighted sum of several scores; a source that does not judge a completion is left out of its sum.

    NaN where none does. Raises UserError where no source judges any of them.
    """
    columns = np.stack(list(parts.values()))
    judged = ~np.isnan(columns)
    if not judged.any():
        raise UserError(
            f"none of {columns.shape[1]} completions was judged (None by {', '.join(parts)}): "
            "return a number for some of them"
        )
    total = np.tensordot(np.asarray(weights, np.float32), np.where(judged, columns, np.float32(0)), 1)
    return np.where(judged.any(axis=0), total, np.float32(np.nan))
