"""Which tests use a name of the package: read from the tests, as they are written, when the site is built."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Test(NamedTuple):
    """Where a test stands, and its name as the sentence that it is."""

    file: str
    line: int
    sentence: str


def object_of(module: str, name: str) -> Any:
    """What a dotted name means; None where it means nothing, such as a field without a value."""
    try:
        return attrgetter(name)(import_module(module))
    except (AttributeError, ImportError):
        return None


def tests_of(found: Any) -> list[Test]:
    """The tests that use a function or class, first those of the file that bears its module's name."""
    home = f"test_{getattr(found, '__module__', '').rpartition('.')[2]}.py"
    name = getattr(found, "__name__", "")
    tests = {test for module, test in uses().get(name, ()) if object_of(module, name) is found}
    return sorted(tests, key=lambda test: (not test.file.endswith("/" + home), test))


@cache
def uses() -> dict[str, list[tuple[str, Test]]]:
    """name -> (the module it was imported from, a test that uses it)."""
    found = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        body = ast.parse(file.read_text()).body
        known = dict(imported(body))
        # What a test takes from above in its file counts too: a helper, or a list of cases.
        above = {name: set(used(node, known)) for node in body for name in defined(node)}
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = {word.id for word in ast.walk(node) if isinstance(word, ast.Name)}
                names = set(used(node, known)).union(*(above[word] for word in words & above.keys()))
                sentence = node.name.removeprefix("test_").replace("_", " ")
                test = Test(file.relative_to(ROOT).as_posix(), node.lineno, sentence)
                for module, _, name in (name.rpartition(".") for name in names):
                    found[name].append((module, test))
    return found


def imported(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """(local name, dotted name) of all that comes from the package."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "proximo":
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Import):
            ours = (name for name in node.names if name.name.split(".")[0] == "proximo")
            yield from ((name.asname or "proximo", name.name if name.asname else "proximo") for name in ours)


def used(node: ast.AST, known: dict[str, str]) -> Iterator[str]:
    """The dotted names of the package that code mentions."""
    for part in ast.walk(node):
        if isinstance(part, (ast.Name, ast.Attribute)):
            first, dot, rest = ast.unparse(part).partition(".")
            if first in known:
                yield known[first] + dot + rest


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the head of a file gives a meaning."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
