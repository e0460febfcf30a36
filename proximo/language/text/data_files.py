"""Files of training data, line by line: JSON lines, and other formats that are recognised and refused.

Nothing here raises anything but UserError, in one line that names the file, the line, and what to do.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from proximo.errors import UserError

Source: TypeAlias = Path | str | Iterable[Mapping[str, Any]]
"""A file of JSON lines, or a list of records."""

LARGEST_GLIMPSE = 2**28  # bytes of a file that is read as a whole to say what it is


class Line(NamedTuple):
    """A record, and its place in words."""

    where: str
    record: Mapping[str, Any]


def lines_of(source: Source) -> Iterator[Line]:
    """The records of a file of JSON lines, or of a list.

    Raises UserError for a file that cannot be read or has another format, and for a line that is no record.
    """
    if isinstance(source, Path | str):
        yield from _lines(source)
        return
    for number, record in enumerate(source, 1):
        if not isinstance(record, Mapping):
            raise UserError(f"record {number}: is of type {type(record).__name__}: give a dict")
        yield Line(f"record {number}", record)


def _lines(name: str | Path) -> Iterator[Line]:
    path = Path(name)
    try:
        with path.open("rb") as file:
            refuse_other_formats(path, file.peek(8)[:8])
            parsed = 0
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    record = _parsed(line)
                except UserError as error:
                    if not parsed:
                        refuse_other_json(path)
                    raise UserError(f"{where}: {error}") from error
                yield Line(where, record)
                parsed += 1
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str | Path, error: OSError) -> UserError:
    """The error for data that cannot be read; it recognises addresses and datasets of the Hub."""
    here = "data must be a file of JSON lines on this machine"
    if address := re.match(r"([A-Za-z][\w+.-]+):/", str(name)):
        return UserError(
            f"{name} is an address ({address[1]}), and {here}: download the file and give its path"
        )
    said = f"{name} cannot be read ({error.strerror})"
    if isinstance(error, FileNotFoundError) and re.fullmatch(r"[\w-][\w.-]*/[\w-]+", str(name)):
        said += (
            ": data must be a file of JSON lines. If this is a dataset of the Hub, convert it in Python: "
            f'datasets.load_dataset("{name}", split="train").to_json("data.jsonl")'
        )
    return UserError(said)


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 ({error.reason}): save the file as UTF-8") from error
    except _DuplicateKey as error:
        raise UserError(f"has {error} twice in one object: keep one") from error
    except (ValueError, RecursionError) as error:
        hint = " (a JSON array is not JSON lines)" if line.lstrip()[:1] == b"[" else ""
        raise UserError(f"is not JSON ({error}): write one object per line{hint}") from error
    if not isinstance(record, dict):
        raise UserError(f"is of type {type(record).__name__}: write one object per line")
    return record


class _DuplicateKey(Exception):
    """A key that occurs twice, in quotes."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKey(json.dumps(next(name for name in names if names.count(name) > 1)))
    return found


def _by_datasets(kind: str, more: str = "") -> str:
    return (
        f"python -c \"import datasets; datasets.load_dataset('{kind}', data_files=r'{{path}}'{more}, "
        "split='train').to_json('data.jsonl')\""
    )


TABLES = {".csv": _by_datasets("csv"), ".tsv": _by_datasets("csv", ", sep='\\t'")}
WHOLE_JSON = (
    "python -c \"import json; d = json.load(open(r'{path}', encoding='utf-8-sig')); open('data.jsonl', 'w')"
    ".writelines(json.dumps(r) + '\\n' for r in (d if isinstance(d, list) else [d]))\""
)
FORMATS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"\x1f\x8b",), "gzip", "gunzip -k '{path}'"),
    ((b"PK\x03\x04", b"PK\x05\x06"), "a zip archive", "unzip '{path}'"),
    ((b"BZh",), "bzip2", "bunzip2 -k '{path}'"),
    ((b"\xfd7zXZ",), "xz", "unxz -k '{path}'"),
    ((b"\x28\xb5\x2f\xfd",), "Zstandard", "zstd -d '{path}'"),
    ((b"PAR1",), "Parquet", _by_datasets("parquet")),
    ((b"ARROW1", b"\xff\xff\xff\xff"), "Arrow", _by_datasets("arrow")),
    ((b"\xff\xfe", b"\xfe\xff"), "UTF-16", "iconv -f UTF-16 -t UTF-8 '{path}' > data.jsonl"),
    ((b"{\x00",), "UTF-16", "iconv -f UTF-16LE -t UTF-8 '{path}' > data.jsonl"),
    ((b"\x00{",), "UTF-16", "iconv -f UTF-16BE -t UTF-8 '{path}' > data.jsonl"),
)
"""First bytes of a file, the format they show, and the command that converts it to JSON lines."""


def refuse_other_formats(path: Path, beginning: bytes) -> None:
    """Raises UserError for a format known by its first bytes, with the command that converts it."""
    for magic, what, line in FORMATS:
        if beginning.startswith(magic):
            raise _other_format(path, what, line)


def refuse_other_json(path: Path) -> None:
    """Raises UserError for a file that is one JSON value, or a table, with the command that converts it."""
    if (kind := path.suffix.lower()) in TABLES:
        raise _other_format(path, f"a table ({kind[1:]})", TABLES[kind])
    content = path.read_bytes() if path.stat().st_size <= LARGEST_GLIMPSE else b""
    try:
        whole = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        if content.split(maxsplit=1)[:1] in ([b"{"], [b"["]):  # a bracket alone on its line
            raise _other_format(path, "JSON over several lines", "jq -c . '{path}' > data.jsonl") from None
        return
    if isinstance(whole, list | dict):
        raise _other_format(path, f"one JSON {'array' if isinstance(whole, list) else 'object'}", WHOLE_JSON)


def _other_format(path: Path, what: str, line: str) -> UserError:
    return UserError(f"{path} is {what}, not JSON lines; convert it: {line.format(path=path)}")
