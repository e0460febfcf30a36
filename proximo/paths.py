"""Paths stay correct even if an environment changes the working directory of the process.

They are made absolute before any environment is made, and shown as they were typed.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

Arguments = TypeVar("Arguments")


class _Begun:
    folder: Path | None = None  # where the command that is under way was begun


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """Within the statement, relative paths begin in the folder that is the working folder now."""
    before, _Begun.folder = _Begun.folder, Path.cwd()
    try:
        yield
    finally:
        _Begun.folder = before


def absolute(path: str | Path) -> Path:
    """The path from the root on; a relative one begins where the command was begun, or the process is now."""
    return (_Begun.folder or Path.cwd()) / path


def with_absolute_paths(arguments: Arguments) -> Arguments:
    """A command's arguments with every path `absolute`, also in options within options."""
    found = {field.name: getattr(arguments, field.name) for field in fields(arguments)}  # type: ignore[arg-type]
    changed = {name: _whole(value) for name, value in found.items() if _whole(value) is not value}
    return replace(arguments, **changed) if changed else arguments  # type: ignore[type-var]


def short(path: Path) -> Path:
    """A path as it is typed where the command was begun."""
    here = absolute("")
    return path.relative_to(here) if path.is_relative_to(here) else path


def _whole(value: Any) -> Any:
    if isinstance(value, Path):
        return value if value.is_absolute() else absolute(value)
    return with_absolute_paths(value) if is_dataclass(value) and not isinstance(value, type) else value
