"""Live figures: the same picture as on GitHub, which scripts of `docs/live` wake where a browser runs them.

`![caption](figures/NAME.svg)`, alone in its paragraph, is one where `docs/live/NAME.js` exists. The page then
has the picture itself, the numbers that the library computes for it, and classic scripts: pages read from
files may neither fetch nor import. A first line `// needs: other.js` in a script names what comes before it.
"""

import html
import json
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.logging import getLogger

LIVE = Path(__file__).resolve().parents[1] / "live"
FIGURES = "proximo.experiments.figures"  # its FIGURES: name -> a function that returns a dict of numbers

log = getLogger(__name__)


def numbers(name: str) -> str | None:
    """A figure's numbers as JSON, to the last digit; None where the library knows no such figure."""
    try:
        figures = import_module(FIGURES).FIGURES
    except ModuleNotFoundError as error:
        if error.name != FIGURES:
            raise
        figures = {}
    # A "</script>" in a string would end the block.
    return json.dumps(figures[name](), allow_nan=False).replace("</", "<\\/") if name in figures else None


def picture(name: str, caption: str, file: Path) -> str:
    """An SVG as a part of a page: it has the caption's words, and ids that are not those of another."""
    text = file.read_text()
    own = re.compile(r"""(\bid="|url\(#|href="#|aria-labelledby="|aria-describedby=")(?=[\w.:-])""")
    text = own.sub(rf"\g<1>{name}-", text[text.index("<svg") :])
    if "role=" in text.partition(">")[0]:
        return text
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)


def scripts(name: str) -> list[str]:
    """What a figure's script needs, in order, and the script."""
    first = (LIVE / f"{name}.js").read_text().partition("\n")[0]
    _, _, needed = first.partition("// needs:")
    return ["chart.js", "live.js", *needed.replace(",", " ").split(), f"{name}.js"]


class LiveFigures(SphinxTransform):
    """Before Sphinx looks for the pictures to copy."""

    default_priority = 60

    def apply(self, **kwargs: Any) -> None:
        loaded: list[str] = []
        for image in [*self.document.findall(nodes.image)]:
            uri = Path(image["uri"])
            live = uri.parent.name == "figures" and (LIVE / f"{uri.stem}.js").exists()
            if live and len(image.parent.children) == 1:
                image.parent.replace_self(self.figure(uri.stem, image, loaded))

    def figure(self, name: str, image: nodes.image, loaded: list[str]) -> list[nodes.Node]:
        page = self.env.current_document.docname
        file = Path(self.env.relfn2path(image["uri"])[1])
        for depends in (file, *(LIVE / script for script in scripts(name))):
            self.env.note_dependency(str(depends))
        known = numbers(name)
        if known is None:
            log.warning("%s has no figure %s: its script gets no numbers", FIGURES, name, location=image)
        caption = image.get("alt", "")
        begin = f'<figure class="live" data-figure="{name}">{picture(name, caption, file)}<figcaption>'
        end = "</figcaption></figure>"
        new = [script for script in scripts(name) if script not in loaded]
        folder = "../" * page.count("/") + "live"
        if known and f"{name}.js" in new:
            end += f'<script type="application/json" id="figure-{name}">{known}</script>'
        if not loaded:
            end += f'<link rel="stylesheet" href="{folder}/live.css">'
        end += "".join(f'<script src="{folder}/{script}"></script>' for script in new)
        loaded += new
        words = nodes.paragraph("", caption)
        return [nodes.raw("", begin, format="html"), words, nodes.raw("", end, format="html")]


def copy_scripts(app: Sphinx, failure: Exception | None) -> None:
    if not failure:
        shutil.copytree(LIVE, Path(app.outdir, "live"), dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LiveFigures)
    app.connect("build-finished", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
