"""The page about one update: where every sample's ratio went, epoch by epoch, and what might have been."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import NamedTuple

import numpy as np

from proximo.runs.report.charts import SIZE, Frame, Line, Mark, legend, plot, short, tick_label, ticks
from proximo.runs.report.curves import Curve
from proximo.runs.report.figures import figure
from proximo.runs.report.head import date
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.tables import NONE, table, with_interval
from proximo.runs.statistics import Estimate

BARS = 60  # of a histogram of ratios
SHOWN = 8  # epochs that have a histogram
REACH = 2.5  # widths of the clip range that a histogram shows on each side of 1
NAMES = {  # of the means of an epoch: in a table's head, and what the number is
    "kl": ("KL", "the exact KL(old || new), mean over the rollout's states, in nats"),
    "k1": ("k1", "estimate of KL(old || new) from the sampled actions, in nats: the mean of -log r"),
    "k2": ("k2", "half the mean of (log r)^2"),
    "k3": ("k3", "the mean of r - 1 - log r; what is logged as approximate KL, there of the minibatches"),
    "outside": ("outside", "share of samples whose ratio has left the clip range, whatever the advantage"),
    "no_slope": ("no slope", "share of samples where the objective is flat: they push no more"),
    "surrogate": ("objective", "what the actor maximises, mean over the rollout, in units of the advantage"),
    "unclipped": ("without clip", "r A, mean over the rollout"),
    "entropy": ("entropy", "of the policy, in nats"),
    "value_error": ("value error", "mean squared error of the critic against its targets before the update"),
    "explained_variance": ("explained", "share of the targets' variance that the critic explains"),
}


ANSWERS = {  # to `proximo.runs.logs.compare`
    "bits": "the update that the run made: its logged numbers are the same, bit for bit",
    "rounding": "the update that the run made: its logged numbers are the same, up to rounding",
    "other": "not quite the update that the run made: its logged numbers are others",
    "unknown": "an update that the run has not made: it would be the next one",
}


class Shape(NamedTuple):
    """The ratios of all samples after some epochs.

    ratio   [samples] that count
    moving  [samples], whether the objective still has a slope there
    """

    ratio: np.ndarray
    moving: np.ndarray


class Version(NamedTuple):
    """One way to make the update.

    label    "as the run made it", or the options that differ
    ratios   after every epoch, from 0
    means    each [epochs + 1], by the names of `NAMES`
    steps    each [minibatch steps], over all epochs: `grad_norm`, `cosine`
    score    what the policy then earns; None where nothing was played
    gain     of this over the first version, in pairs; None for the first
    """

    label: str
    ratios: Sequence[Shape]
    means: Mapping[str, Sequence[float]]
    steps: Mapping[str, Sequence[float]]
    score: Estimate | None = None
    gain: Estimate | None = None


class Inspected(NamedTuple):
    """What the page says.

    title, lead  the environment, and a sentence
    tiles        (name, number, small print)
    command      that writes this page again
    notes        warnings, a line each
    bounds       how far the ratio may fall below and rise above 1
    versions     the run's own update, then what might have been
    before       what the policy earned before the update; None where nothing was played
    scored       what the score is: "return"
    more         further sections
    """

    title: str
    lead: str
    tiles: Sequence[tuple[str, str, str]]
    command: str
    notes: Sequence[str]
    bounds: tuple[float, float]
    versions: Sequence[Version]
    before: Estimate | None
    scored: str
    more: Sequence[Markup] = ()

    @property
    def divergence(self) -> str:
        """The name of the best measure of it that there is: exact, or k3."""
        return "kl" if "kl" in self.versions[0].means else "k3"


def inspection_page(told: Inspected) -> str:
    """The whole page as one self-contained HTML file."""
    body = join(
        _head(told),
        _section("How far each sample has moved", *_ratios(told)),
        _section("Divergence", *_divergence(told)),
        _section("What is left to push", *_objective(told)),
        _section("Gradients", *_gradients(told)),
        _section("Critic and entropy", *_critic(told)),
        _section("What if", *_what_if(told)) if len(told.versions) > 1 or told.before else None,
        *told.more,
        _section("The numbers", _numbers(told)),
    )
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    made = f"Made by proximo {version('proximo')} on {date(datetime.now(UTC))}."
    return template.substitute(title=tag("title", f"{told.title}, inspected"), body=body, foot=tag("p", made))


def _section(heading: str, *content: Markup | None) -> Markup:
    return tag("section", tag("h2", heading), *content)


def _head(told: Inspected) -> Markup:
    boxes = [
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note)), class_="tile")
        for name, value, note in told.tiles
    ]
    notes = None
    if told.notes:
        items = [tag("li", note) for note in told.notes]
        notes = tag("div", tag("h2", "Notes"), tag("ul", *items), class_="notes")
    return tag(
        "header",
        tag("p", "Proximo, one update under the microscope", class_="eyebrow"),
        tag("h1", told.title),
        tag("p", told.lead, class_="lead"),
        tag("dl", *boxes, class_="tiles"),
        tag("div", tag("h2", "This page again"), tag("pre", tag("code", told.command)), class_="again"),
        notes,
    )


# ---- charts


def shown_epochs(count: int) -> list[int]:
    """Which of the epochs 1 to `count` have a histogram: the first, the last, and some between."""
    return sorted({round(x) for x in np.linspace(1, count, min(SHOWN, count))})


def _ratios(told: Inspected) -> Iterator[Markup]:
    own = told.versions[0]
    yield figure(
        "Probability ratio r = new / old of every sample, after so many epochs",
        legend([(0, "still pushes"), (6, "no slope left")]),
        _histograms(told, [(f"epoch {n}", own.ratios[n]) for n in shown_epochs(len(own.ratios) - 1)]),
        hint=f"Dashed: the clip range, {1 - told.bounds[0]:.3g} to {1 + told.bounds[1]:.3g}. A sample beyond "
        "it stops pushing only if its advantage would carry it further. Each row has its own vertical scale. "
        "The outermost bars also count what lies beyond them.",
    )


def edges_of(bounds: tuple[float, float]) -> np.ndarray:
    """Of the bars of a histogram of ratios, some way beyond the range."""
    reach = REACH * max(bounds)
    return np.linspace(max(0.0, 1.0 - reach), 1.0 + reach, BARS + 1)


def inside(ratio: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Ratios, those beyond the edges moved into the outermost bars."""
    return np.clip(ratio, edges[0], edges[-1])


