"""Code that the user names: `module:Name` and `file.py:Name`.

Whatever is named here is run. A name must come from the user's own command line or Python, never from a file.
"""

import contextlib
import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from proximo.errors import UserError, nearest, reason
from proximo.paths import absolute

SUFFIX = ".py"
_typed: ContextVar[tuple[str, ...]] = ContextVar("words that the user typed", default=())


@contextlib.contextmanager
def typed_by_user(words: Sequence[str]) -> Iterator[None]:
    """Within the statement, code that is named in these words may be imported."""
    token = _typed.set(tuple(words))
    try:
        yield
    finally:
        _typed.reset(token)


def was_typed(word: str) -> bool:
    """Whether a word stands among those that the user typed, or within one of them."""
    return any(word in typed for typed in _typed.get())


def user_object(name: str, what: str = "object") -> Any:
    """What `module:Name` or `file.py:Name` names: a class, a function, whatever stands there.

    what  what it should be, for messages: `class`, `function`

    Raises UserError, in one line, where nothing can be imported, whatever is wrong in the user's code, and
    where the module has no such name.
    """
    module, _, attribute = name.rpartition(":")
    if not module or not attribute:
        raise UserError(f"{name!r} does not name a {what}: write module:{what} or file.py:{what}")
    found: Any = import_named(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            there = defined_in(found)
            raise UserError(f"{module} has no {what} {part}" + (f": {nearest(part, there)}" if there else ""))
        found = getattr(found, part)
    return found


def import_named(module: str) -> ModuleType:
    """`user_module`; whatever goes wrong is a UserError of one line, which says where in the user's code."""
    try:
        return user_module(module)
    except UserError:
        raise
    except BaseException as raised:  # the user's own code: anything may be wrong in it
        told = f"cannot import {module} ({reason(raised)}{_line_of(raised)})"
        missing = isinstance(raised, ModuleNotFoundError) and raised.name == module.partition(".")[0]
        where = ": check the name; it must be installed or in the current folder" if missing else ""
        raise UserError(told + where) from raised


def user_module(name: str) -> ModuleType:
    """Import a module that the user named: `package.module`, or a file `folder/module.py`.

    A module may lie in the working folder, as for `python -m`. A file is imported as Python imports a
    script's neighbours: its own folder is searched first. So both ways to name a module give the same one.

    This runs the module's code. Raises UserError for a file that cannot be a module, and whatever the code
    raises.
    """
    _search_first(absolute(""))
    if not name.endswith(SUFFIX):
        return importlib.import_module(name)
    path = absolute(Path(name).expanduser()).resolve()
    if not path.is_file():
        raise UserError(f"there is no file {name}: write its path relative to {absolute('')}")
    if "." in path.stem:
        raise UserError(f"{name} cannot be imported: rename the file, with no dot before {SUFFIX}")
    _search_first(path.parent)
    module = importlib.import_module(path.stem)
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise UserError(f"{name} cannot be imported: there is another module {path.stem!r}; rename it")
    return module


def defined_in(place: Any) -> list[str]:
    """The classes and functions that a module itself defines."""
    return [
        name
        for name, one in vars(place).items()
        if callable(one) and getattr(one, "__module__", None) == getattr(place, "__name__", "")
    ]


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _line_of(error: BaseException) -> str:
    """Where in the imported code it happened; nothing where the error says so, or no code was found."""
    ours = (__file__, importlib.__file__)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if one.filename not in ours and not one.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError) or not theirs:
        return ""
    return f", {Path(theirs[-1].filename).name} line {theirs[-1].lineno}"
