"""Training data as token ids: what to imitate, what to answer, and which answer is better.

A prompt keeps the ids that it has alone, so that a model is trained on those that it will be prompted with;
a completion has those that it has behind its prompt, and nothing is ever decoded and encoded again. A text
and an answer end with EOS, except where they were cut off: no model learns to stop where a length did.

Every reader takes a file of JSON lines, or a list of dicts (columns in `records`), and these:

    tokenizer   the model's
    length      tokens that a record may have, at most
    overlong    what becomes of longer ones: "truncate" cuts answers, and refuses a prompt that leaves no
                room for one; "refuse" refuses both; "drop" leaves the record out. All of them are counted
    invalid     what becomes of records that are wrong: "refuse" the data, or "drop" such records, counted
    vocabulary  ids that the model has, where these may be fewer than the tokenizer's

and raises UserError for the first record that is wrong, with the file, the line, and what to do.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from proximo.language.text.data_files import Source
from proximo.language.text.messages import carries_loss
from proximo.language.text.records import (
    ANSWERS,
    COMPLETION,
    MESSAGES,
    PREFERENCE,
    PROMPT,
    TEXT,
    Dataset,
    Invalid,
    Kind,
    ParsedRecord,
    RawRecord,
    TooLong,
    margin_of,
    read_all,
)
from proximo.language.text.shapes import split_texts, texts_repeat_prompt
from proximo.language.text.templates import Messages
from proximo.language.text.tokenizer import Tokenizer

Overlong: TypeAlias = Literal["truncate", "refuse", "drop"]
Ids: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]
Piece: TypeAlias = tuple[list[int], bool]

ARGUMENTS = frozenset({"prompts", "completions", "completion_ids"})
"""What a reward function receives besides the columns, which cannot be called the same."""


@dataclass(frozen=True, eq=False)
class TrainingText:
    """Tokens to imitate.

    ids    [L] int32
    learn  [L] bool, tokens that carry loss; never the first one, which nothing predicts
    line   where it stood, from 1
    """

    ids: Ids
    learn: np.ndarray
    line: int


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a model is to answer.

    ids      [L] int32
    text     what was tokenised; messages as the chat template wrote them
    columns  everything else in the record, for reward functions; None where this record lacks a column
    line     where it stood, from 1
    given    as it stands in the record: text, or messages
    """

    ids: Ids
    text: str
    columns: Mapping[str, Any]
    line: int
    given: Any


@dataclass(frozen=True, eq=False)
class Preference:
    """Two answers, of which the first is better.

    prompt_ids    [L] int32
    chosen_ids    [C] int32, with EOS unless cut off
    rejected_ids  [R] int32, likewise; never equal to the chosen
    margin        by how much the chosen is better, units of reward; 0 where nothing is said
    line          where it stood, from 1
    conversation  they are messages, which the chat template made text
    """

    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids
    margin: float
    line: int
    conversation: bool = False


def read_training_texts(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    completion_only: bool = True,
    overlong: Overlong = "truncate",
    vocabulary: int | None = None,
    invalid: Invalid = "refuse",
) -> Dataset[TrainingText]:
    """Texts, conversations, or prompts with completions: {"text"}, {"messages"}, {"prompt", "completion"}.

    completion_only  whether completions and the assistant's messages alone carry loss, not what they
                     answer; a {"text"} always carries loss as a whole
    """

    def read(given: RawRecord) -> ParsedRecord[TrainingText]:
        record, notes = _with_weights(given.record, given.kind, completion_only)
        speaker = with_record_context(tokenizer, record, given.kind)
        pieces = _with_eos(speaker, _tokenised_pieces(speaker, record, given.kind, completion_only))
        notes += template_notes(speaker, record, given.kind)
        ids = [id for piece, _ in pieces for id in piece]
        learn = np.array([learn or not completion_only for piece, learn in pieces for _ in piece])
        _check_vocabulary(ids, vocabulary)
        learn[0] = False
        if len(ids) == 1:
            raise UserError("is a single token, which nothing predicts: remove the record")
        if not learn[:length].any():
            raise TooLong(f"has {int(learn.argmax())} tokens before the first to learn, of {length} that fit")
        cut = _needs_truncation(len(ids), length, overlong)
        return ParsedRecord(TrainingText(_ids(ids[:length]), learn[:length], given.line), cut, notes)

    return read_all(source, (TEXT, MESSAGES, COMPLETION), read, overlong, invalid)


