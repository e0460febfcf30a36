"""What a package index shows, and what the wheel brings along."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_page_of_the_package_index_has_no_link_that_ends_nowhere_there():
    text = (ROOT / PROJECT["project"]["readme"]).read_text()
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "<img" not in text


def test_every_file_of_the_package_that_is_no_python_is_declared_as_its_data():
    found = {
        (".".join(file.parent.relative_to(ROOT).parts), file.name)
        for file in (ROOT / "proximo").rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    assert found == {(package, name) for package, names in declared.items() for name in names}


def test_every_extra_of_the_page_exists():
    """But for those that only this repository uses."""
    text = (ROOT / PROJECT["project"]["readme"]).read_text()
    column = re.findall(r"^\| .* \| (`.*`) \|$", text, flags=re.MULTILINE)
    named = {word for cell in column for word in re.findall(r"`(\w+)`", cell)}
    assert named == PROJECT["project"]["optional-dependencies"].keys() - {"dev", "all", "site"}


def test_each_python_of_the_classifiers_is_one_that_is_promised():
    lowest = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    listed = [
        tuple(map(int, found.groups()))
        for line in PROJECT["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (\d+)\.(\d+)", line))
    ]
    assert min(listed) == lowest


def make(folder, *pythons, **words):
    """What `make train` would do, where these Pythons are on the path: by name, and whether they start."""
    for name, works in pythons:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n' if works else "#!/bin/sh\nexit 127\n")
        script.chmod(0o755)
    for program in ("sh", "bash"):
        (folder / program).symlink_to(shutil.which(program))
    line = [shutil.which("make"), "--dry-run", "--always-make", "train", *words.get("given", ())]
    of_make = ("PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # which runs the tests
    variables = {name: value for name, value in os.environ.items() if name not in of_make}
    done = subprocess.run(
        line, cwd=ROOT, env=variables | {"PATH": str(folder)}, capture_output=True, text=True, check=False
    )
    return (done.stdout or done.stderr).splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_takes_the_newest_python_that_starts(tmp_path):
    """A version manager's python3.13 may only say that it is not installed. The constraints follow."""
    newest = {"constraints.txt" if sys.version_info < (3, 12) else "constraints-3.12.txt"}
    said = make(tmp_path, ("python3.13", False), ("python3.12", True), ("python3", True))
    assert said[0] == "python3.12 -m venv .venv"
    assert {word for line in said for word in line.split() if word.startswith("constraints")} == newest


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("given", [(), ("PYTHON=python3",)], ids=["any", "named"])
def test_make_takes_the_python_that_is_named_and_says_what_to_do_without_one(tmp_path, given):
    pythons = [("python3.13", bool(given)), ("python3", bool(given))]
    first = make(tmp_path, *pythons, given=given)[0]
    if given:
        assert first == "python3 -m venv .venv"
    else:
        assert "no Python of 3.11 or newer with ensurepip is on the path: install one" in first
