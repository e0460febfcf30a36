"""Sampled answers, token by token: how likely each was, what it paid and what it earned."""

from collections.abc import Sequence

import numpy as np

from proximo.runs.report.charts import short
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.tables import table
from proximo.runs.report.texts import text

COLUMNS = ("log p", "of the reference", "KL paid", "reward", "advantage", "log p after")
MEANING = (
    "log p: of the token under the policy that sampled it, in nats. KL paid: what the penalty took from its "
    "reward. Reward: the answer's score at its last token, less that. log p after: under the policy that the "
    "update has made."
)
Answer = tuple[object, float, Sequence[str], Sequence[np.ndarray]]


def answers(rows: Sequence[Answer]) -> Markup:
    """A section with a table for each answer.

    rows  (prompt, score, its tokens as text, the numbers of `COLUMNS`, each [tokens])
    """
    parts = []
    for prompt, score, words, columns in rows:
        body = [
            (tag("code", repr(word)[1:-1]), *(short(float(column[place])) for column in columns))
            for place, word in enumerate(words)
        ]
        parts.append(tag("h3", f"{text(prompt)}: score {'none' if np.isnan(score) else short(score)}"))
        parts.append(table(("token", *COLUMNS), body, class_="compare"))
    return tag("section", tag("h2", "Sampled answers"), tag("p", MEANING, class_="hint"), join(*parts))
