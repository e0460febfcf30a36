"""A chart on the page: its caption, its keys, its hint."""

from proximo.runs.report.charts import legend
from proximo.runs.report.groups import Group
from proximo.runs.report.markup import Markup, tag


def figure(caption: object, *content: Markup | None, hint: str | None = None) -> Markup:
    """A chart with its caption above and its hint below."""
    below = tag("p", hint, class_="hint") if hint else None
    return tag("figure", tag("figcaption", caption), *content, below, class_="chart")


def keys_of(groups: list[Group]) -> Markup | None:
    """What their lines stand for; one alone needs no word."""
    return legend([(n, group.words) for n, group in enumerate(groups)]) if len(groups) > 1 else None
