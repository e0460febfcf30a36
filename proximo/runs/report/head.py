"""The head of the page: what it shows, the main results, how to reproduce it, and notes."""

from datetime import datetime

from proximo.runs.report import tables
from proximo.runs.report.charts import key, short
from proximo.runs.report.groups import Group, Study
from proximo.runs.report.markup import Markup, tag
from proximo.runs.report.read import UNKNOWN
from proximo.runs.report.recipe import method, sentence, was_resumed
from proximo.runs.report.tables import NONE

SAME = (
    "The same command gives bit-identical results on that machine; seeds trained together (--seeds) "
    "and seeds trained one by one agree up to rounding."
)
RESUMED = (
    " An interrupted run has one command. A run that was resumed with other --steps has one command for each "
    "part, as if each part had finished."
)
MOST_COMMANDS = 4  # in the head; more of them stand further down
SPEEDS = {"steps": ("time/fps", "steps"), "iterations": ("eps", "answers")}  # a run's unit -> its speed
SCORES = {  # metric -> what a language model is summed up in
    "objective/scores": "Final reward",
    "loss": "Final loss",
    **dict.fromkeys(("accuracy", "rewards/accuracies"), "Final accuracy"),
    "eval_accuracy": "Held-out accuracy",
}
FACTS = {
    "objective/kl": ("KL to the reference", "nats per answer"),
    "val/length": ("Length", "tokens per answer"),
    "val/finished": ("Ended", "share of the answers"),
}


def date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def title(study: Study) -> str:
    """The environments, and how many groups there are where there are several."""
    names = [env for env in study.environments if env != UNKNOWN] or [UNKNOWN]
    text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return text if len(study.groups) == 1 else f"{text}: {len(study.groups)} groups"


def head(study: Study) -> Markup:
    """What it shows, the main results, and how to reproduce it."""
    group = study.groups[0]
    single = len(study.groups) == 1
    lead = sentence(group.options, group.preset, group.env) if single else _groups_in_words(study)
    facts = tiles(group) if single else _tiles_of_many(study)
    of = ": language models" if study.unit == "iterations" else ""
    dates = [run.started for run in study.runs if run.started is not None]
    facts += [("Date", f"{min(dates):%Y-%m-%d}", f"{min(dates):%H:%M} UTC")] if dates else []
    boxes = [
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note)), class_="tile")
        for name, value, note in facts
    ]
    return tag(
        "header",
        tag("p", f"Proximo training report{of}", class_="eyebrow"),
        tag("h1", title(study)),
        tag("p", lead, class_="lead"),
        tag("dl", *boxes, class_="tiles"),
        reproduction(study) if len(study.groups) <= MOST_COMMANDS else None,
    )


def tiles(group: Group) -> list[tuple[str, str, str]]:
    """(name, number, small print): the summary of a single group."""
    score, seconds, unit = group.score, group.mean("time/time_elapsed"), group.runs[0].unit
    (metric, of_speed), facts = SPEEDS[unit], list[tuple[str, str, str]]()
    speed = group.mean(metric)
    scored = SCORES.get(group.runs[0].score_of, "Final score")
    if unit == "iterations":
        measured = [(told, group.mean(fact)) for fact, told in FACTS.items()]
        facts = [(what, short(value), note) for (what, note), value in measured if value is not None]
    sure = "one seed: no interval over seeds"
    if score is not None and score.low is not None:
        sure = score.interval(short)
    seeds = ", ".join(map(str, sorted(group.seeds)))
    return [
        (
            scored,
            NONE if score is None else short(score.value),
            sure,
        ),
        *facts,
        ("Seeds", str(len(group.runs)), seeds if len(seeds) < 24 else ""),
        (unit.capitalize(), f"{max(run.steps for run in group.runs):,}", "in each run"),
        ("Speed", NONE if speed is None else short(speed), f"{of_speed}/s in each run"),
        ("Time", NONE if seconds is None else _duration(seconds), "for each run"),
    ]


def _tiles_of_many(study: Study) -> list[tuple[str, str, str]]:
    steps = sum(run.steps for run in study.runs)
    seconds = [last for run in study.runs if (last := run.last("time/time_elapsed")) is not None]
    count = len(study.environments)
    metric, of_speed = SPEEDS[study.unit]
    speeds = [last for run in study.runs if (last := run.last(metric)) is not None]
    scored = [(group.score.value, group.label) for group in study.groups if group.score is not None]
    best = max(scored) if scored and count == 1 else None  # returns of two environments do not compare
    return [
        *([("Highest score", short(best[0]), best[1])] if best else []),
        (
            "Runs",
            str(len(study.runs)),
            f"{len(study.groups)} groups" if count == 1 else f"{count} {study.kinds}",
        ),
        (study.unit.capitalize(), f"{steps:,}", "in all runs"),
        ("Speed", short(sum(speeds) / len(speeds)) if speeds else NONE, f"{of_speed}/s in a run"),
        ("Time", _duration(max(seconds)) if seconds else NONE, "of the longest run"),
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _groups_in_words(study: Study) -> str:
    """The method, where all groups have the same, and what the groups differ in."""
    methods = {method(group.options, group.env) for group in study.groups if group.options}
    names = [study.kinds[:-1]] * (len(study.environments) > 1) + list(study.differing)
    text = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    common = f"{methods.pop()}. " if len(methods) == 1 else ""
    return f"{common}{len(study.groups)} groups" + (f" that differ in {text}." if text else ".")


def reproduction(study: Study) -> Markup:
    """The commands that reproduce the runs, and what they were made with."""
    lines = [
        tag("code", key(study.number(group)) if len(study.groups) > 1 else None, group.command)
        for group in study.groups
        if group.command is not None
    ]
    if not lines:
        return Markup()
    machine = tables.values_of(study, "fingerprint")
    place = ", ".join(machine[name] for name in ("cpu", "system", "backend") if machine.get(name))
    cores = f" ({machine['cores']} cores)" if "cores" in machine else ""
    versions = ", ".join(f"{name} {value}" for name, value in tables.values_of(study, "versions").items())
    made = f"Made on {place or 'an unknown machine'}{cores} with {versions or 'unknown versions'}. {SAME}"
    made += RESUMED if any(was_resumed(run.config) for run in study.runs) else ""
    return tag("div", tag("h2", "Reproduce"), tag("pre", *lines), tag("p", made), class_="again")


def notes(study: Study) -> Markup:
    """What is missing, incomplete or running, and what makes the numbers less certain than they look."""
    lines = list(study.notes)
    for run in study.runs:
        state = run.state(study.made)
        unfinished = [] if state == "finished" or state.startswith("reached") else [state]
        lines += [f"{run.name}: {text}" for text in [*unfinished, *run.problems]]
    if not lines:
        return Markup()
    rows = tag("ul", *(tag("li", line) for line in lines))
    return tag("aside", tag("h2", "Notes"), rows, class_="notes")
