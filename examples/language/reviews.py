"""A small language of film reviews with known scores: the gold score of the sentiment example."""

from collections import Counter

import numpy as np

SUBJECTS = ("film", "story", "music", "cast", "script", "ending")
WORTH = {
    "brilliant": 2.0,
    "lovely": 1.5,
    "good": 1.0,
    "fine": 0.5,
    "long": 0.0,
    "quiet": 0.0,
    "strange": 0.0,
    "slow": -0.5,
    "bad": -1.0,
    "boring": -1.5,
    "awful": -2.0,
}
TIMES = {"very": 1.5, "rather": 0.7, "hardly": -0.3, "not": -0.7}
LINKS = ("and", "but", "while")
WORDS = ("the", "was", ".", *SUBJECTS, *WORTH, *TIMES, *LINKS)
CLAUSES, ADVERB = 3, 0.4  # maximum clauses of a review; probability of an adverb
LONGEST = 6 * CLAUSES + 1


def review(draw: np.random.Generator) -> tuple[str, str]:
    """A random review, as prompt and completion: `the film was` and the rest."""
    words: list[str] = []
    for clause in range(int(draw.integers(1, CLAUSES + 1))):
        words += [str(draw.choice(LINKS))] if clause else []
        words += ["the", str(draw.choice(SUBJECTS)), "was"]
        words += [str(draw.choice(list(TIMES)))] if draw.random() < ADVERB else []
        words += [str(draw.choice(list(WORTH)))]
    return " ".join(words[:3]), " ".join([*words[3:], "."])


def gold(completions: list[str], **columns: object) -> list[float]:
    """The gold scores of reviews.

    Each adjective counts its value times its adverb's factor. A repeated adjective counts half of this,
    minus 1. An adjective or adverb outside a clause costs 0.5. So a review that only repeats `brilliant`
    scores low.
    """
    return [_gold(text.split()) for text in completions]


def _gold(words: list[str]) -> float:
    seen: Counter[str] = Counter()
    total, before = 0.0, "was"
    for word in words:
        if word in WORTH:
            value = WORTH[word] * TIMES.get(before, 1.0)
            total += value if not seen[word] else 0.5 * value - 1.0
            total -= 0.5 * (before != "was" and before not in TIMES)
            seen[word] += 1
        elif word in TIMES:
            total -= 0.5 * (before != "was")
        before = word
    return total


def preferred(texts: list[str], others: list[str], draw: np.random.Generator) -> list[bool]:
    """Whether the first of two reviews is preferred: a random Bradley-Terry choice by the gold scores."""
    difference = np.subtract(gold(texts), gold(others))
    return list(draw.random(len(texts)) < 1.0 / (1.0 + np.exp(-difference)))
