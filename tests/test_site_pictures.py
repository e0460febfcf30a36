"""The static pictures of the explaining figures: the same numbers as the live ones, and none is stale."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from test_pictures import ROOT, pinned, same

from benchmarks.cartpole_runs import FILE, SETTINGS, sentences
from benchmarks.site_pictures import PICTURES, draw

COMMITTED = ROOT / "docs" / "figures"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("matplotlib")
    return draw(tmp_path_factory.mktemp("pictures"))


def test_each_is_drawn_and_none_is_stale(drawn: list[Path]) -> None:
    assert {path.stem for path in drawn} == PICTURES.keys()
    assert all(1000 < path.stat().st_size < 100_000 for path in drawn)
    if metadata.version("matplotlib") != pinned()["matplotlib"]:
        pytest.skip("another version of matplotlib draws otherwise")
    stale = [path.name for path in drawn if not same(path.read_text(), (COMMITTED / path.name).read_text())]
    assert stale == [], "draw them again: python -m benchmarks.site_pictures"


def test_the_page_of_cartpole_tells_the_numbers_of_the_committed_runs() -> None:
    kept = json.loads(FILE.read_text())
    assert kept["runs"].keys() == SETTINGS.keys()
    page = " ".join((ROOT / "docs" / "cartpole.md").read_text().split())
    assert [told for told in sentences(kept["runs"]) if told not in page] == []
