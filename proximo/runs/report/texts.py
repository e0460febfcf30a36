"""What only runs of language models have: curves of rewards and answers, and samples of these."""

from collections.abc import Iterator
from typing import Any

from proximo.runs.report.charts import Line, plot
from proximo.runs.report.curves import series_of, with_range
from proximo.runs.report.figures import figure, keys_of
from proximo.runs.report.groups import Study
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.read import RunData
from proximo.runs.report.tables import table

# A metric -> its caption and what to look for, in the order of the page.
TOLD = {
    "objective/scores": ("Reward", "Mean reward of an iteration's answers: it should rise, then stay."),
    "objective/kl": (
        "KL divergence from the reference",
        "Nats per answer. The further the policy moves away, the less its rewards can be trusted.",
    ),
    "val/length": ("Response length", "Tokens per answer, including the end token."),
    "val/finished": (
        "Share of responses that end",
        "The others were truncated at the limit. If it falls, the policy no longer ends its answers.",
    ),
    "policy/entropy_avg": (
        "Entropy",
        "Of the distribution of each token, in nats. Near 0 the policy gives one answer to everything.",
    ),
    "val/distinct": (
        "Share of distinct responses",
        "Different texts among an iteration's answers: near 0 the policy has collapsed.",
    ),
    "loss": ("Loss", "In nats: it should fall."),
    "eval_loss": ("Held-out loss", "If it rises while the loss falls, the data are being memorised."),
    "mean_token_accuracy": ("Token accuracy", "How often the most likely token is the one in the data."),
    "accuracy": ("Accuracy", "How often the preferred answer scores higher."),
    "eval_accuracy": ("Held-out accuracy", "The same, on held-out pairs."),
    "rewards/accuracies": ("Accuracy", "How often the preferred answer has become the likelier one."),
    "rewards/margins": ("Margin", "Implicit reward of the preferred answer less that of the other."),
    "entropy": ("Entropy", "Of the next token's distribution, in nats."),
}
SOURCE = "rewards/"
NO_SOURCE = (
    "rewards/std",
    *TOLD,
    "rewards/chosen",
    "rewards/rejected",
)  # other things
SHOWN = 4  # samples of an iteration
LONGEST = 600  # characters of a text on the page


def told(names: list[str]) -> dict[str, tuple[str, str]]:
    """The large charts of some metrics, in their order."""
    sources = {
        name: (f"Reward from {name.removeprefix(SOURCE)}", "Mean reward from this source.")
        for name in names
        if name.startswith(SOURCE) and name not in NO_SOURCE and "objective/scores" in names
    }
    found: dict[str, tuple[str, str]] = {}
    for name, words in TOLD.items():
        found |= {name: words} if name in names else {}
        found |= sources if name == "objective/scores" else {}
    return found


def learning(study: Study) -> Iterator[Markup]:
    """Rewards by source, KL, length, ends and entropy over the iterations; losses of what is labelled."""
    for env in study.environments:
        groups, charts = study.on(env), []
        names = list(dict.fromkeys(name for g in groups for run in g.runs for name in run.metrics))
        for metric, (caption, hint) in told(names).items():
            having = [(n, group) for n, group in enumerate(groups) if series_of(group.runs, metric)]
            lines = [Line(with_range(series_of(g.runs, metric)), n, g.words) for n, g in having]
            charts.append(figure(tag("b", caption), plot(lines, f"{env}: {caption}", large=True), hint=hint))
        many = len(study.environments) > 1
        pair = tag("div", *charts, class_="pair")
        yield join(tag("h3", env) if many else None, keys_of(groups), pair)


def samples(study: Study) -> Iterator[Markup]:
    """What a run's answers were at the beginning, in the middle and at the end, with their scores."""
    runs = [run for run in study.runs if run.samples]
    for run in runs:
        steps = sorted({int(row["step"]) for row in run.samples})
        chosen = dict.fromkeys((steps[0], steps[(len(steps) - 1) // 2], steps[-1]))
        rows = [row for step in chosen for row in _of_step(run, step)]
        heading = tag("h3", run.name) if len(runs) > 1 else None
        yield join(heading, table(["iteration", "prompt", "answer", "score"], rows, "samples"))


def _of_step(run: RunData, step: int) -> list[tuple[object, ...]]:
    found = [row for row in run.samples if int(row["step"]) == step][:SHOWN]
    return [
        (f"{step:,}", text(row.get("prompt")), text(row.get("completion")), _scores(row)) for row in found
    ]


def _scores(row: dict[str, Any]) -> Markup:
    """The score, and below it what each source says where there are several."""
    parts = {name.removeprefix(SOURCE): value for name, value in row.items() if name.startswith(SOURCE)}
    lines = [f"{name} {_number(value)}" for name, value in parts.items()] if len(parts) > 1 else []
    ended = [] if row.get("finished", True) else ["cut at the limit"]
    return join(tag("b", _number(row.get("score"))), *(tag("small", line) for line in [*lines, *ended]))


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "no score"


def text(content: Any) -> str:
    """A prompt or an answer as a person reads it; of a conversation the messages."""
    if isinstance(content, list):
        said = [one for one in content if isinstance(one, dict)]
        content = "\n".join(f"{one.get('role')}: {one.get('content')}" for one in said)
    whole = str(content if content is not None else "")
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} ..."
