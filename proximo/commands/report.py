"""`proximo report RUN...`: one page about one run or many."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from proximo.arguments import Shown, parse_words
from proximo.errors import UserError


@dataclass(frozen=True)
class Report(Shown):
    """A page with curves, comparisons and options of runs: one HTML file that needs nothing else."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that hold some; seeds of equal configuration are put together."""
    out: Path | None = None
    """The page; `report.html` in the folder that was named, or here where several were."""
    csv: Path | None = None
    """Write the metrics of all runs as one table as well: run, seed, step, metric, value."""


read = partial(parse_words, Report, "report")


def run(arguments: Report) -> int:
    """Report; returns the exit status."""
    from proximo.runs.report import as_numbers, find_runs, page, read_run, study_of, write_table
    from proximo.runs.sealed import writing

    if not arguments.runs:
        raise UserError("name a run folder, or several: proximo report runs/CartPole-v1-0-...")
    study = study_of([read_run(path) for path in find_runs(arguments.runs)])
    out = arguments.out or (arguments.runs[0] if len(arguments.runs) == 1 else Path()) / "report.html"
    with writing(out):
        out.write_text(page(study), encoding="utf-8", errors="replace")
    rows = write_table(study.runs, arguments.csv) if arguments.csv else 0
    if arguments.json:
        table = str(arguments.csv) if arguments.csv else None
        print(json.dumps({"report": str(out), "csv": table, **as_numbers(study)}))
        return 0
    for group in study.groups:
        score = group.score
        if score is not None:
            sure = f" (95% interval {score.low:,.1f} to {score.high:,.1f})" if score.low is not None else ""
            label = "".join(letter if letter.isprintable() else "?" for letter in group.label)  # from a file
            runs = "1 run" if len(group.runs) == 1 else f"{len(group.runs)} runs"
            print(f"{score.value:12,.1f}  {label}: {runs}{sure}")
    if arguments.csv:
        print(f"table: {arguments.csv}, {rows:,} rows")
    print(f"report: {out}")
    return 0