def read_prompts(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    overlong: Literal["refuse", "drop"] = "refuse",
    vocabulary: int | None = None,
    invalid: Invalid = "refuse",
) -> Dataset[Prompt]:
    """What to answer: {"prompt"}. All other columns are kept, for reward functions.

    A conversation that ends with the assistant is gone on with, inside that message.
    """

    def read(given: RawRecord) -> ParsedRecord[Prompt]:
        speaker, prompt = with_record_context(tokenizer, given.record, given.kind), given.record["prompt"]
        notes = template_notes(speaker, given.record, given.kind)
        text = render_prompt(speaker, prompt) if given.kind.conversational else prompt
        ids = (_encoded if given.kind.conversational else _with_bos)(speaker, text, "prompt")
        _check_vocabulary(ids, vocabulary)
        _needs_truncation(len(ids), length, overlong)
        columns = {name: value for name, value in given.whole.items() if name != "prompt"}
        if taken := sorted(ARGUMENTS & {*columns}):
            raise UserError(f'has a column "{taken[0]}", a name that reward functions need: rename it')
        return ParsedRecord(Prompt(_ids(ids), text, columns, given.line, given.whole["prompt"]), notes=notes)

    found = read_all(source, (PROMPT,), read, overlong, invalid)
    names = dict.fromkeys(name for prompt in found.records for name in prompt.columns)
    filled = (replace(one, columns={name: one.columns.get(name) for name in names}) for one in found.records)
    return replace(found, records=tuple(filled))


def read_preferences(
    source: Source,
    tokenizer: Tokenizer,
    length: int,
    overlong: Overlong = "truncate",
    vocabulary: int | None = None,
    invalid: Invalid = "refuse",
) -> Dataset[Preference]:
    """Two answers and which is better: {"prompt", "chosen", "rejected"}, and "margin" where it is known.

    Without "prompt", or where it is repeated, it is what both answers begin with (`shapes`).

    length  of a prompt with either answer
    """
    source = source if isinstance(source, str | Path) else list(source)
    repeated = texts_repeat_prompt(source, ANSWERS)

    def read(given: RawRecord) -> ParsedRecord[Preference]:
        record, notes = _prepared(tokenizer, given, repeated)
        kind = Kind(PREFERENCE, given.kind.conversational)
        speaker = with_record_context(tokenizer, record, kind)
        prompt, chosen = _tokenise_answer(speaker, record, kind, "chosen")
        again, rejected = _tokenise_answer(speaker, record, kind, "rejected")
        if again != prompt:
            raise UserError("the chat template writes another prompt before each answer: give text instead")
        notes += template_notes(speaker, record, kind)
        _check_vocabulary([*prompt, *chosen, *rejected], vocabulary)
        if chosen == rejected:
            raise UserError('"chosen" and "rejected" are the same: remove the record')
        room = length - len(prompt)
        if room < 1:
            raise TooLong(f'has {len(prompt)} tokens in "prompt" alone, of {length} that fit')
        cut = _needs_truncation(len(prompt) + max(len(chosen), len(rejected)), length, overlong)
        if chosen[:room] == rejected[:room]:
            raise TooLong(f'"chosen" and "rejected" are the same within the {length} tokens that fit')
        answers = _ids(chosen[:room]), _ids(rejected[:room])
        pair = Preference(_ids(prompt), *answers, margin_of(record), given.line, given.kind.conversational)
        return ParsedRecord(pair, cut, notes)

    return read_all(source, (PREFERENCE, ANSWERS), read, overlong, invalid)


