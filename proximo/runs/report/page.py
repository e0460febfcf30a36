"""The page: its sections in the order in which a reader needs them."""

from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from string import Template

from proximo.runs.report import tables, texts
from proximo.runs.report.charts import Line, Mark, histogram, key, plot, short
from proximo.runs.report.curves import (
    POINTS,
    downsample,
    edges,
    histograms_by_third,
    series_of,
    with_interval,
    with_range,
)
from proximo.runs.report.figures import figure, keys_of
from proximo.runs.report.groups import Group, Study
from proximo.runs.report.head import MOST_COMMANDS, date, head, notes, reproduction, title
from proximo.runs.report.hints import FAMILIES, HINTS, LANGUAGE_FAMILIES, VITAL, families, summarise
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.read import STEP
from proximo.runs.report.video import video
from proximo.runs.statistics import BOOTSTRAP, FEWEST, STUDENT

RETURN = "rollout/ep_rew_mean"
SHADED = "Line: the mean over seeds. Shaded: from the lowest to the highest value of any seed."
SPREAD = (
    "Training episodes, by the third of training in which they ended. The line marks the mean. Each row has "
    "its own vertical scale. The outermost bars also count what lies beyond them."
)


def page(*studies: Study) -> str:
    """The whole report as one self-contained HTML file.

    studies  one for each kind of runs, each a part of its own
    """
    parts = [join(head(study), notes(study), *sections(study)) for study in studies]
    body = parts[0] if len(parts) == 1 else join(*(tag("div", part, class_="kind") for part in parts))
    named = ", ".join(map(title, studies))
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    made = f"Made by proximo {version('proximo')} on {date(studies[0].made)}."
    foot = f"{made} Curves are thinned to {POINTS} points."
    return template.substitute(title=tag("title", named), body=body, foot=tag("p", foot))


def sections(study: Study) -> list[Markup | None]:
    """What stands below the head."""
    if study.unit == "iterations":
        return [
            section("Learning curves", *texts.learning(study)),
            section("Samples", *texts.samples(study)),
            section("Comparison", *comparisons(study)),
            *metrics(study),
            *_last(study),
        ]
    return [
        section("Learning curves", *learning(study)),
        section("Video", video(study.runs)),
        section("Comparison", *comparisons(study)),
        section("Update size", *vitals(study)),
        section("Episode returns and lengths", *episodes(study)),
        section("Evaluation", tables.evaluations(study)),
        *metrics(study),
        *_last(study),
    ]


def _last(study: Study) -> list[Markup | None]:
    return [
        reproduction(study) if len(study.groups) > MOST_COMMANDS else None,
        section("Options", tables.all_options(study)),
        section("Runs", tables.all_runs(study)),
        section("Versions and machine", tables.machine(study)),
    ]


def section(heading: str, *content: Markup | None) -> Markup:
    """A section; nothing where it would be empty."""
    inside = join(*content)
    return tag("section", tag("h2", heading), inside) if inside else inside


# ---- charts


def learning(study: Study) -> Iterator[Markup]:
    """Return against steps, a picture for each environment."""
    hint = "Mean return of the last 100 training episodes against environment steps."
    charts, many = [], len(study.environments) > 1
    for env in study.environments:
        groups = study.on(env)
        lines = []
        for number, group in enumerate(groups):
            curves = [downsample(series) for series in series_of(group.runs, RETURN)]
            if curves:
                lines += [Line(c, number, faint=True) for c in curves if len(curves) > 1]
                lines.append(Line(with_interval(curves), number, group.words))
        picture = plot(lines, f"{env}: return against steps", large=True, whole=len(groups) == 1)
        charts.append(figure(tag("b", env if many else "Return"), keys_of(groups), picture))
    if len(study.runs) > len(study.groups):
        hint += (
            " Strong lines: the mean over seeds, up to the last step that all seeds have reached, with "
            "its 95% "
            f"interval ({' and '.join(_methods(study))}). Faint lines: the single seeds."
        )
    yield tag("div", *charts, class_="pair" if many else "main")
    yield tag("p", hint, class_="hint")


def _methods(study: Study) -> list[str]:
    """How the bands are computed: by how many seeds there are."""
    counts = [len(group.runs) for group in study.groups if len(group.runs) > 1]
    return [STUDENT] * any(n < FEWEST for n in counts) + [BOOTSTRAP] * any(n >= FEWEST for n in counts)


