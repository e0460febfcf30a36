"""Records of training data: JSON lines with TRL's columns, checked one by one before tokenising.

One file holds one kind of record:

    {"text"}                            a text to continue
    {"messages"}                        a conversation
    {"prompt"}                          a prompt to answer
    {"prompt", "completion"}            a prompt with its answer
    {"prompt", "chosen", "rejected"}    two answers with a preference (and by how much: "margin")
    {"chosen", "rejected"}              the same; the common beginning of both is the prompt

`prompt`, `completion`, `chosen` and `rejected` are text, or messages: lists of {"role", "content"}. Answers
may repeat their prompt, and ShareGPT's `conversations` are `messages`. Columns that are null are absent. All
others are used, named in a note, or refused. Nothing is guessed if a record could mean two things. Everything
here raises only UserError, in one line that says what to do.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from proximo.errors import UserError
from proximo.language.text.data_files import Source, lines_of
from proximo.language.text.messages import UNSEEN, common_prefix, describe_value, normalise_messages

Columns: TypeAlias = tuple[str, ...]
Invalid: TypeAlias = Literal["refuse", "drop"]
Record = TypeVar("Record")

TEXT: Columns = ("text",)
MESSAGES: Columns = ("messages",)
PROMPT: Columns = ("prompt",)
COMPLETION: Columns = ("prompt", "completion")
PREFERENCE: Columns = ("prompt", "chosen", "rejected")
ANSWERS: Columns = ("chosen", "rejected")
HINTS = {
    (
        "instruction",
        "output",
    ): 'write "instruction" and "input" as one "prompt", and "output" as "completion"',
    ("question", "answer"): 'rename "question" to "prompt", and "answer" to "completion"',
    ("query", "response"): 'rename "query" to "prompt", and "response" to "completion"',
}
FOR_TEMPLATES = ("tools", "chat_template_kwargs")
LABELS = ("label", "kto_tag")
ASKING = ("question", "instruction", "query", "input", "problem", "system", "context")
"""Other names of columns that may hold a prompt."""
WEIGHTS = ("weight", "train", "trainable", "loss_mask")
REASONS = 5  # that a note names


class Kind(NamedTuple):
    """The kind of a record.

    columns         one of the tuples above
    conversational  whether these hold messages rather than text
    """

    columns: Columns
    conversational: bool

    def __str__(self) -> str:
        return f"{' + '.join(self.columns)} as {'messages' if self.conversational else 'text'}"


class RawRecord(NamedTuple):
    """A record to be read.

    record  the columns of its kind: without nulls, and messages in the form that templates get
    kind    its kind
    whole   as in the file
    notes   remarks for the user; the same text for all records that it is true of
    """

    record: dict[str, Any]
    kind: Kind
    whole: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class ParsedRecord(NamedTuple, Generic[Record]):
    """A record that was read.

    record  in the form that trainers use
    cut     whether it was truncated
    notes   as in `RawRecord`
    """

    record: Record
    cut: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset(Generic[Record]):
    """All records that were read.

    records    in the order of the file
    truncated  how many of them were truncated
    dropped    how many others were dropped as too long
    invalid    how many others were dropped as invalid, by reason
    noted      remarks for the user, and how many records each is true of
    """

    records: tuple[Record, ...]
    truncated: int
    dropped: int
    invalid: Mapping[str, int] = field(default_factory=dict)
    noted: Mapping[str, int] = field(default_factory=dict)

    def notes(self, name: Any) -> tuple[str, ...]:
        """Remarks for the user, a line each; `name` is the file's."""
        found = []
        if self.truncated or self.dropped:
            cut, out = self.truncated, self.dropped
            found.append(f"{name}: {_counted(cut)} truncated, {out} dropped as too long")
        if self.invalid:
            wrong = _counted(sum(self.invalid.values()))
            found.append(f"{name}: {wrong} dropped as invalid: {_listed(self.invalid)}")
        found += [f"{name}: {reason} ({_counted(count)})" for reason, count in sorted(self.noted.items())]
        return tuple(found)


class TooLong(UserError):
    """A record that overlong "drop" leaves out."""


LEFT_OUT = 'shorten it, allow more, or drop such records (overlong "drop")'
MORE_ROOM = (
    'shorten it, remove it, allow longer prompts or shorter answers, or drop such records (overlong "drop")'
)


