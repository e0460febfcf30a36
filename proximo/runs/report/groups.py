"""Runs put together: seeds of equal configuration are a group, groups are compared."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from proximo.options import as_word
from proximo.runs import statistics
from proximo.runs.report.read import RunData
from proximo.runs.report.recipe import Reproduce, Rerun, options_of, preset_of
from proximo.runs.statistics import Estimate

MOST_WORDS = 3  # options in a group's label


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    label   what tells it from the other groups
    preset  the preset they were made with; None where it is not recorded
    rerun   how they are made again
    """

    label: str
    env: str
    runs: list[RunData]
    options: dict[str, Any]
    preset: str | None
    rerun: Rerun

    @property
    def words(self) -> str:
        """The label where the environment is said already."""
        return self.label.removeprefix(f"{self.env}, ")

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs if run.seed is not None]

    @property
    def command(self) -> str | None:
        """What makes its runs again, a line each; None where no command does."""
        return "\n".join(self.rerun.lines) or None

    @cached_property
    def scores(self) -> np.ndarray:
        """One score for each run that has one."""
        return np.array([run.score for run in self.runs if run.score is not None])

    @property
    def score(self) -> Estimate | None:
        """The mean over seeds with its interval; None without any score."""
        return statistics.mean([self.scores]) if len(self.scores) else None

    def mean(self, metric: str) -> float | None:
        """The mean over runs of a metric's last value."""
        values = [value for value in (run.last(metric) for run in self.runs) if value is not None]
        return float(np.mean(values)) if values else None


class Row(NamedTuple):
    """A line of a comparison; None where there are no runs for it, or where it is the first itself."""

    label: str
    runs: int
    mean: Estimate | None
    interquartile_mean: Estimate | None
    improvement: Estimate | None


@dataclass(frozen=True)
class Study:
    """All that a report shows.

    differing  options that are not the same in all groups: name -> a value for each group
    overall    a line for each setting over all environments, if several settings share several of them
    notes      what a reader should know before he believes the numbers
    """

    groups: list[Group]
    differing: dict[str, list[str]]
    overall: list[Row]
    notes: list[str]
    made: datetime

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(group.env for group in self.groups))

    @property
    def runs(self) -> list[RunData]:
        return [run for group in self.groups for run in group.runs]

    @property
    def unit(self) -> str:
        """What its runs are drawn over: all are of one kind."""
        return self.runs[0].unit

    @property
    def kinds(self) -> str:
        """What `environments` are."""
        return "environments" if self.unit == "steps" else "methods"

    def on(self, env: str) -> list[Group]:
        """The groups of an environment."""
        return [group for group in self.groups if group.env == env]

    def number(self, group: Group) -> int:
        """Which of the groups of its environment it is: what it is drawn as."""
        return self.on(group.env).index(group)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """A comparison on each environment."""
        return {
            env: comparison_rows([(g.words, [g.scores]) for g in self.on(env)]) for env in self.environments
        }


def study_of(runs: Sequence[RunData], reproduce: Reproduce = lambda runs: Rerun([], [])) -> Study:
    """Group the runs, in the order in which they were named, and compare the groups.

    reproduce  finds the commands that make runs again
    """
    together: dict[str, list[RunData]] = {}
    for run in runs:
        options = options_of(run.config)
        # Runs whose options are unknown cannot be said to be equal.
        key = json.dumps([run.env, options], sort_keys=True) if options else str(run.path)
        together.setdefault(key, []).append(run)
    sets = [part for members in together.values() for part in by_folder(members)]
    bare = [_group("", members, reproduce(members)) for members in sets]
    groups = [replace(group, label=label) for label, group in zip(labels(bare), bare, strict=True)]
    names = dict.fromkeys(name for group in groups for name in group.options)
    if runs and runs[0].unit == "iterations":  # two methods have other options anyway
        names = dict.fromkeys(name for group in groups for name in distinguishing_options(group, groups))
    values = {name: [option_text(group.options, name) for group in groups] for name in names}
    known = [index for index, group in enumerate(groups) if group.options]
    differing = {name: row for name, row in values.items() if len({row[index] for index in known}) > 1}
    return Study(groups, differing, _overall(groups), _notes(groups), datetime.now(UTC))


def _group(label: str, runs: list[RunData], rerun: Rerun) -> Group:
    preset = next((name for run in runs if (name := preset_of(run.config)) is not None), None)
    return Group(label, runs[0].env, runs, options_of(runs[0].config), preset, rerun)


SEED = r"[-_ ]?(seed|s)?[-_ ]?\d+$"
UNNAMED = r"-\d+-\d{8}-\d{6}(-\d+)?$"  # ENV-SEED-DATE, as a run is called where nobody calls it


def home(run: RunData) -> str:
    """What the user called the seeds that a run is one of: `mine` for mine/seed-0, mine-0 and mine."""
    above, name = run.path.absolute().parts[-2:] if len(run.path.absolute().parts) > 1 else ("", "")
    if re.search(UNNAMED, name):
        return above
    return re.sub(SEED, "", name, flags=re.IGNORECASE) or above