def comparisons(study: Study) -> Iterator[Markup]:
    """Several groups beside each other: scores, and the options that differ."""
    if len(study.groups) < 2:
        return
    for env in (env for env in study.environments if len(study.on(env)) > 1 or study.overall):
        many = len(study.environments) > 1
        score = "score" if study.unit == "iterations" else "return"
        yield join(tag("h3", env) if many else None, tables.comparison(study.rows[env], score))
    if study.overall:
        yield join(tag("h3", "All environments together, scaled"), tables.comparison(study.overall))
    if any(len(study.on(env)) > 1 for env in study.environments):
        yield tables.meaning(study)
    if study.differing:
        yield join(tag("h3", "Options that differ"), tables.differences(study))


def vitals(study: Study) -> Iterator[Markup]:
    """Clip fraction and KL over time, large."""
    for env in study.environments:
        groups = study.on(env)
        found = []
        for metric, vital in VITAL.items():
            having = [(number, g) for number, g in enumerate(groups) if series_of(g.runs, metric)]
            if having:
                lines = [
                    Line(with_range(series_of(group.runs, metric)), number, group.words)
                    for number, group in having
                ]
                picture = plot(lines, f"{env}: {vital.title}", large=True, marks=_reached(lines, vital.limit))
                seen = [tag("li", key(number), summarise(metric, group.runs)) for number, group in having]
                found.append(
                    figure(tag("b", vital.title), picture, tag("ul", *seen, class_="seen"), hint=vital.hint)
                )
        if found:
            many = len(study.environments) > 1
            yield join(tag("h3", env) if many else None, keys_of(groups), tag("div", *found, class_="pair"))


def _reached(lines: list[Line], limit: float | None) -> list[Mark]:
    """The limit, if the curves come near it; a limit far above would flatten them."""
    top = max(float(line.curve.values.max(initial=0.0)) for line in lines)
    return [Mark(limit, f"{limit:g}")] if limit is not None and limit < 3 * top else []


def episodes(study: Study) -> Iterator[Markup]:
    """Histograms of returns and lengths in the thirds of the training."""
    for env in study.environments:
        groups = study.on(env)
        shown = []
        for field, words in (("returns", "Episode return"), ("lengths", "Episode length, in steps")):
            bars = edges([run.episodes for group in groups for run in group.runs], field)
            if bars is not None:
                for number, group in enumerate(groups):
                    name = f"{words}, {group.words}" if len(groups) > 1 else words
                    picture = histogram(histograms_by_third(group.runs, field, bars), bars, name, number)
                    shown.append(figure(tag("b", name), picture))
        if shown:
            yield join(tag("h3", env) if len(study.environments) > 1 else None)
            yield join(tag("div", *shown, class_="pair"), tag("p", SPREAD, class_="hint"))


def metrics(study: Study) -> Iterator[Markup]:
    """Every metric as a small chart, by family."""
    for env in study.environments:
        groups = study.on(env)
        names = dict.fromkeys(name for g in groups for run in g.runs for name in run.metrics if name != STEP)
        for family, members in families(list(names)).items():
            charts = [small(metric, groups) for metric in members]
            heading = (FAMILIES | LANGUAGE_FAMILIES).get(family, family)
            where = f"{heading} ({env})" if len(study.environments) > 1 else heading
            row = tag("div", *charts, class_="small")
            yield section(where, keys_of(groups), row, tag("p", SHADED, class_="hint"))


def small(metric: str, groups: list[Group]) -> Markup:
    """A small chart of one metric."""
    having = [(number, group) for number, group in enumerate(groups) if series_of(group.runs, metric)]
    lines = [Line(with_range(series_of(group.runs, metric)), number) for number, group in having]
    last = groups[0].mean(metric) if len(groups) == 1 else None
    words = None if last is None else short(last)
    caption = join(tag("b", metric.partition("/")[2] or metric), tag("span", words, class_="last"))
    hint = HINTS.get(metric) or (VITAL[metric].hint.partition(".")[0] + "." if metric in VITAL else None)
    return figure(caption, plot(lines, metric), hint=hint)
