"""Docstrings and pages in our style, as Sphinx reads them.

A docstring may have lines such as `reward, value  [T, N], units of reward`, which become a list of
definitions, and equations, which are indented or stand behind a colon and two spaces. The bullets of a page
of sections are its chapters, so that GitHub shows the same table of contents as the site.
"""

import ast
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

EQUATION = re.compile(r"(?P<before>\S.*:)  +(?P<equation>\S.*)")
DEFINITION = re.compile(r"(?P<names>[`\w*]+(?:(?:, | / |\.)[`\w*]+)*)  +(?P<text>\S.*)")
SCALAR = re.compile(
    r"""int \| float \| ~?(jaxtyping\.)?Float\[Array, (''|"")\] \| ~?(jaxtyping\.)?Int\[Array, (''|"")\]"""
)
COMMAND = re.compile(r"(proximo|python|make|pip|git) ")
CHAPTER = re.compile(r"^- \[[^]]+\]\(([\w/-]+)\.(?:md|rst)\)", flags=re.MULTILINE)


def escaped(line: str) -> str:
    """Prose in which nothing but backticks has a meaning, as in Markdown."""
    parts = re.split(r"(``?[^`]+``?)", line)
    special = re.compile(r"([\\*|]|_(?=\W|$))")
    return "".join(part if part.startswith("`") else special.sub(r"\\\1", part) for part in parts)


def definition(line: str, column: int) -> tuple[str, str, int] | None:
    """The names that a line defines, what it says of them, and in which column; None where it does not.

    A name as long as the column above it is wide has one space behind it.
    """
    if found := DEFINITION.fullmatch(line):
        return found["names"], found["text"], found.start("text")
    if column and line[column - 1 : column] == " " and line[column : column + 1].strip():
        return line[:column].strip(), line[column:], column
    return None


def restructured(lines: list[str]) -> list[str]:
    """A docstring of ours in reStructuredText."""
    made: list[str] = []
    kind, column = "", 0  # of the block that the line above belongs to
    for line in lines:
        indented = line.startswith("    " if kind in ("", "prose", "equation") else " ")
        if not line.strip():
            kind, column = "", 0
            made.append("")
        elif indented and kind == "definition":
            made.append("    " + escaped(line.strip()))
        elif indented:
            made += [line] if kind == "equation" else ["", "::", "", line]
            kind = "equation"
        elif found := EQUATION.fullmatch(line):
            made += [escaped(found["before"]), "", "::", "", "    " + found["equation"]]
            kind = "equation"
        elif defined := definition(line, column):
            names, text, column = defined
            made += [*([] if kind == "definition" else [""]), f"``{names.replace('`', '')}``"]
            made.append("    " + escaped(text))
            kind = "definition"
        else:
            made += [*([""] if kind in ("definition", "equation") else []), escaped(line)]
            kind = "prose"
    return made


def plain_type(text: str) -> str:
    """A type as the source has it, without what an option adds: its range, its names, its kind.

    jaxtyping tells the class of an array in full, and all parts of a union.
    """
    while (start := text.find("Annotated[")) >= 0:
        begin, depth, first = text.index("[", start) + 1, 1, 0
        for end in range(begin, len(text)):
            depth += (text[end] == "[") - (text[end] == "]")
            if depth == 1 and text[end] == "," and not first:
                first = end
            if not depth:
                break
        start -= len("~typing.") if text[:start].endswith("~typing.") else 0
        text = text[:start] + text[begin:first] + text[end + 1 :]
    text = re.sub(r"\b(jaxlib\._jax|jax)\.Array\b", "Array", text)
    text = re.sub(r"~[\w.]+\.(?=~)", "", text)  # Sphinx tells the module of a generic class twice
    text = re.sub(r"<(factory|function)[^,)]*>", "...", text)  # a default that is no Python
    return SCALAR.sub("Scalar", text)


def process_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # What Python says of any `__call__` without a docstring says nothing.
    lines[:] = [] if lines[:1] == ["Call self as a function."] else restructured(lines)


def process_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    return signature and plain_type(signature), returned and plain_type(returned)


def polish(app: Sphinx, tree: nodes.document) -> None:
    """Shapes in double quotes, as the source has them; blocks in the colours of what they are written in."""
    for string in tree.findall(addnodes.desc_sig_literal_string):
        string.children = [nodes.Text('"' + string.astext().strip("'").strip() + '"')]
    for type_ in tree.findall(addnodes.desc_annotation):
        if (short := plain_type(type_.astext())) != type_.astext():
            type_.children = [nodes.Text(short)]
    for block in tree.findall(nodes.literal_block):
        if block.get("language") in (None, "default"):
            block["language"] = language(block.astext())


def language(text: str) -> str:
    """That of a block which does not say it: commands, Python, or neither, such as an equation."""
    if COMMAND.match(text):
        return "bash"
    try:
        ast.parse(text)
    except SyntaxError:
        return "text"
    return "python"


def line_up_parameters(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """A parameter on each line, as spans: Sphinx makes them a list of definitions without any term."""

    def spans(found: re.Match[str]) -> str:
        return found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")

    if "body" in context:
        lines = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', flags=re.DOTALL)
        context["body"] = lines.sub(spans, context["body"])


def add_chapters(app: Sphinx, name: str, content: list[str]) -> None:
    """The bullets of a page of sections as a tree that the navigation knows."""
    if name in app.config.section_pages:
        chapters = "\n".join(CHAPTER.findall(content[0]))
        content[0] += f"\n```{{toctree}}\n:hidden:\n\n{chapters}\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("section_pages", (), "env")
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("doctree-read", polish)
    app.connect("html-page-context", line_up_parameters)
    app.connect("source-read", add_chapters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