def by_folder(runs: list[RunData]) -> list[list[RunData]]:
    """Runs of equal options, apart where one seed is there more than once and the folders' names differ.

    Then something differs that no option says, such as the code of an environment.
    """
    homes: dict[str, list[RunData]] = {}
    for run in runs:
        homes.setdefault(home(run), []).append(run)
    seeds = [run.seed for run in runs]
    return [runs] if len(set(seeds)) == len(seeds) else list(homes.values())


def option_text(options: dict[str, Any], name: str) -> str:
    """An option's value as it is typed; a dash where it is not recorded."""
    return as_word(options[name]) if name in options else "-"


def distinguishing_options(group: Group, groups: Sequence[Group]) -> list[str]:
    """The options that are not the same in all groups of its environment and preset."""
    peers = [g for g in groups if (g.env, g.preset) == (group.env, group.preset) and g.options]
    names = dict.fromkeys(name for peer in peers for name in peer.options)
    return [name for name in names if len({option_text(peer.options, name) for peer in peers}) > 1]


def labels(groups: Sequence[Group]) -> list[str]:
    """A short name for each group: its environment, preset and options, as far as they tell groups apart."""
    if len(groups) == 1:
        return [groups[0].env]
    many_envs = len({group.env for group in groups}) > 1
    many_presets = len({group.preset for group in groups if group.options}) > 1
    found = []
    for group in groups:
        parts = [group.env] if many_envs else []
        parts += [group.preset] if many_presets and group.preset else []
        words = [
            f"{name} {option_text(group.options, name)}"
            for name in distinguishing_options(group, groups)
            if group.options
        ]
        parts += words[:MOST_WORDS] + (["..."] if len(words) > MOST_WORDS else [])
        found.append(", ".join(parts))
    counts = Counter(found)
    for index, label in enumerate(found):  # where options do not tell them apart, folders' names may
        if counts[label] > 1 or not label:
            own = home(groups[index].runs[0]) if groups[index].options else groups[index].runs[0].name
            found[index] = f"{label}, {own}" if label else own
    counts, seen = Counter(found), Counter[str]()
    for index, label in enumerate(found):
        if counts[label] > 1:
            seen[label] += 1
            found[index] = f"{label} ({seen[label]})"
    return found


def comparison_rows(settings: Sequence[tuple[str, Sequence[np.ndarray]]]) -> list[Row]:
    """A line for each (label, scores on each environment); the first is what the others are held against."""
    first = settings[0][1]
    rows = []
    for label, scores in settings:
        whole = all(len(sample) for sample in scores)
        against = whole and scores is not first and all(len(sample) for sample in first)
        middle = statistics.interquartile_mean(scores) if whole else None
        better = statistics.improvement(scores, first) if against else None
        mean, count = statistics.mean(scores) if whole else None, sum(map(len, scores))
        rows.append(Row(label, count, mean, middle, better))
    return rows


def _overall(groups: Sequence[Group]) -> list[Row]:
    """Settings over the environments that all of them share, two at least.

    A setting is a preset with a value of each option that tells groups of one environment and preset apart.
    On each environment 0 is the lowest score of any run here, and 1 the highest.
    """
    names = sorted({name for group in groups for name in distinguishing_options(group, groups)})
    settings: dict[str, dict[str, Group]] = {}
    for group in groups:
        if group.options and len(group.scores):
            key = json.dumps([group.preset, [option_text(group.options, name) for name in names]])
            if group.env in settings.get(key, {}):  # told apart by their folders alone
                key = json.dumps([key, home(group.runs[0])])
            settings.setdefault(key, {}).setdefault(group.env, group)
    if len(settings) < 2:
        return []
    first = next(iter(settings.values()))
    shared = [env for env in first if all(env in members for members in settings.values())]
    if len(shared) < 2:
        return []
    scale = {}
    for env in shared:
        every = np.concatenate([members[env].scores for members in settings.values()])
        scale[env] = (float(every.min()), float(np.ptp(every)) or 1.0)
    rows = []
    for members in settings.values():
        some = members[shared[0]]
        label = some.words if some.words != some.env else some.preset or some.env
        rows.append((label, [(members[env].scores - scale[env][0]) / scale[env][1] for env in shared]))
    return comparison_rows(rows)


def _notes(groups: Sequence[Group]) -> list[str]:
    """What makes numbers less sure than they look."""
    notes = []
    for group in groups:
        twice = sorted(seed for seed, count in Counter(group.seeds).items() if count > 1)
        if twice:
            notes.append(
                f"{group.label}: seed {', '.join(map(str, twice))} occurs more than once; equal seeds give "
                "equal runs, so the interval is narrower than it should be"
            )
        notes += group.rerun.reasons
    versions = [run.config.get("versions") for group in groups for run in group.runs if run.config]
    if any(other != versions[0] for other in versions):
        notes.append("The runs were made with different versions: see below.")
    return list(dict.fromkeys(notes))
