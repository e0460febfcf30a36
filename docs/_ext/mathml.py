"""Mathematics as MathML, written when the site is built, in a font that stands beside the pages.

Browsers draw MathML themselves, but only a font with a table of mathematics gives them brackets that grow.
"""

import html
import importlib.util
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

log = getLogger(__name__)

RANGES = (
    (0x20, 0x7E),
    (0xA0, 0xFF),
    (0x391, 0x3F5),  # Greek
    (0x2010, 0x2044),  # dashes and primes
    (0x210A, 0x2134),  # script and double-struck letters
    (0x2190, 0x21D4),
    (0x2200, 0x2265),
    (0x2308, 0x230B),
    (0x27E8, 0x27E9),
    (0x1D434, 0x1D467),  # italic, which is how a browser shows a variable of one letter
    (0x1D6A4, 0x1D6E1),
    (0x1D6FC, 0x1D71B),
)


def markup(tex: str, display: str) -> str:
    """MathML of TeX. Raises ValueError for what latex2mathml passes on as it is."""
    written = convert(tex.replace("{aligned}", "{align*}"), display=display)  # which differ in their width
    if left := re.search(r"<mi>(\\\w*|&\w*;?)</mi>", written):
        raise ValueError(f"no MathML is known for {left[1]}")
    return written.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em"/>')


def visit(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Both kinds: a block stands on a line of its own, and may be wider than a phone."""
    block = isinstance(node, nodes.math_block)
    try:
        written = markup(node.astext(), "block" if block else "inline")
    except ValueError as error:
        log.warning("%s", error, location=node)
        written = f"<code>{html.escape(node.astext())}</code>"
    translator.body.append(f'<div class="equation" tabindex="0">{written}</div>' if block else written)
    raise nodes.SkipNode


def write_font(app: Sphinx, failure: Exception | None) -> None:
    """The letters and signs above, from the copy of STIX Two Math that ziamath brings."""
    package = importlib.util.find_spec("ziamath")
    assert package and package.origin
    target = Path(app.outdir, "_static", "math.woff2")
    if failure or target.exists():
        return
    options = subset.Options(flavor="woff2", layout_features=["ssty"], name_IDs=["*"])
    font = subset.load_font(str(Path(package.origin).with_name("fonts") / "STIXTwoMath-Regular.ttf"), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    cut.subset(font)
    subset.save_font(font, str(target), options)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
