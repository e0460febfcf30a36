"""`proximo report RUN...`: an HTML report of one or more runs."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from proximo.arguments import Shown, parse_words
from proximo.errors import UserError
from proximo.paths import absolute, short

if TYPE_CHECKING:
    from proximo.runs.report import Study


@dataclass(frozen=True)
class Report(Shown):
    """Write a report of runs, of control or of language models: one self-contained HTML file."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders, or folders that contain run folders. Runs that differ only in the seed form a group."""
    out: Path | None = None
    """The HTML file. By default report.html in the folder that you name, or in the current folder if you name
    several."""
    csv: Path | None = None
    """Also write every metric to a CSV file, a row per number. Columns: run, group, env, seed, step, metric,
    value, and each option that differs between groups (`pandas.read_csv(...).groupby(["group", "step"])`)."""


read = partial(parse_words, Report, "report")


def run(arguments: Report) -> int:
    """Report; returns the exit status."""
    from proximo.rerun import language_commands, policy_commands
    from proximo.runs.report import as_numbers, find_runs, page, read_run, study_of, write_table
    from proximo.runs.sealed import writing

    if not arguments.runs:
        raise UserError("name a run folder, or several: proximo report runs/CartPole-v1-0-...")
    found = [read_run(path) for path in find_runs(arguments.runs)]
    kinds = {"steps": policy_commands, "iterations": language_commands}
    parts = {unit: [run for run in found if run.unit == unit] for unit in kinds}
    studies = [study_of(runs, kinds[unit]) for unit, runs in parts.items() if runs]
    place = arguments.runs[0] if len(arguments.runs) == 1 else absolute("")
    out = short(arguments.out or place / "report.html")
    table = short(arguments.csv) if arguments.csv else None
    with writing(out):
        out.write_text(page(*studies), encoding="utf-8", errors="replace")
    rows = write_table(studies, table) if table else 0
    if arguments.json:
        written = {"report": str(out), "csv": None if table is None else str(table)}
        print(json.dumps({**written, **as_numbers(*studies)}))
        return 0
    for study in studies:
        show(study)
    if table:
        print(f"table: {table}, {rows:,} rows")
    print(f"report: {out}")
    return 0


def show(study: "Study") -> None:
    """Print a line for each group: its score and interval."""
    text = "{:,.1f}".format if study.unit == "steps" else "{:.4g}".format
    for group in study.groups:
        if (score := group.score) is not None:
            sure = f" ({score.interval(text)})" if score.low is not None else ""
            label = "".join(letter if letter.isprintable() else "?" for letter in group.label)  # from a file
            runs = "1 run" if len(group.runs) == 1 else f"{len(group.runs)} runs"
            of = "" if study.unit == "steps" else f" {group.runs[0].score_of}"
            print(f"{text(score.value):>12}{of}  {label}: {runs}{sure}")
