"""Training data as token ids: texts, prompts, and preferences between answers.

A prompt keeps the ids that it has alone, so a model is trained on the ids that it will be prompted with. A
completion has the ids that it has after its prompt. Nothing is decoded and encoded again. A text and an
answer end with EOS unless they were truncated, so no model learns to stop at the maximum length.

Every reader takes a file of JSON lines, or a list of dicts (columns in `records`), and these arguments:

    tokenizer   the model's
    length      maximum tokens of a record
    overlong    what to do with longer ones: "truncate" cuts answers, and refuses a prompt that leaves no
                room for one; "refuse" refuses both; "drop" leaves the record out. All of them are counted
    invalid     what to do with invalid records: "refuse" the data, or "drop" such records, counted

Each raises UserError for the first invalid record, with the file, the line, and what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from proximo.errors import UserError
from proximo.language.text.chat_records import (
    conversation,
    render_continuation,
    render_prompt,
    template_notes,
    with_record_context,
    without_leading_answers,
)
from proximo.language.text.data_files import Source, lines_of
from proximo.language.text.messages import carries_loss, common_prefix
from proximo.language.text.records import (
    ANSWERS,
    COMPLETION,
    MESSAGES,
    PREFERENCE,
    PROMPT,
    TEXT,
    Dataset,
    Invalid,
    ParsedRecord,
    RawRecord,
    TooLong,
    margin_of,
    read_all,
)
from proximo.language.text.templates import Messages
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.text.tokenizer_backend import encoding

TURN = "\n\nAssistant:"
"""The start of an answer in texts with "Human:" and "Assistant:", as in Anthropic's data."""

Overlong: TypeAlias = Literal["truncate", "refuse", "drop"]
Ids: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]
Piece: TypeAlias = tuple[list[int], bool]

ARGUMENTS = frozenset({"prompts", "completions", "completion_ids"})
"""Arguments of a reward function besides the columns; no column may have one of these names."""


