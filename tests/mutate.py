"""Break `proximo.core` in every small way, one at a time, and see whether a test notices.

    python tests/mutate.py [MODULE ...]        e.g. returns surrogates; all modules where none is named

A mutant swaps + and -, * and /, < and >, minimum and maximum, or drops a minus sign. It is killed when a
test fails. The script prints the survivors and exits with 1 if there is one that EQUIVALENT does not
explain: a missing test. It works on copies in a temporary folder.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
NAMES = {"minimum": "maximum", "maximum": "minimum"}

EQUIVALENT: dict[tuple[str, str], str] = {}
"""(module, mutated line) of mutants that no test can kill, with the reason."""


def changes(tree):
    """For every place that can be mutated: a function that mutates it, in this tree, and its line."""
    annotations = {id(part) for node in ast.walk(tree) for part in annotation_parts(node)}
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield node.lineno, lambda node=node: setattr(node, "op", OPERATORS[type(node.op)]())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield node.lineno, lambda node=node: setattr(node, "op", ast.UAdd())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield node.lineno, lambda node=node: node.ops.__setitem__(0, COMPARISONS[type(node.ops[0])]())
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.lineno, lambda node=node: setattr(node, "attr", NAMES[node.attr])


def annotation_parts(node):
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        if isinstance(annotation, ast.AST):
            yield from ast.walk(annotation)


def mutants(module):
    """(module, line number, line before, line after, whole source) of every mutant of a file."""
    source = (ROOT / "proximo" / "core" / f"{module}.py").read_text()
    before = ast.unparse(ast.parse(source)).splitlines()
    for index in range(len(list(changes(ast.parse(source))))):
        tree = ast.parse(source)
        line, change = list(changes(tree))[index]
        change()
        mutated = ast.unparse(tree)
        now = mutated.splitlines()
        old, new = next((a, b) for a, b in zip(before, now, strict=True) if a != b)
        yield module, line, old.strip(), new.strip(), mutated


def copy_of_the_package(folder):
    # Core needs nothing else of the package, so neither do its tests; that is also the fastest.
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "proximo" / "core", folder / "proximo" / "core", ignore=ignore)
    (folder / "proximo" / "__init__.py").touch()
    shutil.copytree(ROOT / "tests" / "core", folder / "tests" / "core")
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    return folder


def tests_pass(folder, path):
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", path]
    # No bytecode: two versions of a file written within a second would be taken for one.
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    status = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return status.returncode == 0


def survives(mutant, folders):
    module, _, _, _, mutated = mutant
    folder = folders.get()
    file = folder / "proximo" / "core" / f"{module}.py"
    original = file.read_text()
    try:
        file.write_text(mutated)
        own = f"tests/core/test_{module}.py"
        return (not (folder / own).exists() or tests_pass(folder, own)) and tests_pass(folder, "tests/core")
    finally:
        file.write_text(original)
        folders.put(folder)


def main(modules):
    modules = modules or sorted(path.stem for path in (ROOT / "proximo" / "core").glob("*.py"))
    found = [mutant for module in modules for mutant in mutants(module)]
    folders = SimpleQueue()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(PROCESSES) as pool:
        for number in range(PROCESSES):
            folders.put(copy_of_the_package(Path(temporary) / str(number)))
        if not tests_pass(Path(temporary) / "0", "tests/core"):
            print("tests/core fails before anything is mutated: mend that first")
            return 1
        alive = list(pool.map(lambda mutant: survives(mutant, folders), found))
    survivors = [mutant for mutant, lives in zip(found, alive, strict=True) if lives]
    missing = 0
    for module, line, old, new, _ in survivors:
        reason = EQUIVALENT.get((module, new))
        missing += reason is None
        print(f"core/{module}.py:{line}: {old}  ->  {new}   [{reason or 'NO TEST FAILS'}]")
    print(f"{len(found)} mutants, {len(found) - len(survivors)} killed, {missing} survivors unexplained")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