def _prepared(
    tokenizer: Tokenizer, given: RawRecord, repeated: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A record with a prompt of its own and answers that do not repeat it, and what there is to note."""
    record, kind = given.record, given.kind
    if kind == Kind(ANSWERS, False):
        names = ("prompt", *ANSWERS)
        parts = split_texts(tokenizer, record["chosen"], record["rejected"])
        return {**record, **dict(zip(names, parts, strict=True))}, ()
    if repeated and not kind.conversational:
        size = len(record["prompt"])
        rest = {name: record[name][size:] for name in kind.columns[1:]}
        return {**record, **rest}, ("all answers repeat their prompt, which is taken off them",)
    return record, ()


def _with_weights(
    record: Mapping[str, Any], kind: Kind, completion_only: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A record whose messages have weight 0 where they are not to be learned, and what there is to note.

    Raises UserError where no message would be learned, or one that is not to be.
    """
    if not kind.conversational:
        return record, ()
    name = kind.columns[-1]
    if not completion_only:
        if any(one.get("weight") == 0 for column in kind.columns for one in record[column]):
            raise UserError("has a message of weight 0, but completion_only is false: remove one of the two")
        return record, ()
    messages = without_leading_answers(record[name]) if kind.columns == MESSAGES else record[name]
    if not any(carries_loss(one) for one in messages):
        raise UserError(
            f'"{name}" has no answer to learn (weight 0, or nothing before it): remove the record'
        )
    first = messages[0] != record[name][0]
    notes = ("the conversation begins with the assistant, and that message is not learned",) if first else ()
    return {**record, name: messages}, notes


def _tokenised_pieces(
    tokenizer: Tokenizer, record: Mapping[str, Any], kind: Kind, completion_only: bool
) -> list[Piece]:
    if kind.columns == TEXT:
        return [(_with_bos(tokenizer, record["text"], "text"), True)]
    if kind.columns == COMPLETION:
        return _pair(tokenizer, record, kind, "completion")
    if completion_only:
        return _spans(tokenizer, record["messages"], 0)
    # Whoever learns everything needs no split, which not every template allows.
    return [(tokenizer.encode(tokenizer.chat_whole(record["messages"])), True)]


def _pair(tokenizer: Tokenizer, record: Mapping[str, Any], kind: Kind, answer: str) -> list[Piece]:
    """A prompt, as `read_prompts` has it, and what answers it."""
    prompt, completion = record["prompt"], record[answer]
    if kind.conversational and prompt[-1]["role"] == "assistant":
        return _continued_pair(tokenizer, prompt, completion)
    if kind.conversational:
        return _spans(tokenizer, [*prompt, *completion], len(prompt))
    begun, ids = _with_bos(tokenizer, prompt, "prompt"), tokenizer.continuation(prompt, prompt + completion)
    if not ids:
        raise _no_token(completion, answer)
    return [(begun, False), (ids, True)]


def _spans(tokenizer: Tokenizer, messages: Messages, start: int) -> list[Piece]:
    theirs = [place for place, one in enumerate(messages) if one["role"] == "assistant" and place >= start]
    skip = [place for place in theirs if not carries_loss(messages[place])]
    return tokenizer.chat_spans(messages, start, skip)


def _continued_pair(tokenizer: Tokenizer, prompt: Messages, completion: Messages) -> list[Piece]:
    """A prompt that ends inside the assistant's message, and how that goes on."""
    if len(completion) > 1:
        raise UserError('"prompt" ends with the "assistant", so the answer must be one message that goes on')
    before = render_continuation(tokenizer, prompt)
    after = tokenizer.chat(conversation(prompt, completion), False)
    if not after.startswith(before):
        raise UserError("the chat template writes a continued message differently: give text instead")
    head = _encoded(tokenizer, before, "prompt")
    return [(head, False), (tokenizer.continuation(before, after, head), True)]


def _tokenise_answer(
    tokenizer: Tokenizer, record: Mapping[str, Any], kind: Kind, answer: str
) -> tuple[list[int], list[int]]:
    (prompt, learn), *rest = _with_eos(tokenizer, _pair(tokenizer, record, kind, answer))
    if learn:
        raise UserError("the chat template writes nothing before the answer: give text instead of messages")
    return prompt, [id for ids, _ in rest for id in ids]


def _with_eos(tokenizer: Tokenizer, pieces: list[Piece]) -> list[Piece]:
    """Ends with EOS, and with an answer: what stands behind the last one teaches nothing."""
    while pieces and not pieces[-1][1]:
        pieces = pieces[:-1]
    if not pieces:
        raise UserError("the chat template writes nothing for the assistant: remove the record")
    ids, _ = tokenizer.until_eos(pieces[-1][0])
    return [*pieces[:-1], (ids if ids[-1] in tokenizer.eos_ids else [*ids, tokenizer.eos_id], True)]


def _with_bos(tokenizer: Tokenizer, text: str, name: str) -> list[int]:
    """A text with what the tokenizer puts before it (BOS), unless the text has spelt that out."""
    ids, start = _encoded(tokenizer, text, name), list(tokenizer.start_ids)
    return ids if ids[: len(start)] == start else start + ids


def _encoded(tokenizer: Tokenizer, text: str, name: str) -> list[int]:
    if not (ids := tokenizer.encode(text)):
        raise _no_token(text, name)
    return ids


def _no_token(text: str, name: str) -> UserError:
    return UserError(f'"{name}" is {text!r}, which has no token: fill it, or remove the record')


def _needs_truncation(size: int, length: int, overlong: str) -> bool:
    """Whether a record of this size is to be cut."""
    if size > length and overlong != "truncate":
        raise TooLong(f"has {size} tokens, of {length} that fit")
    return size > length


def _check_vocabulary(ids: Iterable[int], vocabulary: int | None) -> None:
    if vocabulary is not None and (largest := max(ids)) >= vocabulary:
        raise UserError(
            f"token id {largest} is outside the model's vocabulary of {vocabulary}: use its own tokenizer"
        )


def _ids(ids: Sequence[int]) -> Ids:
    return np.array(ids, np.int32)
