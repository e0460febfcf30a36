"""A picture of a page that a script wakes: what stands in the page, and what the browser makes of it."""

import json
import shutil
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from playwright.sync_api import Browser
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

sys.path.append(str(ROOT / "docs" / "_ext"))
import live

PAGE = """# Figures

Before.

![how far a ratio may go](figures/clip.svg)

![nothing wakes it](figures/still.svg)
"""
SVG = '<?xml version="1.0"?>\n<svg viewBox="0 0 9 9"><g id="line"/><use href="#line"/></svg>'
SCRIPT = """// needs: sum.js
Live.figure("clip", (element, data) => element.append(`sum ${sum(data.x)}`));
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pages with a live figure, and a library that knows its numbers."""
    shutil.copytree(ROOT / "docs" / "live", tmp_path / "live")
    files = {"conf.py": 'extensions = ["myst_parser", "live"]', "deep/index.md": PAGE}
    files |= {"deep/figures/clip.svg": SVG, "deep/figures/still.svg": SVG}
    files |= {"live/clip.js": SCRIPT, "live/sum.js": "const sum = (x) => x.reduce((a, b) => a + b, 0);"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    figures = {"clip": lambda: {"x": [0.1, 0.2], "said": "</script>"}}
    monkeypatch.setattr(live, "LIVE", tmp_path / "live")
    monkeypatch.setattr(live, "import_module", lambda name: SimpleNamespace(FIGURES=figures))
    return tmp_path


def built(folder: Path) -> tuple[Path, str]:
    """The page, and what the build warned of."""
    warnings, out = StringIO(), folder / "out"
    with docutils_namespace():
        of = {"root_doc": "deep/index"}
        Sphinx(folder, folder, out, out, "html", of, status=None, warning=warnings, freshenv=True).build()
    return out / "deep" / "index.html", warnings.getvalue()


def test_the_page_has_picture_numbers_and_scripts_in_this_order(folder: Path) -> None:
    page, said = built(folder)
    text = page.read_text()
    figure = text[text.index('<figure class="live"') : text.index("nothing wakes it")]
    parts = [
        '<figure class="live" data-figure="clip"><svg role="img" aria-label="how far a ratio may go" viewBox',
        "<figcaption><p>how far a ratio may go</p>\n</figcaption></figure>",
        '<script type="application/json" id="figure-clip">{"x": [0.1, 0.2], "said": "<\\/script>"}</script>',
        '<link rel="stylesheet" href="../live/live.css">',
        *(f'<script src="../live/{name}.js"></script>' for name in ("chart", "live", "sum", "clip")),
    ]
    places = [figure.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)
    assert '<img alt="nothing wakes it"' in text and said == ""


def test_a_browser_wakes_it_from_a_file(folder: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(built(folder)[0].as_uri())
    assert page.locator(".live-body").inner_text() == f"sum {0.1 + 0.2}"
    assert not page.locator("figure svg").is_visible()  # the static picture has gone
    assert page.get_by_text("how far a ratio may go").is_visible()
    page.close()


def test_without_scripts_the_picture_stays(folder: Path, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(built(folder)[0].as_uri())
        assert page.locator("figure svg").is_visible()


def test_a_figure_without_numbers_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "import_module", lambda name: SimpleNamespace(FIGURES={}))
    page, said = built(folder)
    assert "deep/index.md:5: WARNING: proximo.experiments.figures has no figure clip" in said
    assert "application/json" not in page.read_text() and 'data-figure="clip"' in page.read_text()


def test_numbers_keep_every_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"clip": lambda: {"x": [0.1 + 0.2, 1e-17]}}
    monkeypatch.setattr(live, "import_module", lambda name: SimpleNamespace(FIGURES=figures))
    assert json.loads(live.numbers("clip") or "") == figures["clip"]()


def test_pictures_on_one_page_share_no_id(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text('<?xml?><svg><g id="g"/><use href="#g"/><path fill="url(#g)"/></svg>')
    made = '<svg role="img" aria-label="it"><g id="a-g"/><use href="#a-g"/><path fill="url(#a-g)"/></svg>'
    assert live.picture("a", "it", tmp_path / "a.svg") == made


def test_a_script_says_what_it_needs(folder: Path) -> None:
    (folder / "live" / "cart.js").write_text("// needs: ppo.js, pole.js\n// needs: none\n")
    (folder / "live" / "alone.js").write_text("// A figure.\n")
    assert live.scripts("cart") == ["chart.js", "live.js", "ppo.js", "pole.js", "cart.js"]
    assert live.scripts("alone") == ["chart.js", "live.js", "alone.js"]
