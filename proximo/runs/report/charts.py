"""Charts as inline SVG: shapes alone, stretched to any width; their words are HTML, which keeps its size.

matplotlib's SVG would bring its own letters and colours: a phone would shrink the letters, and dark mode
and print could not change the colours. Colours are classes (s0, s1, ...) that the page's CSS gives meaning.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from proximo.runs.report.curves import Curve, Histogram
from proximo.runs.report.markup import Markup, join, tag

SIZE = 1000  # of the drawing, in either direction: a tenth of a percent is finer than a pixel
COLOURS = 7
HITS = 40  # places where a large chart tells its numbers


class Line(NamedTuple):
    """A curve and how it is drawn; `faint` ones are the single seeds behind a mean."""

    curve: Curve
    number: int
    label: str = ""
    faint: bool = False


class Mark(NamedTuple):
    """A level to compare with, and what it is called."""

    value: float
    label: str


def style(number: int) -> str:
    """The class of the n-th group: a colour, and another kind of line once the colours are used up."""
    return f"s{number % COLOURS} d{number // COLOURS % 3}"


def short(value: float) -> str:
    """A number as a person would write it: 1,234 and 12.35 and 0.0123."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        return f"{value:.2e}"
    digits = max(0, (3 if size >= 1 else 2) - math.floor(math.log10(size)))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float) -> str:
    """Steps on an axis: 250k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high: at most so many, 1, 2 or 5 times a power of ten apart."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, min(last, first + 2 * most) + 1)]


def limits(values: Sequence[np.ndarray], marks: Sequence[Mark] = ()) -> tuple[float, float]:
    """Where an axis begins and ends: around the values, from 0 where that costs little."""
    known = [array[np.isfinite(array)] for array in values]
    every = np.concatenate([*known, np.array([mark.value for mark in marks])])
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return min(0.0, 2 * low), max(0.0, 2 * high) or float(low == 0)  # a constant, and where 0 is
    room = 0.05 * (high - low)
    if 0.0 <= low < 0.4 * high:
        return 0.0, high + room
    return (low - room, 0.0) if 0.4 * low < high <= 0.0 else (low - room, high + room)


class Frame(NamedTuple):
    """From numbers to places in the drawing."""

    left: float
    right: float
    low: float
    high: float

    def x(self, values: Any) -> Any:
        return (values - self.left) / (self.right - self.left) * SIZE

    def y(self, values: Any) -> Any:
        # What lies far outside is not seen; its digits would fill the file.
        return np.clip((self.high - values) / (self.high - self.low), -1.0, 2.0) * SIZE


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return "L".join(f"{a:.0f} {b:.0f}" for a, b in zip(x, y, strict=True))


def _path(frame: Frame, line: Line) -> Markup:
    curve = line.curve
    known = np.isfinite(curve.values)
    if not known.any():
        return Markup()
    points = _points(frame.x(curve.steps[known]), frame.y(curve.values[known]))
    kind = "faint" if line.faint else "line"
    return tag("path", class_=f"{kind} {style(line.number)}", d=f"M{points}{'' if 'L' in points else 'h0'}")


def _band(frame: Frame, line: Line) -> Markup:
    curve = line.curve
    if line.faint or curve.low is None or curve.high is None or np.array_equal(curve.low, curve.high):
        return Markup()
    known = np.isfinite(curve.low) & np.isfinite(curve.high)
    if not known.any():
        return Markup()
    x = frame.x(curve.steps[known])
    there, back = _points(x, frame.y(curve.high[known])), _points(x[::-1], frame.y(curve.low[known])[::-1])
    return tag("path", class_=f"band {style(line.number)}", d=f"M{there}L{back}Z")


def plot(
    lines: Sequence[Line],
    name: str,
    *,
    large: bool = False,
    marks: Sequence[Mark] = (),
    whole: bool = False,
    over: str = "steps",
) -> Markup:
    """Curves over the steps of training, or over whole numbers of something else.

    name   what the picture shows, for those who cannot see it
    large  more ticks, and numbers where the pointer rests
    whole  the bands belong to what must be seen; else they are cut where the lines end
    over   what is counted from left to right
    """
    drawn = [line for line in lines if len(line.curve.steps)]
    if not drawn:
        return tag("p", "nothing is recorded", class_="empty")
    bounds = [bound for line in drawn for bound in line.curve[2:] if whole and bound is not None]
    low, high = limits([line.curve.values for line in drawn] + bounds, marks)
    right = max(float(line.curve.steps[-1]) for line in drawn)
    left = 0.0 if right > 0 else right - 1.0
    frame = Frame(left, right, low, high)
    rows = ticks(low, high, 6 if large else 3)
    shapes = [
        tag("path", class_="grid", d="".join(f"M0 {frame.y(y):.0f}H{SIZE}" for y in rows)),
        *(tag("path", class_="mark", d=f"M0 {frame.y(m.value):.0f}H{SIZE}") for m in marks),
        *(_band(frame, line) for line in drawn),
        *(_path(frame, line) for line in sorted(drawn, key=lambda line: not line.faint)),
    ]
    words = [
        *(_at("y", "top", frame.y(y), tick_label(y, rows)) for y in rows),
        *(_at("x", "left", frame.x(x), count(x)) for x in ticks(left, right, 5 if large else 2)),
        *(_at("m", "top", frame.y(mark.value), mark.label) for mark in marks),
    ]
    hits = _hits(frame, [line for line in drawn if not line.faint], over) if large else Markup()
    return tag("div", _svg(name, *shapes), *words, hits, class_="plot large" if large else "plot")


def tick_label(value: float, rows: Sequence[float]) -> str:
    """As many digits as tell the ticks apart."""
    largest = max(abs(row) for row in rows)
    step = abs(rows[1] - rows[0]) if len(rows) > 1 else largest
    if value == 0 or not step:
        return "0"
    if largest >= 10_000:
        return count(value)
    if largest < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _svg(name: str, *shapes: Markup) -> Markup:
    box = f"0 0 {SIZE} {SIZE}"
    return tag("svg", *shapes, viewBox=box, preserveAspectRatio="none", role="img", aria_label=name)


def _at(kind: str, side: str, place: float, text: str) -> Markup:
    return tag("i", text, class_=kind, style=f"{side}:{place / SIZE:.1%}")


def _hits(frame: Frame, lines: Sequence[Line], over: str) -> Markup:
    """Strips that tell the numbers at their place while the pointer rests on them; no script is needed."""
    if len(lines) > COLOURS:
        return Markup()
    width = (frame.right - frame.left) / HITS
    places = frame.left + width * (np.arange(HITS) + 0.5)
    told = [f"{count(round(float(place), -2))} steps" for place in places]
    if over != "steps":  # one strip for each whole number
        width = max(1.0, round((frame.right - frame.left) / HITS))
        places = np.arange(frame.left, frame.right + 0.5, width)
        told = [f"{over} {place:.0f}" for place in places]
    strips = []
    for place, what in zip(places, told, strict=True):
        rows = [_reading(line, float(place)) for line in lines]
        if any(rows):
            side = "tip" if place < (frame.left + frame.right) / 2 else "tip before"
            tip = tag("span", tag("b", what), *rows, class_=side)
            left = f"left:{(place - width / 2 - frame.left) / (frame.right - frame.left):.1%}"
            strips.append(tag("div", tip, class_="hit", style=left))
    return tag("div", *strips, class_="hits", aria_hidden="true")


def _reading(line: Line, step: float) -> Markup:
    curve = line.curve
    value = float(np.interp(step, curve.steps, curve.values, left=np.nan, right=np.nan))
    if not math.isfinite(value):
        return Markup()
    return tag("span", key(line.number), f"{short(value)} ", tag("em", line.label))


def key(number: int) -> Markup:
    """A group's line, small enough to stand in a text."""
    path = tag("path", class_=f"line {style(number)}", d="M0 5H22")
    return tag("svg", path, class_="key", viewBox="0 0 22 10", aria_hidden="true")


