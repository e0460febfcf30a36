"""The report's numbers for other programs: one JSON object, one tidy table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proximo.runs.report.groups import Group, Row, Study
from proximo.runs.report.read import STEP, RunData
from proximo.runs.sealed import writing
from proximo.runs.statistics import Estimate

COLUMNS = ("run", "seed", "step", "metric", "value")


def as_numbers(study: Study) -> dict[str, Any]:
    """What `report --json` prints."""
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


def _estimate(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate._asdict()


def write_table(runs: Sequence[RunData], path: Path) -> int:
    """Every metric of every run as one tidy table; returns how many rows. Raises UserError."""
    rows = [
        (run.path, run.seed, f"{step:.0f}", metric, value)
        for run in runs
        for metric, series in run.metrics.items()
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True)
        if metric != STEP
    ]
    with writing(path), path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return len(rows)
