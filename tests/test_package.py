"""What a package index shows, and what the wheel brings along."""

import re
import tomllib
from pathlib import Path

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
    text = (ROOT / PROJECT["project"]["readme"]).read_text()
    column = re.findall(r"^\| .* \| (`.*`) \|$", text, flags=re.MULTILINE)
    named = {word for cell in column for word in re.findall(r"`(\w+)`", cell)}
    assert named == PROJECT["project"]["optional-dependencies"].keys() - {"dev", "all"}


def test_each_python_of_the_classifiers_is_one_that_is_promised():
    lowest = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    listed = [
        tuple(map(int, found.groups()))
        for line in PROJECT["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (\d+)\.(\d+)", line))
    ]
    assert min(listed) == lowest