def legend(labels: Sequence[tuple[int, str]]) -> Markup:
    """What the lines stand for."""
    return tag("ul", *(tag("li", key(number), text) for number, text in labels), class_="legend")


def histogram(rows: Sequence[Histogram], bars: np.ndarray, name: str, number: int) -> Markup:
    """Histograms one below the other over the same axis, each to its own height; a line marks the mean."""
    drawn = []
    for row in rows:
        frame = Frame(float(bars[0]), float(bars[-1]), 0.0, float(row.shares.max()) * 1.04 or 1.0)
        x, y = frame.x(bars), frame.y(row.shares)
        boxes = zip(x[:-1], x[1:], y, row.shares, strict=True)
        shape = "".join(f"M{a:.0f} {SIZE}V{h:.0f}H{b:.0f}V{SIZE}Z" for a, b, h, share in boxes if share)
        shapes = [tag("path", class_=f"bars {style(number)}", d=shape)]
        if row.episodes:
            mean = np.clip(frame.x(row.mean), 0, SIZE)
            shapes.append(tag("path", class_="mean", d=f"M{mean:.0f} 0V{SIZE}"))
        note = f"mean {short(row.mean)}, {row.episodes:,} episodes" if row.episodes else "no episode"
        words = tag("p", tag("b", row.label), f" {note}", class_="row")
        drawn.append(tag("div", words, _svg(f"{name}, {row.label}: {note}", *shapes), class_="bins"))
    xs = ticks(frame.left, frame.right, 4)
    axis = [_at("x", "left", frame.x(x), tick_label(x, xs)) for x in xs]
    return tag("div", *drawn, tag("div", *axis, class_="axis"), class_="ridge")


def whisker(
    value: float, low: float | None, high: float | None, ends: tuple[float, float], number: int
) -> Markup:
    """A number with its interval on a scale that the rows of a table share."""
    span = ends[1] - ends[0] or 1.0

    def place(x: float) -> str:
        return f"{min(max((x - ends[0]) / span, 0.0), 1.0):.1%}"

    bar = None
    if low is not None and high is not None:
        bar = tag("i", style=f"left:{place(low)};right:calc(100% - {place(high)})")
    return tag("div", join(bar, tag("b", style=f"left:{place(value)}")), class_=f"whisker {style(number)}")