def _histograms(told: Inspected, rows: Sequence[tuple[str, Shape]]) -> Markup:
    """Histograms of ratios below each other, over one axis."""
    edges = edges_of(told.bounds)
    left, right = float(edges[0]), float(edges[-1])
    drawn = []
    for label, shape in rows:
        held = inside(shape.ratio, edges)
        pushing, whole = (
            np.histogram(chosen, edges)[0] / max(len(held), 1) for chosen in (held[shape.moving], held)
        )
        frame = Frame(left, right, 0.0, float(whole.max()) * 1.04 or 1.0)
        marks = "".join(f"M{frame.x(x):.0f} 0V{SIZE}" for x in (1 - told.bounds[0], 1 + told.bounds[1]))
        picture = tag(
            "svg",
            tag("path", class_="bars s6", d=_bars(frame, edges, pushing, whole)),
            tag("path", class_="bars s0", d=_bars(frame, edges, np.zeros(BARS), pushing)),
            tag("path", class_="mark", d=marks),
            viewBox=f"0 0 {SIZE} {SIZE}",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"histogram of ratios, {label}: {_spread(shape)}",
        )
        words = tag("p", tag("b", label), f" {_spread(shape)}", class_="row")
        drawn.append(tag("div", words, picture, class_="bins"))
    xs = ticks(left, right, 6)
    places = [f"left:{(x - left) / (right - left):.1%}" for x in xs]
    axis = [tag("i", tick_label(x, xs), class_="x", style=at) for x, at in zip(xs, places, strict=True)]
    return tag("div", *drawn, tag("div", *axis, class_="axis"), class_="ridge")


def _bars(frame: Frame, edges: np.ndarray, below: np.ndarray, above: np.ndarray) -> str:
    """Bars from one height to another."""
    x, low, high = frame.x(edges), frame.y(below), frame.y(above)
    boxes = zip(x[:-1], x[1:], low, high, strict=True)
    return "".join(f"M{a:.0f} {b:.0f}V{t:.0f}H{e:.0f}V{b:.0f}Z" for a, e, b, t in boxes if b - t > 0.5)


def _spread(shape: Shape) -> str:
    if not len(shape.ratio):
        return "no sample"
    low, high = np.quantile(shape.ratio, (0.05, 0.95))
    return f"90% from {low:.2f} to {high:.2f}, {1 - shape.moving.mean():.1%} without slope"


def _over_epochs(name: str, lines: Sequence[tuple[str, Sequence[float]]], *marks: Mark) -> Markup:
    """Numbers after every epoch."""
    drawn = [_line(values, number, label) for number, (label, values) in enumerate(lines)]
    keys = legend([(number, label) for number, (label, _) in enumerate(lines)]) if len(lines) > 1 else None
    return join(keys, plot(drawn, name, large=True, marks=marks, over="epoch"))


