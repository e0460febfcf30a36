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

from jax.sharding import Mesh

from proximo.errors import UpdateDiverged
from proximo.language.model.sharding import shard
from proximo.learn.mesh import on_mesh


class Outcome(NamedTuple):
    """What one iteration did."""

    state: Any  # a tree of arrays: all that the next iteration needs, together with its number
    metrics: dict[str, float]  # numbers, by TRL's names
    tokens: int  # that went through the model
    completions: tuple[dict[str, Any], ...] = ()  # samples to look at, as rows of plain data; mostly none


class Trainer(Protocol):
    """An algorithm on its data. Its randomness comes from its seed and the iteration's number alone."""

    @property
    def total(self) -> int:
        """Iterations that the run has."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how data and model were read, a line each."""
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
    """A trainer after `number` of `total` iterations."""

    number: int
    total: int
    state: Any
    metrics: dict[str, float]
    tokens: int  # that went through the model in all iterations since `training` was called
    completions: tuple[dict[str, Any], ...]

    @property
    def steps(self) -> int:
        """What its metrics are drawn over."""
        return self.number

    @property
    def last(self) -> bool:
        """Whether the training has come to its end."""
        return self.number >= self.total


def training(
    trainer: Trainer, state: Any = None, number: int = 0, mesh: Mesh | None = None
) -> Iterator[Iteration]:
    """The trainer's iterations, from the beginning or from a state after `number` of them.

    mesh  of several devices: iterations run there, and the state is laid out, from a checkpoint too

    Raises UpdateDiverged when an iteration leaves the finite numbers; what was yielded before stays good.
    """
    state, tokens = trainer.begin() if state is None else state, 0
    while number < trainer.total:
        with on_mesh(mesh):
            outcome = trainer.iterate(shard(state, mesh), number)
        for name, value in outcome.metrics.items():
            if not math.isfinite(value):
                raise UpdateDiverged(
                    f"{name} is {value} in iteration {number + 1}: it is discarded; lower --learning-rate",
                    None,
                )
        state, number, tokens = outcome.state, number + 1, tokens + outcome.tokens
        yield Iteration(number, trainer.total, state, outcome.metrics, tokens, outcome.completions)
