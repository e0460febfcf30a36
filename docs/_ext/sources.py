"""Pages of source files, with a place for each line, for whatever a page links to.

A link of Markdown to `../proximo/core/returns.py` leads to such a page, as on GitHub it leads to the file;
so do [source] beside a name of the reference, and each of the tests below it. A link to a folder is plain
text, and any other file is copied.
"""

import html
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from tested import object_of, tests_of

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {".py": "python", ".md": "text", ".cff": "yaml", ".toml": "toml"}
PAGES = {"README.md": "start"}  # what a page of the site includes


def source_page(app: Sphinx, file: str, line: int = 0) -> str:
    """The address of a source file, seen from the page that is being read; from now on it has a page."""
    page = app.env.current_document.docname
    app.env.metadata[page].setdefault("sources", set()).add(file)
    return app.builder.get_relative_uri(page, f"source/{file}") + (f"#L-{line}" if line else "")


class LinksToFiles(SphinxTransform):
    """Before Sphinx looks for the files to copy."""

    default_priority = 50

    def apply(self, **kwargs: Any) -> None:
        for link in [*self.document.findall(addnodes.download_reference)]:
            self.lead(link)
        for link in [*self.document.findall(addnodes.pending_xref)]:
            if link.get("reftype") == "myst" and link["reftarget"] not in self.env.found_docs:
                self.lead(link)

    def lead(self, link: nodes.Element) -> None:
        page, target = self.env.current_document.docname, link["reftarget"]
        # README's links, on the page that includes it, begin at the root.
        folders = (ROOT / "docs" / page).parent, ROOT
        near = [folder / (target + end) for folder in folders for end in ("", ".md")]
        found = next((path.resolve() for path in near if path.exists()), None)
        if found is None or not target:
            return  # Sphinx says so
        file = found.relative_to(ROOT).as_posix()
        if found.is_dir():
            link.replace_self(link.children)
        elif file in PAGES:
            address = self.app.builder.get_relative_uri(page, PAGES[file])
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))
        elif found.suffix in LANGUAGES:
            address = source_page(self.app, file)
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))
        else:
            link.replace_self(addnodes.download_reference("", "", *link.children, reftarget=f"/../{file}"))


def place_of(found: Any) -> tuple[str, int]:
    """The file and line of a function or class; raises TypeError, OSError or ValueError for anything else."""
    found = inspect.unwrap(found)
    file = Path(inspect.getsourcefile(found) or "").resolve()
    return file.relative_to(ROOT).as_posix(), inspect.getsourcelines(found)[1]


def show_sources(app: Sphinx, tree: nodes.document) -> None:
    """[source] beside each function and class of the reference, and below it the tests that hold it."""
    for described in tree.findall(addnodes.desc):
        signature = described[0]
        if not isinstance(signature, addnodes.desc_signature) or not signature.get("fullname"):
            continue
        found = object_of(signature["module"], signature["fullname"])
        try:
            address = source_page(app, *place_of(found))
        except (TypeError, OSError, ValueError):
            continue  # a field, say
        text = nodes.inline("", "[source]", classes=["viewcode-link"])
        signature += nodes.reference("", "", text, refuri=address)
        held = "".join(
            f'<li><a href="{source_page(app, test.file, test.line)}">{html.escape(test.sentence)}</a></li>'
            for test in tests_of(found)
        )
        if held:
            count = held.count("<li>")
            summary = f"<summary>Tested by {count} test{'s' * (count > 1)}</summary>"
            folded = f'<details class="tested-by">{summary}<ul>{held}</ul></details>'
            described[-1] += nodes.raw("", folded, format="html")


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file that a page links to."""
    files = {file for found in app.env.metadata.values() for file in found.get("sources", ())}
    for file in sorted(files):
        path = ROOT / file
        code = app.builder.highlighter.highlight_block(
            path.read_text(), LANGUAGES[path.suffix], linespans="L", lineanchors=""
        )
        yield f"source/{file}", {"title": file, "body": f"<h1>{file}</h1>{code}"}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LinksToFiles)
    app.connect("doctree-read", show_sources)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
