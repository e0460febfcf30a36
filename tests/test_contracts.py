"""What the tree promises: who may import whom, what is never used, how long a file may be."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "proximo"
FILES = sorted(PACKAGE.rglob("*.py"))

PLAIN = {"errors", "importing", "options", "own", "paths", "plain"}
BELOW = {
    "core": set(),
    "policies": {"core", "errors", "own"},
    "envs": {"core", "errors", "importing", "paths"},
    "own": {"core", "errors", "paths"},
    "declared": set(),
    "options": {"core", "declared", "errors", "own", "plain"},
    "learn": {"core", "policies", "errors", "options", "own"},
    "runs": {"core", "policies", "envs", *PLAIN},
    "control": {"core", "policies", "envs", "learn", "runs", "keywords", *PLAIN},
    "language": {"core", "policies", "learn", "runs", *PLAIN},
}
# The rooms of language: who may import whom inside of it.
ROOMS = {
    "text": set(),
    "model": set(),
    "files": {"text", "model"},
    "train": {"text", "model", "files"},
}
CORE_LIBRARIES = {"jax", "jaxtyping", "proximo"} | set(sys.stdlib_module_names)

# Each of these can run code that a file brought along; and there is one array library.
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
FORBIDDEN_NAMES = FORBIDDEN_MODULES | {"eval", "exec"}

LONGEST_FILE = 400  # a last resort: what belongs together stays together
MOST_FLOORS = 6  # modules on top of each other within a folder
HIGHER = {"control": 7}  # those that are not there yet


def name_of(file):
    return str(file.relative_to(PACKAGE))


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


def imports(tree, file):
    """Every module that is imported, with its whole dotted name, wherever in the file it stands."""
    package = ["proximo", *file.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module == "proximo":
                yield from (f"proximo.{alias.name}" for alias in node.names)
            else:
                yield module


def wrong_directions(tree, file):
    layer, *inside = file.relative_to(PACKAGE).with_suffix("").parts
    if layer not in BELOW:
        return []
    allowed = BELOW[layer] | {layer}
    parts = [module.split(".") for module in imports(tree, file) if module.split(".")[0] == "proximo"]
    wrong = [part for part in parts if len(part) < 2 or part[1] not in allowed]
    if layer == "language" and inside[0] in ROOMS:
        rooms = ROOMS[inside[0]] | {inside[0]}
        wrong += [part for part in parts if part[1:2] == ["language"] and part[2] not in rooms]
    return wrong


def modules():
    """Every module's dotted name -> the others of the package that it imports as it is imported itself."""
    names = {}
    for file in FILES:
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    graph = {}
    for name, file in names.items():
        found = set()
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (inner & names.keys()) or {node.module}
        graph[name] = found & names.keys() - {name}
    return names, graph


def dangers(tree, file):
    """What could run code from a file: forbidden imports, `eval` and `exec`, unsafe loading."""
    found = [name for name in imports(tree, file) if FORBIDDEN_MODULES & set(name.split("."))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in FORBIDDEN_MODULES or (owner, node.attr) == ("yaml", "load"):
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += [] if getattr(node.value, "value", None) is False else ["allow_pickle"]
    return found


@every_file
def test_imports_go_one_way(file):
    wrong = wrong_directions(ast.parse(file.read_text()), file)
    assert not wrong


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "core"], ids=name_of)
def test_core_imports_jax_alone(file):
    modules = {module.split(".")[0] for module in imports(ast.parse(file.read_text()), file)}
    assert modules <= CORE_LIBRARIES


@every_file
def test_nothing_runs_code_from_a_file(file):
    assert dangers(ast.parse(file.read_text()), file) == []


def test_there_is_no_circle():
    _, graph = modules()
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names it


def test_few_floors_within_a_folder():
    """A reader goes from a module down to what it stands on: a few steps, not ten."""
    names, graph = modules()
    floors = {}
    for name in TopologicalSorter(graph).static_order():
        here = names[name].parent
        below = [floors[other] for other in graph[name] if names[other].parent == here]
        floors[name] = 0 if names[name].name == "__init__.py" else 1 + max(below, default=0)
    folders = {}
    for name, floor in floors.items():
        folder = names[name].parent.relative_to(PACKAGE).as_posix()
        folders[folder] = max(floor, folders.get(folder, 0))
    print("\nfloors:", ", ".join(f"{folder} {count}" for folder, count in sorted(folders.items())))
    assert {f: n for f, n in folders.items() if n > HIGHER.get(f, MOST_FLOORS)} == {}
    assert all(folders[folder] == count for folder, count in HIGHER.items())  # lower it when it falls


@every_file
def test_no_file_is_endless(file):
    assert len(file.read_text().splitlines()) <= LONGEST_FILE


def test_the_public_names_of_core():
    from proximo import core

    assert core.__all__ == sorted(core.__all__)
    here = ast.parse((PACKAGE / "core" / "__init__.py").read_text())
    exported = [a.asname or a.name for n in here.body if isinstance(n, ast.ImportFrom) for a in n.names]
    assert core.__all__ == sorted(exported)
    assert all(hasattr(core, name) for name in core.__all__)


# ---- the checks themselves must be able to fail


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("core/a.py", "from proximo.errors import UserError"),
        ("policies/a.py", "import proximo.envs.make"),
        ("policies/a.py", "from ..envs import make"),
        ("envs/a.py", "from proximo import policies"),
        ("envs/a.py", "def f():\n    from proximo.learn import train"),
        ("learn/a.py", "from proximo.runs.folder import Run"),
        ("learn/a.py", "import proximo"),
        ("runs/a.py", "from proximo.language import rlhf"),
        ("language/model/a.py", "from proximo.language.train.loss import policy_loss"),
        ("language/text/a.py", "from proximo.language.files import folder"),
    ],
)
def test_a_wrong_direction_is_seen(where, source):
    assert wrong_directions(ast.parse(source), PACKAGE / where)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("core/a.py", "from .reduce import masked_mean"),
        ("learn/a.py", "from ..policies.mlp import MLP\nfrom proximo import errors"),
        ("cli.py", "import proximo.language"),
        ("language/train/a.py", "from proximo.language.model.heads import RewardModel"),
    ],
)
def test_a_right_direction_is_not(where, source):
    assert not wrong_directions(ast.parse(source), PACKAGE / where)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from torch.utils import data",
        "import safetensors.torch",
        "eval('1')",
        "run = exec",
        "yaml.load(text)",
        "numpy.load(path, allow_pickle=True)",
        "library.pickle.loads(data)",
    ],
)
def test_a_danger_is_seen(source):
    assert dangers(ast.parse(source), PACKAGE / "runs" / "a.py")


def test_harmless_things_are_not():
    source = "import json\njax.eval_shape(f)\nyaml.safe_load(t)\nnumpy.load(p, allow_pickle=False)"
    assert not dangers(ast.parse(source), PACKAGE / "runs" / "a.py")


def test_no_two_files_of_tests_have_one_name():
    """Pytest imports them by it, and collects neither; it knows each `conftest.py` by its folder."""
    names = [file.name for file in Path(__file__).parent.rglob("*.py") if file.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
