"""Chat templates: a Jinja program that comes with a model writes messages as one text.

The program is not trusted. It runs in Jinja's immutable sandbox and sees only plain JSON and a clock. A
template that accesses Python's internals is refused, and the error names what it accessed.
"""

import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from proximo.errors import UserError

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""A conversation: each message has a `role` ("system", "user", "assistant", ...) and a `content`."""

MARKS = r"\{%[-+]?\s*generation\s*[-+]?%\}"
"""A tag that begins what the assistant writes."""

BEGIN, END = "\ufdd0", "\ufdd1"
"""Around what a template marks as the assistant's. No characters, for no text to have them."""


def one_line(error: BaseException) -> str:
    """An exception's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class ChatTemplate:
    """A template with its variables.

    source  the program
    names   variables that it sees beside the messages: `bos_token`, `eos_token`, `tools`, ...
    """

    source: str
    names: Mapping[str, Any]

    def text(self, messages: Messages, generation_prompt: bool) -> str:
        """Messages as one text; with `generation_prompt` it ends where an answer begins.

        Raises UserError if it is not valid Jinja, fails on these messages, refuses them, or is refused.
        """
        return self._rendered(messages, generation_prompt, False)

    def render_marked(self, messages: Messages) -> tuple[str, list[tuple[int, int]]] | None:
        """The same, and the parts marked as the assistant's; None if the template has no marks."""
        if not re.search(MARKS, self.source):
            return None
        text, spans = _marks_of(self._rendered(messages, False, True))
        if text != self.text(messages, False):
            raise UserError("the chat template changes the text that it marks: remove its marks")
        return text, spans

    def _rendered(self, messages: Messages, generation_prompt: bool, marks: bool) -> str:
        template = compile_template(self.source, marks)
        try:
            # A template gets hold of no object of ours.
            known = {"tools": None, "documents": None, **self.names, "messages": messages}
            return template.render(json.loads(json.dumps(known)), add_generation_prompt=generation_prompt)
        except SecurityError as error:
            raise UserError(f"the chat template is refused: {one_line(error)}") from error
        except Exception as error:  # a program can fail in any way
            raise UserError(f"the chat template fails on these messages: {one_line(error)}") from error


@functools.lru_cache(maxsize=8)
def compile_template(template: str, marks: bool = False) -> jinja2.Template:
    """A compiled template. Raises UserError if it is not valid Jinja.

    marks  whether it writes `BEGIN` and `END` around what it marks as the assistant's
    """
    extensions = [_Marked if marks else _Generation, loopcontrols]
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _as_json
    environment.globals.update(
        raise_exception=_raise,
        strftime_now=lambda layout: datetime.datetime.now().strftime(layout),
        namespace=_Names,
        dict=lambda *args, **names: dict(*args, **names),
    )
    try:
        return environment.from_string(template)
    except Exception as error:  # Jinja's own, and RecursionError for deep nesting
        raise UserError(f"the chat template cannot be read: {one_line(error)}") from error


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        # Jinja's own writes an empty text where the attribute is not used further.
        raise SecurityError(f"it accesses {attribute!r} of a {type(obj).__name__}")


class _Names(Namespace):
    """Jinja's `namespace`, without names that are special in Python."""

    def __init__(*args: Any, **names: Any) -> None:  # as in Jinja: "self" is a name like any other
        Namespace.__init__(*args, **names)
        for name in dict(*args[1:], **names):
            _refuse_inner(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_inner(name)
        super().__setitem__(name, value)


class _Generation(Extension):
    """`{% generation %}`: marks what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's interface
    around = ("", "")

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in self.around)
        return nodes.Scope([begin, *body, end], lineno=line)


class _Marked(_Generation):
    around = (BEGIN, END)


def _marks_of(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without `BEGIN` and `END`, and what stood between them; pairs that touch are one."""
    plain: list[str] = []
    spans: list[tuple[int, int]] = []
    size = depth = begin = 0
    for part in re.split(f"([{BEGIN}{END}])", text.replace(END + BEGIN, "")):
        if part == BEGIN:
            begin, depth = begin if depth else size, depth + 1
        elif part == END:
            depth -= 1
            if not depth and begin < size:
                spans.append((begin, size))
        else:
            plain.append(part)
            size += len(part)
    return "".join(plain), spans


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _refuse_inner(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"it names something {name!r}")