def read_all(
    source: Source,
    allowed: Sequence[Columns],
    read: Callable[[RawRecord], ParsedRecord[Record]],
    overlong: str,
    invalid: Invalid = "refuse",
) -> Dataset[Record]:
    """Reads all records of one kind; every error names its place.

    allowed   the kinds that are accepted; a file holds one of them
    read      converts a record
    overlong  "drop" drops records for which `read` raises TooLong
    invalid   "drop" drops records that are otherwise invalid; a line that is no record at all, or a record of
              another kind, is always refused

    Raises UserError for the first invalid record, and if none is left.
    """
    found: list[Record] = []
    truncated = dropped = 0
    wrong, noted = Counter[str](), Counter[str]()
    first: tuple[Kind, str] | None = None
    for where, whole in lines_of(source):
        try:
            raw = _classify(whole, allowed)
            first = first or (raw.kind, where)
            one = read(raw) if raw.kind == first[0] else None
        except TooLong as error:
            if overlong != "drop":
                advice = MORE_ROOM if allowed == (PROMPT,) else LEFT_OUT
                raise UserError(f"{where}: {error}: {advice}") from error
            dropped += 1
            continue
        except UserError as error:
            if invalid != "drop":
                raise UserError(f"{where}: {error}") from error
            # Alike for all that have the same fault: without advice and numbers.
            wrong[re.sub(r"\d+", "N", str(error).rpartition(": ")[0] or str(error))] += 1
            continue
        if one is None:
            raise UserError(f"{where}: is {raw.kind}, but {first[1]} is {first[0]}: keep one kind per file")
        found.append(one.record)
        truncated += one.cut
        noted.update(one.notes)
    if not found:
        raise UserError(_nothing(source, dropped, wrong))
    return Dataset(tuple(found), truncated, dropped, dict(wrong), dict(noted))


def _nothing(source: Source, dropped: int, wrong: Mapping[str, int]) -> str:
    """The reason why no record is left."""
    found = [f"records that are too long ({dropped}): allow more tokens"] if dropped else []
    found += [f"invalid records: {_listed(wrong)}"] if wrong else []
    name = source if isinstance(source, str | Path) else "the list of records"
    return f"{name} holds " + (f"only {'; and '.join(found)}" if found else "no record: fill it")


