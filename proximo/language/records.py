"""Records of training data: JSON lines in TRL's columns, checked one by one before anything is tokenised.

One file holds one kind of record:

    {"text"}                            a text to continue
    {"messages"}                        a conversation
    {"prompt"}                          what to answer
    {"prompt", "completion"}            an answer to imitate
    {"prompt", "chosen", "rejected"}    two answers, and which is better (and by how much: "margin")

`prompt`, `completion`, `chosen` and `rejected` are text, or messages: lists of {"role", "content"}. Other
columns are kept as they are. Nothing here raises anything but UserError, in one line that says what to do.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from proximo.errors import UserError

Source: TypeAlias = Path | str | Iterable[Mapping[str, Any]]
"""A file of JSON lines, or the records themselves."""

Columns: TypeAlias = tuple[str, ...]
Record = TypeVar("Record")

TEXT: Columns = ("text",)
MESSAGES: Columns = ("messages",)
PROMPT: Columns = ("prompt",)
COMPLETION: Columns = ("prompt", "completion")
PREFERENCE: Columns = ("prompt", "chosen", "rejected")


class Kind(NamedTuple):
    """What a record is.

    columns         one of the tuples above
    conversational  whether these hold messages rather than text
    """

    columns: Columns
    conversational: bool

    def __str__(self) -> str:
        return f"{' + '.join(self.columns)} as {'messages' if self.conversational else 'text'}"


@dataclass(frozen=True)
class Dataset(Generic[Record]):
    """What was read.

    records    in the order of the file
    truncated  how many of them were cut to the length
    dropped    how many others were too long and left out
    """

    records: tuple[Record, ...]
    truncated: int
    dropped: int


class TooLong(UserError):
    """A record that "drop" leaves out."""


LEFT_OUT = 'shorten it, allow more, or leave such records out (overlong "drop" of sft, reward and dpo)'
MORE_ROOM = "shorten it, remove it, or allow longer prompts or shorter answers"  # nobody leaves out prompts


def read_all(
    source: Source,
    allowed: Sequence[Columns],
    read: Callable[[Mapping[str, Any], Kind, int], tuple[Record, bool]],
    drop: bool,
) -> Dataset[Record]:
    """Reads all records of one kind, and says of every error where it happened.

    allowed  the kinds that will do; a file holds one of them
    read     (record, kind, line) -> what becomes of it, and whether it was cut to a length
    drop     whether records are left out for which `read` raises TooLong

    Raises UserError for the first wrong record, and where none is left.
    """
    found: list[Record] = []
    truncated = dropped = 0
    first: tuple[Kind, str] | None = None
    for where, line, record in _records(source):
        try:
            kind = _kind(record, allowed)
            first = first or (kind, where)
            if kind != first[0]:
                raise UserError(f"is {kind}, but {first[1]} is {first[0]}: keep one kind per file")
            one, cut = read(record, kind, line)
        except TooLong as error:
            if drop:
                dropped += 1
                continue
            advice = MORE_ROOM if kind.columns == PROMPT else LEFT_OUT
            raise UserError(f"{where}: {error}: {advice}") from error
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        found.append(one)
        truncated += cut
    if not found:
        name = source if isinstance(source, Path | str) else "the list of records"
        why = (
            f"only records that are too long ({dropped}): allow more tokens"
            if dropped
            else "no record: fill it"
        )
        raise UserError(f"{name} holds {why}")
    return Dataset(tuple(found), truncated, dropped)


def _records(source: Source) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """The records of a file of JSON lines, or of a list: where each stands, its number from 1, itself."""
    if isinstance(source, Path | str):
        yield from _lines(Path(source))
        return
    for number, record in enumerate(source, 1):
        if not isinstance(record, Mapping):
            raise UserError(f"record {number}: is of type {type(record).__name__}: give a dict")
        yield f"record {number}", number, record


def _kind(record: Mapping[str, Any], allowed: Sequence[Columns]) -> Kind:
    """Checks a record's columns and what they hold. Raises UserError unless it is of an allowed kind."""
    found = [columns for columns in allowed if {*columns} <= {*record}]
    wanted = " or ".join(" + ".join(f'"{name}"' for name in columns) for columns in allowed)
    if len(found) != 1:
        have = ", ".join(f'"{name}"' for name in record) or "no column"
        verb = "needs" if not found else "is not clear: it must have just one of"
        raise UserError(f"has {have}, and {verb} {wanted}")
    columns = found[0]
    forms = {_form(record[name], name) for name in columns}
    if len(forms) > 1:
        raise UserError(f"mixes text and messages in {' and '.join(columns)}: write all in one form")
    kind = Kind(columns, forms.pop())
    if kind.conversational:
        _check_roles(record, kind.columns)
    return kind


