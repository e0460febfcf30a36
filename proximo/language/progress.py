"""The progress of a training run on the screen: the most important metrics."""

import contextlib
from collections.abc import Callable, Generator, Mapping

from proximo.language.train.job import Iteration
from proximo.runs import progress
from proximo.runs.progress import Facts

FACTS = {  # metric -> its name on the screen, the most important first
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
    rows: Generator[Iteration, None, None],
    title: str,
    total: int,
    enabled: bool,
    look: Callable[[Iteration], None] | None = None,
) -> Generator[Iteration, None, None]:
    """The same iterations, with a progress bar on standard error if `enabled`.

    total  iterations of the whole run
    look   a function that is called with every iteration first
    """
    if look is not None:
        rows = _looked_at(rows, look)

    def told(row: Iteration) -> Facts:
        return Facts(row.number, facts(row.metrics), row.tokens)

    return progress.with_progress(rows, told, title, total, enabled, ("iterations", "tokens"))


def _looked_at(
    rows: Generator[Iteration, None, None], look: Callable[[Iteration], None]
) -> Generator[Iteration, None, None]:
    with contextlib.closing(rows):
        for row in rows:
            look(row)
            yield row


def facts(metrics: Mapping[str, float]) -> str:
    """The most important metrics in a few words: `reward 0.412  KL 1.3`."""
    return "  ".join(f"{word} {metrics[name]:.4g}" for name, word in FACTS.items() if name in metrics)
