"""What a person sees while a language model trains: a bar on a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Generator, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from proximo.errors import say
from proximo.language.train.job import Iteration
from proximo.runs.progress import shown_while_possible

LINE_SECONDS = 5.0
FACTS = {  # metric -> what it is called on the screen, most telling first
    "objective/scores": "reward",
    "objective/kl": "KL",
    "loss": "loss",
    "mean_token_accuracy": "accuracy",
    "accuracy": "accuracy",
    "rewards/accuracies": "accuracy",
    "eval_accuracy": "held-out accuracy",
    "eval_loss": "held-out loss",
}


def shown(
    rows: Iterator[Iteration], name: str, total: int, enabled: bool
) -> Generator[Iteration, None, None]:
    """The same iterations, with their progress on standard error if `enabled`.

    name   of the bar
    total  iterations of the whole run
    """
    if not enabled or sys.stderr is None:
        yield from rows
    elif sys.stderr.isatty():
        yield from _bar(rows, name, total)
    else:
        yield from _lines(rows, total)


def facts(metrics: Mapping[str, float]) -> str:
    """The metrics that tell how it goes, in a few words: `reward 0.412  KL 1.3`."""
    return "  ".join(f"{word} {metrics[name]:.4g}" for name, word in FACTS.items() if name in metrics)


class _Rate:
    """Tokens per second since the first iteration was there: before it, JAX compiles."""

    def __init__(self) -> None:
        self.started, self.tokens = 0.0, -1

    def __call__(self, row: Iteration) -> str:
        now = time.perf_counter()
        if self.tokens < 0:
            self.started, self.tokens = now, 0
            return ""
        self.tokens += row.tokens
        return f"  {self.tokens / max(now - self.started, 1e-9):,.0f} tokens/s"


def _bar(rows: Iterator[Iteration], name: str, total: int) -> Iterator[Iteration]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}  {task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    rate = _Rate()
    with shown_while_possible(Bar(*columns, console=Console(stderr=True), refresh_per_second=4)) as progress:
        task = progress.add_task(name, total=total, facts="compiling")
        for row in rows:
            progress.update(task, completed=row.number, facts=facts(row.metrics) + rate(row))
            yield row


def _lines(rows: Iterator[Iteration], total: int) -> Iterator[Iteration]:
    started = printed = time.perf_counter()
    first, rate = -1, _Rate()  # iterations that were done before
    for row in rows:
        first, speed = (row.number - 1 if first < 0 else first), rate(row)
        if time.perf_counter() - printed > LINE_SECONDS:
            printed = time.perf_counter()
            left = (total - row.number) * (printed - started) / (row.number - first)
            line = f"{row.number:,}/{total:,}  {facts(row.metrics)}{speed}  {left:.0f} s left"
            say(line)
        yield row