def _counted(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"


def _listed(reasons: Mapping[str, int]) -> str:
    most = Counter(reasons).most_common(REASONS)
    rest = sum(reasons.values()) - sum(count for _, count in most)
    listed = [f"{reason} ({count})" for reason, count in most] + ([f"others ({rest})"] if rest else [])
    return "; ".join(listed)


def _classify(whole: Mapping[str, Any], allowed: Sequence[Columns]) -> RawRecord:
    """A record by its kind.

    Raises UserError unless it is of an allowed kind, and for a column that would be ignored.
    """
    record = {name: value for name, value in whole.items() if value is not None}
    if MESSAGES in allowed and "conversations" in record and "messages" not in record:  # ShareGPT's name
        record = {"messages": record.pop("conversations"), **record}
    columns = _columns(record, allowed)
    if images := next((name for name in UNSEEN if record.get(name)), None):
        raise UserError(f'has "{images}", and this is a model of texts: remove the record, or the column')
    if columns == ANSWERS and (other := next((name for name in ASKING if name in record), None)):
        raise UserError(f'has "{other}" but no "prompt": rename it to "prompt" if it is one, or remove it')
    for name in columns:
        if name != "text" and isinstance(record[name], list | tuple):
            record[name] = normalise_messages(record[name], name)
    if {*ANSWERS} <= {*columns} and all(isinstance(record[name], list) for name in ANSWERS):
        if columns == ANSWERS or isinstance(record["prompt"], str):  # UltraFeedback has both
            record = _with_common_prompt(record)
        columns = PREFERENCE
    forms = {_form(record[name], name) for name in columns}
    if len(forms) > 1:
        raise UserError(f"mixes text and messages in {' and '.join(columns)}: write all in one form")
    kind = Kind(columns, forms.pop())
    if kind.conversational:
        _take_off_prompt(record, columns[1:])
        _check_roles(record, columns)
    unread = "" if columns == PROMPT else ", ".join(_unread(record, kind))
    return RawRecord(record, kind, whole, (f"columns that nothing reads: {unread}",) if unread else ())


def _with_common_prompt(record: Mapping[str, Any]) -> dict[str, Any]:
    """A preference between two whole conversations, as a prompt with two answers.

    The prompt is the common beginning of both. A `prompt` that is text must be a message of it.
    """
    chosen, rejected, prompt = record["chosen"], record["rejected"], record.get("prompt")
    size = common_prefix(chosen, rejected)
    if not size:
        raise UserError(
            '"chosen" and "rejected" have no common first message to use as prompt: give a '
            '"prompt" of messages'
        )
    if chosen == rejected:
        raise UserError('"chosen" and "rejected" are the same: remove the record')
    if size in (len(chosen), len(rejected)):
        raise UserError('"chosen" and "rejected" differ only in length: give each its own answer')
    common = chosen[:size]
    if isinstance(prompt, str) and prompt.strip() not in [one["content"].strip() for one in common]:
        raise UserError('"prompt" is text, but no message of both "chosen" and "rejected": leave it out')
    return {**record, "prompt": common, "chosen": chosen[size:], "rejected": rejected[size:]}


def _take_off_prompt(record: dict[str, Any], answers: Sequence[str]) -> None:
    """Removes the prompt from answers in messages that all repeat it."""
    prompt = record.get("prompt", [])
    size = len(prompt)
    if all(record[name][:size] == prompt and len(record[name]) > size for name in answers):
        record |= {name: record[name][size:] for name in answers}


def _columns(record: Mapping[str, Any], allowed: Sequence[Columns]) -> Columns:
    """The columns that determine the kind of a record. Raises UserError unless it is one allowed kind."""
    found = [columns for columns in allowed if {*columns} <= {*record}]
    found = [columns for columns in found if not any({*columns} < {*other} for other in found)]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(" + ".join(f'"{name}"' for name in columns) for columns in allowed)
    have = ", ".join(f'"{name}"' for name in record) or "no column"
    if found:
        raise UserError(f"has {have}, which is ambiguous: it must have exactly one of {wanted}")
    hint = next((f": {said}" for names, said in HINTS.items() if {*names} <= {*record}), "")
    raise UserError(f"has {have}, and needs {wanted}{hint}")


def _unread(record: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    """Columns that nothing reads. Raises UserError for one that must not be ignored."""
    for name in WEIGHTS:
        if name in record and record[name] != 1:
            raise UserError(f'has "{name}": records have no weights: remove those that should not count')
    for name in LABELS:
        if record.get(name) in (0, 1) and kind.columns == COMPLETION:
            raise UserError(
                f'has a "{name}" of unpaired preferences (KTO), which are not supported: keep the good '
                'answers without the column (sft), or pair good and bad ones as "chosen" and "rejected"'
            )
    for name in FOR_TEMPLATES:
        if record.get(name) and not kind.conversational:
            raise UserError(f'has "{name}", which only chat templates read: give messages instead of text')
    heard = {*kind.columns, *FOR_TEMPLATES, *(("margin",) if "chosen" in kind.columns else ())}
    yield from (name for name in record if name not in heard)


def margin_of(record: Mapping[str, Any]) -> float:
    """By how much the chosen answer is better, in units of reward; 0 if not given."""
    margin = record.get("margin", 0.0)
    number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if not number or not abs(margin) <= sys.float_info.max:
        raise UserError(f'"margin" is {margin!r}: give a finite number, or leave it out')
    return float(margin)


def _form(value: Any, name: str) -> bool:
    """Whether a column holds messages; False for text."""
    if isinstance(value, str) and name != "messages":
        if not value:
            raise UserError(f'"{name}" is empty: fill it, or remove the record')
        return False
    if not isinstance(value, list) or name == "text":
        wanted = {"text": "text", "messages": "a list of messages"}.get(name, "text, or a list of messages")
        raise UserError(f'"{name}" is {describe_value(value)}: give {wanted}')
    return True


def _check_roles(record: Mapping[str, Any], columns: Columns) -> None:
    roles = {name: [message["role"] for message in record[name]] for name in columns}
    if columns == MESSAGES and "assistant" not in roles["messages"]:
        raise UserError('"messages" has no message of the "assistant": so there is nothing to train on')
    if "completion" in roles and roles["completion"][0] != "assistant":
        raise UserError(f'"completion" begins with {roles["completion"][0]!r}: begin it with "assistant"')
    for name in ("chosen", "rejected"):
        if name in roles and roles[name] != ["assistant"]:
            raise UserError(f'"{name}" must be one message of the "assistant": move others to "prompt"')
        if name in roles and record[name][0].get("weight") == 0:
            raise UserError(f'"{name}" has weight 0, but both answers of a pair count: remove the record')