@dataclass(frozen=True, eq=False)
class TrainingText:
    """A text to train on.

    ids    [L] int32
    learn  [L] bool, tokens that count in the loss; never the first one, which nothing predicts
    """

    ids: Ids
    learn: np.ndarray


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt for a model to answer.

    ids      [L] int32
    text     the tokenised text; messages as the chat template wrote them
    columns  all other columns of the record, for reward functions; None if this record lacks a column
    given    as in the record: text, or messages
    """

    ids: Ids
    text: str
    columns: Mapping[str, Any]
    given: Any


@dataclass(frozen=True, eq=False)
class Preference:
    """A preference between two answers.

    prompt_ids    [L] int32
    chosen_ids    [C] int32, with EOS unless truncated
    rejected_ids  [R] int32, likewise; never equal to the chosen
    margin        by how much the chosen answer is better, units of reward; 0 if not given
    conversation  whether they are messages that the chat template wrote as text
    """

    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids
    margin: float
    conversation: bool = False


def read_training_texts(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    completion_only: bool = True,
    overlong: Overlong = "truncate",
    invalid: Invalid = "refuse",
) -> Dataset[TrainingText]:
    """Texts, conversations, or prompts with completions: {"text"}, {"messages"}, {"prompt", "completion"}.

    completion_only  whether only completions and the assistant's messages count in the loss, not their
                     prompts; a {"text"} always counts as a whole
    """

    def read(given: RawRecord) -> ParsedRecord[TrainingText]:
        given = _with_weights(given, completion_only)
        speaker = with_record_context(tokenizer, given)
        pieces = _with_eos(speaker, _pieces_of(speaker, given, completion_only))
        notes = *given.notes, *template_notes(speaker, given)
        ids = [id for piece, _ in pieces for id in piece]
        learn = np.array([learn or not completion_only for piece, learn in pieces for _ in piece])
        learn[0] = False
        if len(ids) == 1:
            raise UserError("is a single token, so there is nothing to predict: remove the record")
        if not learn[:length].any():
            raise TooLong(f"has {int(learn.argmax())} tokens before the answer; the maximum is {length}")
        cut = _needs_truncation(len(ids), length, overlong)
        return ParsedRecord(TrainingText(_ids(ids[:length]), learn[:length]), cut, notes)

    return read_all(source, (TEXT, MESSAGES, COMPLETION), read, overlong, invalid)


def read_prompts(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    overlong: Literal["refuse", "drop"] = "refuse",
    invalid: Invalid = "refuse",
) -> Dataset[Prompt]:
    """Prompts: {"prompt"}. All other columns are kept for reward functions.

    A conversation that ends with the assistant is continued inside that message.
    """

    def read(given: RawRecord) -> ParsedRecord[Prompt]:
        speaker, prompt = with_record_context(tokenizer, given), given.record["prompt"]
        notes = *given.notes, *template_notes(speaker, given)
        text = render_prompt(speaker, prompt) if given.kind.conversational else prompt
        ids = (_encoded if given.kind.conversational else _with_bos)(speaker, text, "prompt")
        _needs_truncation(len(ids), length, overlong)
        columns = {name: value for name, value in given.whole.items() if name != "prompt"}
        if taken := sorted(ARGUMENTS & {*columns}):
            raise UserError(f'has a column "{taken[0]}", a name that reward functions need: rename it')
        return ParsedRecord(Prompt(_ids(ids), text, columns, given.whole["prompt"]), notes=notes)

    found = read_all(source, (PROMPT,), read, overlong, invalid)
    names = dict.fromkeys(name for prompt in found.records for name in prompt.columns)
    filled = (replace(one, columns={name: one.columns.get(name) for name in names}) for one in found.records)
    return replace(found, records=tuple(filled))


def read_preferences(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    overlong: Overlong = "truncate",
    invalid: Invalid = "refuse",
    vocabulary: int | None = None,
) -> Dataset[Preference]:
    """Preferences between two answers: {"prompt", "chosen", "rejected"}, and optionally "margin".

    Without "prompt", or if answers repeat it, the prompt is the common beginning of both answers.

    length      maximum tokens of a prompt with either answer
    vocabulary  number of the model's ids, if it may be smaller than the tokenizer's
    """
    source = source if isinstance(source, str | Path) else list(source)
    repeated = _texts_repeat_prompt(source)

    def read(given: RawRecord) -> ParsedRecord[Preference]:
        given = _with_prompt(tokenizer, given, repeated)
        speaker = with_record_context(tokenizer, given)
        prompt, chosen = _tokenise_answer(speaker, given, "chosen")
        again, rejected = _tokenise_answer(speaker, given, "rejected")
        if again != prompt:
            raise UserError("the chat template writes another prompt before each answer: give text instead")
        notes = *given.notes, *template_notes(speaker, given)
        if vocabulary is not None and (largest := max(*prompt, *chosen, *rejected)) >= vocabulary:
            raise UserError(f"token id {largest} is none of the model's {vocabulary}: use its own tokenizer")
        if chosen == rejected:
            raise UserError('"chosen" and "rejected" are the same: remove the record')
        room = length - len(prompt)
        if room < 1:
            raise TooLong(f'has {len(prompt)} tokens in "prompt" alone; the maximum is {length}')
        cut = _needs_truncation(len(prompt) + max(len(chosen), len(rejected)), length, overlong)
        if chosen[:room] == rejected[:room]:
            raise TooLong(f'"chosen" and "rejected" are the same within the {length} tokens that fit')
        answers, margin = (_ids(chosen[:room]), _ids(rejected[:room])), margin_of(given.record)
        pair = Preference(_ids(prompt), *answers, margin, given.kind.conversational)
        return ParsedRecord(pair, cut, notes)

    return read_all(source, (PREFERENCE, ANSWERS), read, overlong, invalid)


def _with_prompt(tokenizer: Tokenizer, given: RawRecord, repeated: bool) -> RawRecord:
    """A preference with its own prompt, and answers that do not repeat it."""
    record, notes = given.record, given.notes
    if given.kind.columns == ANSWERS:
        record = record | _split_texts(tokenizer, record["chosen"], record["rejected"])
    elif repeated and not given.kind.conversational:
        record = record | {name: record[name][len(record["prompt"]) :] for name in ANSWERS}
        notes += ("all answers repeat their prompt, which is removed from them",)
    return given._replace(record=record, kind=given.kind._replace(columns=PREFERENCE), notes=notes)


def _texts_repeat_prompt(source: Source) -> bool:
    """Whether in every record the answers, all texts, begin with the prompt.

    A single answer may do so by chance, as "Hello" answers "Hello"; if all of a file do, they repeat it.
    """
    for _, record in lines_of(source):
        prompt, answers = record.get("prompt"), [record.get(name) for name in ANSWERS]
        if not (isinstance(prompt, str) and prompt):
            return False
        if not all(isinstance(text, str) and text.startswith(prompt) and text != prompt for text in answers):
            return False
    return True


def _split_texts(tokenizer: Tokenizer, chosen: str, rejected: str) -> dict[str, str]:
    """Two texts with a common beginning as a prompt with two answers.

    The prompt ends after the last common "Assistant:", or without one after the last common token, so that no
    token of an answer is cut in two.

    Raises UserError if they have no common beginning.
    """
    size = common_prefix(chosen, rejected)
    place = chosen[:size].rfind(TURN)
    if place >= 0:
        size = place + len(TURN)
    else:
        one, other = encoding(tokenizer.backend, chosen), encoding(tokenizer.backend, rejected)
        ends = [end for _, end in one.offsets[: common_prefix(one.ids, other.ids)]]
        size = max((end for end in ends if end <= size), default=0)
    if not size:
        raise UserError('"chosen" and "rejected" have no common beginning to use as prompt: give "prompt"')
    if size in (len(chosen), len(rejected)):
        raise UserError('"chosen" or "rejected" is only the common beginning of both: remove the record')
    return {"prompt": chosen[:size], "chosen": chosen[size:], "rejected": rejected[size:]}


def _with_weights(given: RawRecord, completion_only: bool) -> RawRecord:
    """A record in which messages that are not trained on have weight 0.

    Raises UserError if no message would be trained on, or one that must not be.
    """
    record, (columns, conversational) = given.record, given.kind
    if not conversational:
        return given
    if not completion_only:
        if any(one.get("weight") == 0 for column in columns for one in record[column]):
            raise UserError("has a message of weight 0, but completion_only is false: remove one of the two")
        return given
    name = columns[-1]
    messages = without_leading_answers(record[name]) if columns == MESSAGES else record[name]
    if not any(carries_loss(one) for one in messages):
        raise UserError(
            f'"{name}" has no answer to train on (weight 0, or nothing before it): remove the record'
        )
    notes = given.notes
    if messages[0] != record[name][0]:
        notes += ("the conversation begins with the assistant, and this message is not trained on",)
    return given._replace(record={**record, name: messages}, notes=notes)


def _pieces_of(tokenizer: Tokenizer, given: RawRecord, completion_only: bool) -> list[Piece]:
    if given.kind.columns == TEXT:
        return [(_with_bos(tokenizer, given.record["text"], "text"), True)]
    if given.kind.columns == COMPLETION:
        return _pair(tokenizer, given, "completion")
    messages = given.record["messages"]
    if completion_only:
        return tokenizer.chat_spans(messages)
    # Whoever learns everything needs no split, which not every template allows.
    return [(tokenizer.encode(tokenizer.chat_whole(messages)), True)]


def _pair(tokenizer: Tokenizer, given: RawRecord, answer: str) -> list[Piece]:
    """A prompt, as in `read_prompts`, and its answer."""
    prompt, completion = given.record["prompt"], given.record[answer]
    if given.kind.conversational:
        if prompt[-1]["role"] == "assistant":
            return _continued_pair(tokenizer, prompt, completion)
        return tokenizer.chat_spans([*prompt, *completion], len(prompt))
    begun, ids = _with_bos(tokenizer, prompt, "prompt"), tokenizer.continuation(prompt, prompt + completion)
    if not ids:
        raise _no_token(completion, answer)
    return [(begun, False), (ids, True)]


def _continued_pair(tokenizer: Tokenizer, prompt: Messages, completion: Messages) -> list[Piece]:
    """A prompt that ends inside the assistant's message, and the continuation."""
    if len(completion) > 1:
        raise UserError('"prompt" ends with the "assistant", so the answer must be one message')
    before = render_continuation(tokenizer, prompt)
    after = tokenizer.chat(conversation(prompt, completion), False)
    if not after.startswith(before):
        raise UserError("the chat template writes a continued message differently: give text instead")
    return [(_encoded(tokenizer, before, "prompt"), False), (tokenizer.continuation(before, after), True)]


