"""The report's numbers for other programs: one JSON object, one tidy table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proximo.runs.report.groups import Group, Row, Study, option_text
from proximo.runs.report.read import STEP
from proximo.runs.sealed import writing
from proximo.runs.statistics import Estimate

COLUMNS = ("run", "group", "env", "seed", "step", "metric", "value")


def as_numbers(*studies: Study) -> dict[str, Any]:
    """What `report --json` prints, of all kinds of runs together."""
    found = [_numbers(study) for study in studies]
    lists = {name: [row for one in found for row in one[name]] for name in ("groups", "overall", "notes")}
    return {**lists, "differing": {name: row for one in found for name, row in one["differing"].items()}}


def _numbers(study: Study) -> dict[str, Any]:
    rows = {
        id(g): row
        for env in study.environments
        for g, row in zip(study.on(env), study.rows[env], strict=True)
    }
    return {
        "groups": [_group(study, group, rows[id(group)]) for group in study.groups],
        "differing": {
            name: dict(zip((group.label for group in study.groups), values, strict=True))
            for name, values in study.differing.items()
        },
        "overall": [{"label": row.label, **_row(row)} for row in study.overall],
        "notes": study.notes,
    }


def _group(study: Study, group: Group, row: Row) -> dict[str, Any]:
    return {
        "label": group.label,
        "env": group.env,
        "preset": group.preset,
        "command": group.command,
        "score": _estimate(group.score),
        **_row(row),
        "runs": [
            {
                "run": str(run.path),
                "seed": run.seed,
                "steps": run.steps,
                "score": run.score,
                "steps_per_second": run.last("time/fps"),
                "seconds": run.last("time/time_elapsed"),
                "state": run.state(study.made),
                "evaluation": run.evaluation,
                "problems": run.problems,
            }
            for run in group.runs
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    return {name: _estimate(getattr(row, name)) for name in ("mean", "interquartile_mean", "improvement")}


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate._asdict()


def table(study: Study) -> list[tuple[Any, ...]]:
    """Every metric of every run in long form: a row for each number, and first the names of the columns.

    Behind `COLUMNS` stands a column for each option that is not the same in all groups, by its name.
    """
    options = [name for name in study.differing if name not in COLUMNS]
    rows: list[tuple[Any, ...]] = [(*COLUMNS, *options)]
    for group in study.groups:
        values = [option_text(group.options, name) for name in options]
        for run in group.runs:
            first = (str(run.path), group.label, group.env, run.seed)
            rows += [
                (*first, f"{step:.0f}", metric, value, *values)
                for metric, series in run.metrics.items()
                for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True)
                if metric != STEP
            ]
    return rows


def write_table(studies: Sequence[Study], path: Path) -> int:
    """The tables of all studies as one CSV file; returns how many rows. Raises UserError.

    Where studies have other options, their columns are empty in the rows of the others.
    """
    tables = [table(study) for study in studies]
    names = list(dict.fromkeys(name for head, *_ in tables for name in head))
    rows = [
        [dict(zip(head, row, strict=True)).get(name, "") for name in names]
        for head, *body in tables
        for row in body
    ]
    with writing(path), path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([names, *rows])
    return len(rows)