def _line(values: Sequence[float], number: int, label: str) -> Line:
    return Line(Curve(np.arange(len(values), dtype=float), np.asarray(values, float)), number, label)


def _divergence(told: Inspected) -> Iterator[Markup]:
    means = told.versions[0].means
    labels = {"kl": "exact", "k1": "k1", "k2": "k2", "k3": "k3"}
    lines = [(label, means[name]) for name, label in labels.items() if name in means]
    yield figure(
        "KL(old || new), mean over the samples, in nats, after each epoch",
        _over_epochs("divergence by epoch", lines),
        hint="k1, k2 and k3 are estimates from the sampled actions (Schulman 2020). k1 may be negative, so "
        "no limit should watch it.",
    )


def _objective(told: Inspected) -> Iterator[Markup]:
    means = told.versions[0].means
    shares = figure(
        "Share of samples",
        _over_epochs(
            "shares of samples by epoch",
            [("outside the range", means["outside"]), ("no slope left", means["no_slope"])],
        ),
        hint="The clip fraction that is logged counts every ratio outside the range. Fewer samples have "
        "stopped pushing: where the advantage pulls a ratio back, the objective keeps its slope.",
    )
    gains = figure(
        "Mean objective, in units of the advantage",
        _over_epochs(
            "objective by epoch",
            [("objective", means["surrogate"]), ("without the clip, r A", means["unclipped"])],
        ),
        hint="With a clip the objective lies below r A: the difference is what the update gives up.",
    )
    yield tag("div", shares, gains, class_="pair")


def _gradients(told: Inspected) -> Iterator[Markup]:
    steps = told.versions[0].steps
    pictures = {
        "grad_norm": ("Norm of the gradient, before it is bounded", "Of actor and critic together."),
        "cosine": (
            "Cosine between a minibatch's gradient and the whole batch's",
            "1: every minibatch asks for the same step. Near 0: a minibatch is mostly noise. All gradients "
            "of an epoch are taken at the weights that it begins with.",
        ),
    }
    drawn = [
        figure(
            caption,
            plot([_line(steps[name], 0, "minibatch")], caption, large=True, over="minibatch step"),
            hint=hint,
        )
        for name, (caption, hint) in pictures.items()
        if name in steps
    ]
    yield tag("div", *drawn, class_="pair")


def _critic(told: Inspected) -> Iterator[Markup]:
    means = told.versions[0].means
    drawn = [
        figure(f"{NAMES[name][0].capitalize()} after each epoch", _over_epochs(name, [(name, means[name])]),
               hint=f"{NAMES[name][1][0].upper()}{NAMES[name][1][1:]}.")
        for name in ("value_error", "explained_variance", "entropy")
        if name in means
    ]  # fmt: skip
    yield tag("div", *drawn, class_="small")


# ---- what might have been


def _what_if(told: Inspected) -> Iterator[Markup]:
    rows: list[tuple[object, ...]] = []
    if told.before is not None:
        rows.append(("before the update", NONE, NONE, NONE, with_interval(told.before), NONE))
    for one in told.versions:
        kl, outside, flat = (one.means[name][-1] for name in (told.divergence, "outside", "no_slope"))
        gain = NONE if one.gain is None else with_interval(one.gain)
        earned = with_interval(one.score)
        rows.append((one.label, short(kl), f"{outside:.1%}", f"{flat:.1%}", earned, gain))
    head = ("", "KL, nats", "outside", "no slope", f"{told.scored} after it", "gain over the run's")
    yield table(head, rows, class_="compare")
    if told.before is not None:
        hint = "Below each number: its 95% interval over episodes. All policies play with the same seeds, so "
        hint += "gains are means of differences in pairs. They tell of this one update, not of training."
        yield tag("p", hint, class_="hint")
    if len(told.versions) > 1:
        lines = [(one.label, one.means[told.divergence]) for one in told.versions]
        yield figure("KL(old || new) after each epoch, in nats", _over_epochs("divergence by version", lines))
        rows_of = [(one.label, one.ratios[-1]) for one in told.versions]
        yield figure("Ratios after the last epoch", _histograms(told, rows_of))


def _numbers(told: Inspected) -> Markup:
    means = told.versions[0].means
    names = [name for name in NAMES if name in means]
    count = len(means["k1"])
    rows = [(str(n), *(short(means[name][n]) for name in names)) for n in range(count)]
    meaning = [tag("li", tag("b", NAMES[name][0]), f": {NAMES[name][1]}") for name in names]
    return join(
        table(("after epoch", *(NAMES[name][0] for name in names)), rows, class_="compare"),
        tag("ul", *meaning, class_="hint"),
    )
