"""What the CartPole page shows beside its script: the library's own lines of each objective."""

import ast
import textwrap
from pathlib import Path
from typing import Any

from proximo.core import Clip, KLPenalty, QuadraticPenalty, Unclipped, surrogates

OBJECTIVES = {  # as `--objective` names them
    "clip": Clip,
    "unclipped": Unclipped,
    "kl-penalty": KLPenalty,
    "quadratic-penalty": QuadraticPenalty,
}
TEST = "tests/site/test_core_in_browser.py::test_the_loss_and_every_entry_of_its_gradient"


def cartpole() -> dict[str, Any]:
    """The file of the objectives, the lines of each, and the test that holds the script equal to them."""
    source = Path(surrogates.__file__).read_text()
    lines = {name: body_of_call(source, objective.__name__) for name, objective in OBJECTIVES.items()}
    return {"file": "proximo/core/surrogates.py", "test": TEST, "objectives": lines}


def body_of_call(source: str, name: str) -> str:
    """The lines of a class's `__call__`, without its signature."""
    (of_class,) = (node for node in ast.parse(source).body if getattr(node, "name", None) == name)
    assert isinstance(of_class, ast.ClassDef)
    (call,) = (node for node in of_class.body if getattr(node, "name", None) == "__call__")
    assert isinstance(call, ast.FunctionDef)
    return textwrap.dedent("\n".join(source.splitlines()[call.body[0].lineno - 1 : call.end_lineno]))
