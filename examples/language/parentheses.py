"""Close all open brackets, the last one first, and stop: PPO learns when an answer ends.

    prompt  ([(     ->     )])  and the end token

A longer answer is cut off at the limit. It then has no end token, which costs a penalty
(`missing_eos_penalty`), as does every additional symbol. There is no training text.

    python -m examples.language.parentheses
"""

import itertools
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

PAIRS = {"(": ")", "[": "]"}
DEEPEST, LIMIT = 4, 8  # maximum open brackets, and maximum symbols of an answer
TOO_MANY = 0.2  # cost of each additional symbol


@dataclass(frozen=True)
class Options:
    """Train on open brackets and report the share of answers that are correct and end."""

    out: Path = Path("runs/parentheses")
    """Output folder; must be new."""
    episodes: int = 30_000
    """Total responses to train on."""
    seed: int = 0
    """Random seed."""


def open_brackets() -> list[str]:
    """All prompts: 2 of depth 1, 4 of depth 2, 8 of depth 3, 16 of depth 4."""
    depths = range(1, DEEPEST + 1)
    return ["".join(opened) for depth in depths for opened in itertools.product(PAIRS, repeat=depth)]


def closing(prompt: str) -> str:
    """The answer: `([` is closed by `])`."""
    return "".join(PAIRS[symbol] for symbol in reversed(prompt))


def closed(prompts: list[str], completions: list[str], **columns: object) -> list[float]:
    """The reward: the share of brackets closed before the first mistake, minus a cost of more symbols."""
    return [_closed(closing(prompt), text) for prompt, text in zip(prompts, completions, strict=True)]


def _closed(right: str, text: str) -> float:
    pairs = zip(right, text, strict=False)
    good = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(right), len(text)))
    return good / len(right) - TOO_MANY * (len(text) - good)


def main(options: Options) -> bool:
    """Train and evaluate. Returns whether the share was reached in time."""
    started = time.perf_counter()
    tokenizer = character_tokenizer("".join([*PAIRS, *PAIRS.values()]))
    base = new_folder(options.out / "base", tokenizer, layers=2, size=64, context=16)
    data = written(options.out / "brackets.jsonl", [{"prompt": prompt} for prompt in open_brackets()])
    run = language.ppo(
        model=base,
        from_scratch=True,
        data=data,
        reward=closed,
        missing_eos_penalty=1.0,
        response_length=LIMIT,
        batch_size=256,
        minibatches=4,
        episodes=options.episodes,
        learning_rate=1e-3,
        kl=FixedKL(0.0),
        value_coefficient=0.5,
        entropy_coefficient=0.005,
        seed=options.seed,
        out=options.out / "ppo",
    )
    seconds = time.perf_counter() - started
    prompts = open_brackets()
    texts = language.load(run.folder).generate(prompts, max_new_tokens=LIMIT)
    right = float(np.mean([text == closing(prompt) for prompt, text in zip(prompts, texts, strict=True)]))
    length = float(np.mean([len(text) for text in texts]))
    wanted = float(np.mean([len(prompt) for prompt in prompts]))
    return verdict(
        options.out / "figures.json",
        {
            "share of answers that are right and end": (right, "> 0.9", right > 0.9),
            f"their mean length (right: {wanted:.2f})": (length, "within 0.2", abs(length - wanted) < 0.2),
            "minutes": (seconds / 60, "<= 5", seconds <= 300),
        },
    )


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