def _tokenise_answer(tokenizer: Tokenizer, given: RawRecord, answer: str) -> tuple[list[int], list[int]]:
    (prompt, learn), *rest = _with_eos(tokenizer, _pair(tokenizer, given, answer))
    if learn:
        raise UserError("the chat template writes nothing before the answer: give text instead of messages")
    return prompt, [id for ids, _ in rest for id in ids]


def _with_eos(tokenizer: Tokenizer, pieces: list[Piece]) -> list[Piece]:
    """Ends the ids with EOS, after the last answer; later tokens are not trained on."""
    while pieces and not pieces[-1][1]:
        pieces = pieces[:-1]
    if not pieces:
        raise UserError("the chat template writes nothing for the assistant: remove the record")
    ids, _ = tokenizer.until_eos(pieces[-1][0])
    return [*pieces[:-1], (ids if ids[-1] in tokenizer.eos_ids else [*ids, tokenizer.eos_id], True)]


def _with_bos(tokenizer: Tokenizer, text: str, name: str) -> list[int]:
    """A text with the tokens that the tokenizer puts before it (BOS), unless the text already has them."""
    ids, start = _encoded(tokenizer, text, name), list(tokenizer.start_ids)
    return ids if ids[: len(start)] == start else start + ids


def _encoded(tokenizer: Tokenizer, text: str, name: str) -> list[int]:
    if not (ids := tokenizer.encode(text)):
        raise _no_token(text, name)
    return ids


def _no_token(text: str, name: str) -> UserError:
    return UserError(f'"{name}" is {text!r}, which has no token: fill it, or remove the record')


def _needs_truncation(size: int, length: int, overlong: str) -> bool:
    """Whether to truncate a record of this size."""
    if size > length and overlong != "truncate":
        raise TooLong(f"has {size} tokens; the maximum is {length}")
    return size > length


def _ids(ids: Sequence[int]) -> Ids:
    return np.array(ids, np.int32)
