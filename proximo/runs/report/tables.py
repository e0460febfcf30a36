"""The report's tables: groups compared, options, evaluation, runs, machines."""

import json
from collections.abc import Callable, Iterator, Sequence

from proximo.runs.report.charts import key, short, whisker
from proximo.runs.report.groups import Row, Study, option_text
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.read import RunData
from proximo.runs.report.recipe import PARTS, part_of
from proximo.runs.statistics import FEWEST, Estimate

NONE = "–"  # noqa: RUF001 (a dash, as in any printed table)
FIRST = tag("span", "the first", class_="soft")


def table(head: Sequence[object], rows: Sequence[Sequence[object]], class_: str | None = None) -> Markup:
    """A table that scrolls sideways where the page is too narrow for it."""
    first = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if head else None
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", first, tag("tbody", *body), class_=class_), class_="wide")


def with_interval(estimate: Estimate | None, text: Callable[[float], str] = short) -> Markup:
    """A number, and below it the interval."""
    if estimate is None:
        return Markup(NONE)
    value, low, high, _ = estimate
    bounds = None if low is None or high is None else tag("small", f"{text(low)} to {text(high)}")
    return join(tag("b", text(value)), Markup(" "), bounds)


def methods(estimates: Sequence[Estimate | None]) -> str:
    """How the intervals of a table were computed, in a sentence; nothing where there are none."""
    used = dict.fromkeys(one.method for one in estimates if one is not None and one.method is not None)
    if not used:
        return ""
    return f"Below each number: its 95% interval ({', '.join(used)})."


def comparison(rows: Sequence[Row], score: str = "return") -> Markup:
    """Groups beside each other: their scores, and how sure these are."""
    known = [row.mean for row in rows if row.mean is not None]
    ends = [e.value for e in known] + [b for e in known for b in e[1:3] if b is not None]
    scale = (min(ends, default=0.0), max(ends, default=1.0))
    head = ["group", "runs", f"mean {score}", "", "interquartile mean", "P(better than first)"]
    lines = []
    for number, row in enumerate(rows):
        picture = whisker(*row.mean[:3], scale, number) if row.mean else Markup()
        beats = with_interval(row.improvement, "{:.0%}".format) if number else FIRST
        name, middle = join(key(number), row.label), with_interval(row.interquartile_mean)
        lines.append((name, row.runs, with_interval(row.mean), picture, middle, beats))
    return table(head, lines, "compare")


def meaning(study: Study) -> Markup:
    """What the numbers of a comparison mean, and how far to trust them."""
    scored = "the mean return of its last 100 training episodes"
    if study.unit == "iterations":
        scored = "the last value of its main metric: reward, accuracy or loss (a lower loss is better)"
    note = (
        f"A run's score is {scored}. Below each number: its 95% interval over the seeds. With fewer than "
        f"{FEWEST} runs it is Student's t, and only means have one. With more it is a stratified bootstrap "
        "(strata: environments). P(better than first): the probability that a run of this group scores "
        "higher "
        "than a run of the first group (ties count half); 50% means no difference."
    )
    if study.overall:
        note += " Scaled: on each environment 0 is the lowest score of any run here, and 1 the highest."
    return tag("p", note, class_="hint")


def differences(study: Study) -> Markup:
    """The options that are not the same in all groups."""
    head = ["option", *(join(key(study.number(group)), group.label) for group in study.groups)]
    return table(head, [(tag("code", name), *values) for name, values in study.differing.items()], "options")


def all_options(study: Study) -> Markup:
    """Every option by its part; where groups differ, the values of all of them."""
    parts: dict[str, dict[str, str]] = {"run": {}, "network": {}, "update": {}}
    for group in study.groups:
        homes = {n: p for p in PARTS for n in part_of(group.runs[0].config, p)}
        for name in group.options:
            values = dict.fromkeys(option_text(other.options, name) for other in study.groups)
            parts[homes.get(name, "run")][name] = " | ".join(values)
    if not any(parts.values()):
        return tag("p", "No options are known: config.json is missing or unreadable.", class_="empty")
    update = list(parts["update"].items())
    half = (len(update) + 1) // 2
    columns = [
        join(*(_options(part.capitalize(), list(parts[part].items())) for part in ("run", "network"))),
        _options("Update", update[:half]),
        _options("Update, continued", update[half:]),
    ]
    many = len(study.groups) > 1
    note = tag("p", "A bar separates the values of different groups.", class_="hint") if many else None
    return join(tag("div", *(tag("div", column) for column in columns), class_="parts"), note)


def _options(title: str, options: Sequence[tuple[str, str]]) -> Markup:
    if not options:
        return Markup()
    rows = [(tag("code", name), text) for name, text in options]
    return tag("div", tag("h3", title), table((), rows, "options"), class_="part")


def _named_runs(study: Study) -> Iterator[tuple[Markup, RunData]]:
    for group in study.groups:
        yield from ((join(key(study.number(group)), run.name), run) for run in group.runs)


def evaluations(study: Study) -> Markup | None:
    """What `evaluation.json` holds, where there is one."""
    lines, bounds = [], list[Estimate]()
    for name, run in _named_runs(study):
        if (found := run.evaluation) is not None:
            returns, lengths = found["returns"], found["lengths"]
            bounds.append(Estimate(found["mean"], found["low"], found["high"], found["interval"]))
            lines.append(
                (
                    name,
                    NONE if found["episodes"] is None else f"{found['episodes']:,.0f}",
                    with_interval(bounds[-1]),
                    NONE if found["std"] is None else short(found["std"]),
                    f"{short(min(returns))} to {short(max(returns))}" if returns else NONE,
                    short(sum(lengths) / len(lengths)) if lengths else NONE,
                )
            )
    if not lines:
        return None
    head = ["run", "episodes", "mean return", "std", "lowest to highest", "mean length"]
    note = f"Full episodes with the trained policy frozen. {methods(bounds)}"
    return join(table(head, lines), tag("p", note, class_="hint"))


def all_runs(study: Study) -> Markup:
    """A line for each run, with its state."""
    lines = [
        (
            name,
            NONE if run.seed is None else run.seed,
            f"{run.steps:,}",
            NONE if run.score is None else short(run.score),
            f"{len(run.episodes.returns) or int(run.last('episode') or 0):,}",
            NONE if (speed := run.last("time/fps", "eps")) is None else short(speed),
            run.state(study.made),
        )
        for name, run in _named_runs(study)
    ]
    names = ["steps", "score", "episodes", "steps/s"]
    if study.unit == "iterations":
        names = ["iterations", "score", "answers", "answers/s"]
    return table(["run", "seed", *names, "state"], lines)


def values_of(study: Study, part: str) -> dict[str, str]:
    """`versions` or `fingerprint` of all runs; where they differ, all values."""
    found: dict[str, dict[str, None]] = {}
    for run in study.runs:
        for name, value in part_of(run.config, part).items():
            text = value if isinstance(value, str) else json.dumps(value)
            found.setdefault(name, {})[text] = None
    return {name: " | ".join(values) for name, values in found.items()}


def machine(study: Study) -> Markup:
    """Where the runs were made, and with what."""
    tables = []
    for title, part in (("Versions", "versions"), ("Machine", "fingerprint")):
        rows = list(values_of(study, part).items())
        if rows:
            tables.append(tag("div", tag("h3", title), table((), rows, "options"), class_="part"))
    return tag("div", *tables, class_="parts")
