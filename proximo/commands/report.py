"""`proximo report RUN...`: an HTML report of one or more runs."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from proximo.arguments import Shown, parse_words
from proximo.core.ranges import between
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

    live: bool = False
    """Serve the report to this machine alone, and follow runs that are still training. Ctrl-C ends it."""
    port: Annotated[int, between(0, 65535)] = 8021
    """With --live: the port on this machine. 0 takes any that is free."""


read = partial(parse_words, Report, "report")


def run(arguments: Report) -> int:
    """Report; returns the exit status."""
    from proximo.runs.report import as_numbers, page, write_table
    from proximo.runs.sealed import writing

    if not arguments.runs:
        raise UserError("name a run folder, or several: proximo report runs/CartPole-v1-0-...")
    if arguments.live:
        return follow(arguments)
    studies = studied(arguments.runs)
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


def studied(places: Sequence[Path]) -> "list[Study]":
    """What there is to report of the runs in these places, those of control first."""
    from proximo.rerun import language_commands, policy_commands
    from proximo.runs.report import find_runs, read_run, study_of

    found = [read_run(path) for path in find_runs(places)]
    kinds = {"steps": policy_commands, "iterations": language_commands}
    parts = {unit: [run for run in found if run.unit == unit] for unit in kinds}
    return [study_of(runs, kinds[unit]) for unit, runs in parts.items() if runs]


def follow(arguments: Report) -> int:
    """Serve the report until it is interrupted; returns the exit status."""
    from proximo.runs.files import METRICS
    from proximo.runs.report import find_runs, page
    from proximo.runs.report.live import LiveReport

    if arguments.out is not None or arguments.csv is not None:
        raise UserError("--live writes no file: leave out --out and --csv, or --live")

    def logs() -> list[Path]:
        return [path / METRICS for path in find_runs(arguments.runs)]

    logs()  # a mistake is told before anything is served
    report = LiveReport(lambda: page(*studied(arguments.runs)), logs, arguments.port)
    print(json.dumps({"url": report.url}) if arguments.json else f"report: {report.url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        report.serve()
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
