"""Continue an arithmetic sequence modulo 10: PPO alone trains a model with random weights.

    prompt  1 4 7 0     ->     3 6 9 2

There is no training text. The reward is the share of correct digits.

    python -m examples.language.digits
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from examples.language import new_folder, verdict, written
from proximo import language
from proximo.core import FixedKL
from proximo.language.text.tokenizer import character_tokenizer

SYMBOLS = "0123456789+-="  # 13, and 3 of the tokenizer's own
GIVEN, WANTED, MODULUS = 4, 4, 10


@dataclass(frozen=True)
class Options:
    """Train on sequences and report the share of correct digits."""

    out: Path = Path("runs/digits")
    """Output folder; must be new."""
    episodes: int = 25_000
    """Total responses to train on."""
    seed: int = 0
    """Random seed."""


def sequences() -> list[dict[str, str]]:
    """All sequences: every first digit with every step."""
    rows = []
    for first in range(MODULUS):
        for step in range(1, MODULUS):
            digits = [(first + step * place) % MODULUS for place in range(GIVEN + WANTED)]
            rows.append({"prompt": join(digits[:GIVEN]), "answer": join(digits[GIVEN:])})
    return rows


def join(digits: list[int]) -> str:
    """Digits as text."""
    return "".join(map(str, digits))


def share_right(completions: list[str], answer: list[str]) -> list[float]:
    """The reward: the share of correct digits, position by position."""
    return [
        sum(a == b for a, b in zip(text, right, strict=False)) / len(right)
        for text, right in zip(completions, answer, strict=True)
    ]


def main(options: Options) -> bool:
    """Train and evaluate. Returns whether the reward was reached in time."""
    started = time.perf_counter()
    tokenizer = character_tokenizer(SYMBOLS)
    base = new_folder(options.out / "base", tokenizer, layers=4, size=128, context=16)
    data = written(options.out / "sequences.jsonl", sequences())
    run = language.ppo(
        model=str(base),
        from_scratch=True,
        data=str(data),
        reward=share_right,
        response_length=WANTED,
        batch_size=256,
        minibatches=4,
        episodes=options.episodes,
        learning_rate=1e-3,
        kl=FixedKL(0.0),
        value_coefficient=0.5,
        entropy_coefficient=0.005,
        gae_lambda=0.5,
        seed=options.seed,
        out=options.out / "ppo",
    )
    seconds = time.perf_counter() - started
    rows = sequences()
    texts = language.load(run.folder).generate([row["prompt"] for row in rows], max_new_tokens=WANTED)
    reward = float(np.mean(share_right(texts, [row["answer"] for row in rows])))
    return verdict(
        options.out / "figures.json",
        {
            "reward (share of right digits; chance: 0.1)": (reward, "> 0.5", reward > 0.5),
            "minutes": (seconds / 60, "<= 5", seconds <= 300),
        },
    )


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
