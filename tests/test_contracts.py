"""What the tree promises: who may import whom, what is never used, how long a file may be."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "proximo"
FILES = sorted(PACKAGE.rglob("*.py"))

BELOW = {
    "core": set(),
    "policies": {"core", "errors"},
    "envs": {"core", "errors", "importing"},
    "learn": {"core", "policies", "envs", "errors", "config"},
    "runs": {"core", "policies", "envs", "learn", "errors", "config", "paths", "plain"},
    "language": {
        "core",
        "policies",
        "envs",
        "learn",
        "runs",
        "errors",
        "importing",
        "config",
        "paths",
        "plain",
    },
}
CORE_LIBRARIES = {"jax", "jaxtyping", "proximo"} | set(sys.stdlib_module_names)

# Each of these can run code that a file brought along; and there is one array library.
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
FORBIDDEN_NAMES = FORBIDDEN_MODULES | {"eval", "exec"}

LONGEST_FILE = 400  # a last resort: what belongs together stays together


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
    layer = file.relative_to(PACKAGE).parts[0]
    if layer not in BELOW:
        return []
    allowed = BELOW[layer] | {layer}
    parts = [module.split(".") for module in imports(tree, file)]
    return [part for part in parts if part[0] == "proximo" and (len(part) < 2 or part[1] not in allowed)]


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
    assert wrong_directions(ast.parse(file.read_text()), file) == []


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "core"], ids=name_of)
def test_core_imports_jax_alone(file):
    modules = {module.split(".")[0] for module in imports(ast.parse(file.read_text()), file)}
    assert modules <= CORE_LIBRARIES


@every_file
def test_nothing_runs_code_from_a_file(file):
    assert dangers(ast.parse(file.read_text()), file) == []


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
