"""HTML that escapes by itself: text stays text unless it was made here."""

from html import escape

VOID = {"br", "hr", "meta", "col"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element; content that is no `Markup` is escaped, and so are the attributes.

    `class_` stands for class, `aria_label` for aria-label; an attribute that is None is left out.
    """
    words = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    """The pieces in one row; what is no `Markup` is escaped, None is nothing."""
    pieces = (c if isinstance(c, Markup) else escape(str(c)) for c in content if c is not None)
    return Markup("".join(pieces))
