"""What the trainers of language models share: one iteration after the other, from wherever it stood.

A trainer says how to begin, what one iteration does to its state, and how the model is written; this
module, and `running`, do the rest alike for all of them:

    for iteration in training(trainer):
        print(iteration.number, iteration.metrics)
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from proximo.errors import UserError


class Outcome(NamedTuple):
    """What one iteration did.

    state        a tree of arrays: all that the next iteration needs, together with its number
    metrics      numbers, by TRL's names
    tokens       that went through the model
    completions  samples to look at, as rows of plain data; mostly none
    """

    state: Any
    metrics: dict[str, float]
    tokens: int
    completions: tuple[dict[str, Any], ...] = ()


class Trainer(Protocol):
    """An algorithm on its data. Its randomness comes from its seed and the iteration's number alone."""

    @property
    def total(self) -> int:
        """Iterations that the run has."""
        ...

    def begin(self) -> Any:
        """The state before the first iteration."""
        ...

    def iterate(self, state: Any, number: int) -> Outcome:
        """Iteration `number`, counted from 0."""
        ...

    def save(self, state: Any, folder: Path) -> None:
        """Write the trained model as a folder of the Hub's kind."""
        ...


class Iteration(NamedTuple):
    """A trainer after `number` of `total` iterations.

    tokens  that went through the model in all iterations since `training` was called
    """

    number: int
    total: int
    state: Any
    metrics: dict[str, float]
    tokens: int
    completions: tuple[dict[str, Any], ...]

    @property
    def steps(self) -> int:
        """What its metrics are drawn over."""
        return self.number

    @property
    def last(self) -> bool:
        """Whether the training has come to its end."""
        return self.number >= self.total


def training(trainer: Trainer, state: Any = None, number: int = 0) -> Iterator[Iteration]:
    """The trainer's iterations, from the beginning or from a state after `number` of them.

    Raises UserError when an iteration leaves the finite numbers; what was yielded before stays good.
    """
    state, tokens = trainer.begin() if state is None else state, 0
    while number < trainer.total:
        outcome = trainer.iterate(state, number)
        for name, value in outcome.metrics.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} in iteration {number + 1}: it is discarded; lower --learning-rate"
                )
        state, number, tokens = outcome.state, number + 1, tokens + outcome.tokens
        yield Iteration(number, trainer.total, state, outcome.metrics, tokens, outcome.completions)
