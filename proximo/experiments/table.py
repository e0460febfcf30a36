"""A grid's summary for people: tables of settings, environments and wins; on a terminal or in Markdown."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from proximo.experiments.summary import LAST, TRAINING

PIPE_WIDTH = 150  # without a terminal, lines are not broken


def show(summary: dict[str, Any]) -> None:
    """Print the tables and the notes on standard output."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for one in tables(summary):
        console.print(one)
    for line in notes(summary):
        console.print(line, highlight=False)


def markdown(summary: dict[str, Any]) -> str:
    """The tables and the notes as Markdown."""
    parts = []
    for table in tables(summary):
        columns = [list(column.cells) for column in table.columns]
        head = [str(column.header) for column in table.columns]
        rule = ["---", *["---:"] * (len(head) - 1)]
        lines = [head, rule, *zip(*columns, strict=True)]
        parts += [f"{table.title}:", "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(summary))])


def tables(summary: dict[str, Any]) -> list[Table]:
    """Settings and environments; and wins, where the grid counts them."""
    counted = [wins(summary)] if "wins" in summary else []
    return [settings(summary), environments(summary), *counted]


INTERVALS = "intervals: bootstrap over the runs of each environment; Student's t below five runs in all"
ESTIMATES = {"score": "score", "interquartile_mean": "IQM", "better_than_baseline": "P(> {baseline})"}


def settings(summary: dict[str, Any]) -> Table:
    """A row for each setting: published, ours with its interval, how likely it beats the baseline."""
    rows = summary["settings"]
    title = f"{summary['title']}: {summary['runs']} of {summary['of']} runs of {summary['steps']:,} steps"
    columns: list[tuple[str, list[str]]] = [("setting", [row["label"] for row in rows])]
    if any(row["published"] is not None for row in rows):
        columns.append(("published", [number(row["published"]) for row in rows]))
    for name, label in list(ESTIMATES.items())[: 3 if len(rows) > 1 else 2]:
        values = [row[name] for row in rows]
        columns.append((label.format_map(summary), [number(one[0] if one else None) for one in values]))
        columns.append(("95% interval", [interval(one) for one in values]))
    if any(row["best_moment"] is not None for row in rows):
        columns.append(("best moment", [number(row["best_moment"]) for row in rows]))
    columns.append(("runs", [runs(row) for row in rows]))
    table = Table(title=title, title_justify="left")
    for position, (head, _) in enumerate(columns):
        table.add_column(head, justify="right" if position else "left")
    for cells in zip(*(column for _, column in columns), strict=True):
        table.add_row(*cells)
    return table


def environments(summary: dict[str, Any]) -> Table:
    """Mean raw scores, a column for each environment; published ones in brackets."""
    by_env = summary["environments"]
    table = Table(title="mean raw return of the last 100 episodes (published)", title_justify="left")
    table.add_column("setting")
    for env in by_env:
        table.add_column(env, justify="right", overflow="fold")
    for row in summary["settings"]:
        cells = [content["settings"][row["setting"]] for content in by_env.values()]
        table.add_row(row["label"], *[_raw(cell) for cell in cells])
    for row in summary["settings"] if "wins" in summary else ():
        means = [of_env[row["label"]] for of_env in summary["over_training"].values()]
        table.add_row(f"{row['label']}, all of training", *[raw_number(mean) for mean in means])
    for name, scores in summary.get("beside", {}).items():
        table.add_row(name, *[raw_number(scores[env]["published"]) for env in by_env])
    table.add_section()
    for name, label in (("zero", "counts as 0"), ("one", "counts as 1")):
        table.add_row(label, *[raw_number(content[name]) for content in by_env.values()])
    return table


def wins(summary: dict[str, Any]) -> Table:
    """How many environments each setting won under both measures; published ones in brackets."""
    by_measure = summary["wins"]
    count = len(summary["environments"])
    title = f"of {count} environments, won by the mean return (published); open: a setting has no run there"
    table = Table(title=title, title_justify="left")
    table.add_column("setting")
    for head in ("over all of training", "over the last 100 episodes"):
        table.add_column(head, justify="right")
    for label in by_measure[LAST]:
        table.add_row(label, *[_count(by_measure[measure][label]) for measure in (TRAINING, LAST)])
    return table


def _count(cell: dict[str, Any]) -> str:
    ours = "-" if cell["won"] is None else f"{cell['won']}"
    return ours if cell["published"] is None else f"{ours} ({cell['published']})"


def notes(summary: dict[str, Any]) -> list[str]:
    """What scores of 0 and 1 are, where published numbers come from (each once), how intervals are made."""
    by_env = summary["environments"].values()
    cells = [cell for content in by_env for cell in content["settings"].values()]
    cells += [cell for scores in summary.get("beside", {}).values() for cell in scores.values()]
    cells += [cell for rows in summary.get("wins", {}).values() for cell in rows.values()]
    sources = [row["source"] for row in [*summary["settings"], *cells] if row["source"]]
    scales = [f"score: {content['scale']}" for content in by_env]
    return list(dict.fromkeys([*scales, *(f"published: {source}" for source in sources), INTERVALS]))


def number(value: float | None) -> str:
    """A normalised score or a probability."""
    return "-" if value is None else f"{value:.2f}"


def raw_number(value: float | None) -> str:
    """A raw score, with digits where it is small."""
    return "-" if value is None else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def interval(estimate: list[float | None] | None) -> str:
    """The bounds, where there are any."""
    if estimate is None or estimate[1] is None:
        return "-"
    return f"{estimate[1]:.2f} to {estimate[2]:.2f}"


def runs(row: dict[str, Any]) -> str:
    """How many runs are there, of how many; and how many of them diverged."""
    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    return (f"{row['runs']}" if row["runs"] == row["of"] else f"{row['runs']} of {row['of']}") + diverged


def _raw(cell: dict[str, Any]) -> str:
    published = "" if cell["published"] is None else f" ({raw_number(cell['published'])})"
    return raw_number(cell["mean"]) + published
