"""Writes the tables of pages that show numbers of committed runs: `python -m benchmarks.site_tables`.

Each stands in a page between a comment that names this command and the table, and `<!-- end -->`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from proximo.experiments import claims, methods
from proximo.experiments.figures.batches import names, recipes

DOCS = Path(__file__).resolve().parents[1] / "docs"
TABLES: dict[str, Callable[[], str]] = {
    "claims": claims.table,
    "methods": methods.methods,
    "reached": methods.reached,
    "objectives": methods.objectives,
    "language": methods.language,
    "recipes": recipes,
    "names": names,
}
PAGES = ("claims.md", "algorithms.md", "batches.md")
BEGIN, END = r"(?<=<!-- python -m benchmarks\.site_tables: )(\w+)( -->\n\n)", r"(\n\n<!-- end -->)"
BLOCK = re.compile(f"{BEGIN}(.*?){END}", re.DOTALL)


def written(text: str) -> str:
    """A page with its tables as they are now."""
    return BLOCK.sub(lambda found: f"{found[1]}{found[2]}{TABLES[found[1]]()}{found[4]}", text)


def shown(text: str) -> dict[str, str]:
    """The tables that a page shows, by their names."""
    return {found[1]: found[3] for found in BLOCK.finditer(text)}


if __name__ == "__main__":
    for name in PAGES:
        page = DOCS / name
        page.write_text(written(page.read_text()))
