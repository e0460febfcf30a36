"""Mathematics as MathML, written when the site is built, in a font that stands beside the pages.

Browsers draw MathML themselves, but only a font with a table of mathematics gives them brackets that grow.
"""

import importlib.util
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

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


def visit(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Both kinds: a block stands on a line of its own, and may be wider than a phone."""
    block = isinstance(node, nodes.math_block)
    written = convert(node.astext(), display="block" if block else "inline")
    translator.body.append(f'<div class="equation" tabindex="0">{written}</div>' if block else written)
    raise nodes.SkipNode


def write_font(app: Sphinx, failure: Exception | None) -> None:
    """The letters and signs above, from the copy of STIX Two Math that ziamath brings."""
    package = importlib.util.find_spec("ziamath")
    assert package and package.origin
    target = Path(app.outdir, "_static", "math.woff2")
    if failure or target.exists():
        return
    options = subset.Options(flavor="woff2", layout_features=["*"], name_IDs=["*"])
    font = subset.load_font(str(Path(package.origin).with_name("fonts") / "STIXTwoMath-Regular.ttf"), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    cut.subset(font)
    subset.save_font(font, str(target), options)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