def margin_of(record: Mapping[str, Any]) -> float:
    """By how much the chosen answer is better, in units of reward; 0 where the record does not say."""
    margin = record.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not _finite(margin):
        raise UserError(f'"margin" is {margin!r}: give a finite number, or leave it out')
    return float(margin)


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False


def _lines(path: Path) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", number, _parsed(line, path, number)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: OSError) -> UserError:
    """The error for data that cannot be read; what looks like a dataset of the Hub is told of as one."""
    said = f"{path} cannot be read ({error.strerror})"
    if isinstance(error, FileNotFoundError) and re.fullmatch(r"[\w-][\w.-]*/[\w-]+", str(path)):
        said += (
            ": data are files of JSON lines. If it is a dataset of the Hub, make one of it in Python: "
            f'datasets.load_dataset("{path}", split="train").to_json("data.jsonl")'
        )
    return UserError(said)


def _parsed(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    where = f"{path}, line {number}"
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 ({error.reason}): save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        hint = " (a JSON array is not JSON lines)" if line.lstrip()[:1] == b"[" else ""
        raise UserError(f"{where}: is not JSON ({error}): write one object per line{hint}") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: is of type {type(record).__name__}: write one object per line")
    return record


def _form(value: Any, name: str) -> bool:
    """Whether a column holds messages; False for text."""
    if isinstance(value, str) and name != "messages":
        if not value:
            raise UserError(f'"{name}" is empty: fill it, or remove the record')
        return False
    if not isinstance(value, list | tuple) or name == "text":
        wanted = {"text": "text", "messages": "a list of messages"}.get(name, "text, or a list of messages")
        raise UserError(f'"{name}" is {_what(value)}: give {wanted}')
    if not value:
        raise UserError(f'"{name}" has no message: fill it, or remove the record')
    for number, message in enumerate(value, 1):
        _check_message(message, f'message {number} of "{name}"')
    return True


def _check_message(message: Any, name: str) -> None:
    if not isinstance(message, Mapping):
        raise UserError(f'{name} is {_what(message)}: give an object with "role" and "content"')
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise UserError(f'{name} has no "role": give "system", "user" or "assistant"')
    if content is None and message.get("tool_calls"):
        return  # an assistant who calls a tool may say nothing
    if not isinstance(content, str | list):
        raise UserError(f'"content" of {name} is {_what(content)}: give text')
    if role == "assistant" and not content and not message.get("tool_calls"):
        raise UserError(f'"content" of {name} is empty: fill it, or remove the record')


def _check_roles(record: Mapping[str, Any], columns: Columns) -> None:
    roles = {name: [message["role"] for message in record[name]] for name in columns}
    if columns == MESSAGES and "assistant" not in roles["messages"]:
        raise UserError('"messages" has no message of the "assistant": there is nothing to learn')
    if "prompt" in roles and roles["prompt"][-1] == "assistant":
        raise UserError('"prompt" ends with the "assistant": end it with whom the assistant answers')
    if "completion" in roles and roles["completion"][0] != "assistant":
        raise UserError(f'"completion" begins with {roles["completion"][0]!r}: begin it with "assistant"')
    for name in ("chosen", "rejected"):
        if name in roles and roles[name] != ["assistant"]:
            raise UserError(f'"{name}" must be one message of the "assistant": move others to "prompt"')


def _what(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
