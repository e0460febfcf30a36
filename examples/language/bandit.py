"""One token, one state: the exact solution of PPO with a KL penalty is known.

    maximise  E[r(token)] - beta KL(pi || ref)     has the solution     pi = ref exp(r / beta) / Z

A model with one layer answers one prompt with one token. Its distribution after training is compared with
the solution. This checks reward, KL penalty, advantage and update end to end.

    python -m examples.language.bandit
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from examples.language import new_folder, verdict, written
from proximo import language
from proximo.core import FixedKL
from proximo.language.text.tokenizer import character_tokenizer

WORTH = {"a": 1.0, "b": 0.6, "c": 0.3, "d": 0.0, "e": -0.5}  # the other tokens are worth nothing
BETA = 0.3


@dataclass(frozen=True)
class Options:
    """Train the bandit and compare it with the exact solution."""

    out: Path = Path("runs/bandit")
    """Output folder; must be new."""
    iterations: int = 150
    """Training iterations of 512 responses each."""


def worth(completions: list[str], **columns: object) -> list[float]:
    """The reward: the value of the letter."""
    return [WORTH.get(text, 0.0) for text in completions]


def distribution(folder: Path) -> np.ndarray:
    """A model's probabilities of all tokens after the prompt."""
    model = language.load(folder)
    logits = model.logits(np.array([[*model.tokenizer.start_ids, *model.tokenizer.encode("q")]]))[
        0, -1
    ].astype(np.float64)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def main(options: Options) -> bool:
    """Train and compare. Returns whether the two agree."""
    tokenizer = character_tokenizer("qabcde")
    # A wide initialisation makes a reference that prefers some letters to others.
    shape = dict(layers=1, size=32, context=8, initializer_range=0.15)
    base = new_folder(options.out / "base", tokenizer, **shape)
    data = written(options.out / "prompts.jsonl", [{"prompt": "q"}])
    common = dict(data=str(data), reward=worth, response_length=1, batch_size=512, schedule="linear")
    before = language.ppo(
        model=str(base),
        from_scratch=True,
        episodes=512,
        learning_rate=0.0,
        out=options.out / "before",
        **common,
    )
    after = language.ppo(
        model=str(before.folder),
        episodes=512 * options.iterations,
        learning_rate=3e-3,
        kl=FixedKL(BETA),
        out=options.out / "after",
        **common,
    )
    reference = distribution(before.folder)
    values = np.array([WORTH.get(tokenizer.token(i), 0.0) for i in range(tokenizer.vocab_size)])
    solution = reference * np.exp(values / BETA)
    solution /= solution.sum()
    learned = distribution(after.folder)
    for i in range(tokenizer.vocab_size):
        numbers = f"ref {reference[i]:.3f}  solution {solution[i]:.3f}  PPO {learned[i]:.3f}"
        print(f"{tokenizer.token(i):>6}  {numbers}")
    distance = 0.5 * np.abs(learned - solution).sum()
    moved = 0.5 * np.abs(reference - solution).sum()
    return verdict(
        options.out / "figures.json",
        {
            "total variation, reference to solution": (moved, "> 0.1", moved > 0.1),
            "total variation, PPO to solution": (distance, "<= 0.02", distance <= 0.02),
        },
    )


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
