"""Hints are of the metrics that a training logs, and all of these have one."""

import ast
import re
from pathlib import Path

import proximo
from proximo.runs.report.hints import FAMILIES, HINTS, VITAL, family
from proximo.runs.report.read import STEP

PACKAGE = Path(proximo.__file__).parent
METRIC = re.compile(r"(rollout|train|eval|time)/\w+")
ALSO = {"rollout/success_rate"}  # in reports of runs that have it


def logged():
    """Every metric that stands in the code of a training."""
    files = [file for place in ("control", "learn", "runs") for file in (PACKAGE / place).rglob("*.py")]
    trees = [ast.parse(file.read_text()) for file in files if "report" not in file.parts]
    words = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    return {word for word in words if isinstance(word, str) and METRIC.fullmatch(word)}


def test_hints_are_of_what_is_logged():
    hints = HINTS.keys() | VITAL.keys()
    assert hints - ALSO == logged() - ALSO - {STEP}
    assert {family(metric) for metric in hints} == FAMILIES.keys()
