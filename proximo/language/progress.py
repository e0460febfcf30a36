"""What a person sees while a language model trains: the metrics that tell how it goes."""

from collections.abc import Generator, Mapping

from proximo.language.train.job import Iteration
from proximo.runs import progress
from proximo.runs.progress import Facts

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
    rows: Generator[Iteration, None, None], title: str, total: int, enabled: bool
) -> Generator[Iteration, None, None]:
    """The same iterations, with their progress on standard error if `enabled`.

    total  iterations of the whole run
    """

    def told(row: Iteration) -> Facts:
        return Facts(row.number, facts(row.metrics), row.tokens)

    return progress.with_progress(rows, told, title, total, enabled, ("iterations", "tokens"))


def facts(metrics: Mapping[str, float]) -> str:
    """The metrics that tell how it goes, in a few words: `reward 0.412  KL 1.3`."""
    return "  ".join(f"{word} {metrics[name]:.4g}" for name, word in FACTS.items() if name in metrics)
