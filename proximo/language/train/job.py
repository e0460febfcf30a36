"""What the trainers of language models share: iterations, from the start or from a checkpoint.

A trainer defines the initial state, one iteration, and how the model is written. This module and `running` do
the rest, in the same way for all trainers:

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
    """The result of one iteration."""

    state: Any  # a tree of arrays: everything the next iteration needs besides its number
    metrics: dict[str, float]  # with TRL's names
    tokens: int  # that went through the model
    completions: tuple[dict[str, Any], ...] = ()  # samples to log, as rows of plain data; often none


class Trainer(Protocol):
    """An algorithm with its data. Its randomness depends on its seed and the iteration's number only."""

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on how data and model were read, a line each."""
        ...

    def begin(self) -> Any:
        """The initial state."""
        ...

    def iterate(self, state: Any, number: int) -> Outcome:
        """Iteration `number`, counted from 0."""
        ...

    def save(self, state: Any, folder: Path) -> None:
        """Write the trained model as a folder in the Hub's format."""
        ...


class Iteration(NamedTuple):
    """The result of a training after `number` of `total` iterations."""

    number: int
    total: int
    state: Any
    metrics: dict[str, float]
    tokens: int  # that went through the model in all iterations since `training` was called
    completions: tuple[dict[str, Any], ...]

    @property
    def steps(self) -> int:
        """The x axis of its metrics."""
        return self.number

    @property
    def last(self) -> bool:
        """Whether the training is finished."""
        return self.number >= self.total


def training(
    trainer: Trainer, state: Any = None, number: int = 0, mesh: Mesh | None = None
) -> Iterator[Iteration]:
    """The trainer's iterations, from the start or from a state after `number` of them.

    mesh  devices to run on, if several: the state is distributed over them, also from a checkpoint

    Raises UpdateDiverged if an iteration gives NaN or infinity; earlier iterations stay valid.
    """
    state, tokens = trainer.begin() if state is None else state, 0
    while number < trainer.total:
        with on_mesh(mesh):
            outcome = trainer.iterate(shard(state, mesh), number)
        for name, value in outcome.metrics.items():
            if not math.isfinite(value):
                raise UpdateDiverged(
                    f"{name} is {value} in iteration {number + 1}, which is discarded: lower --learning-rate",
                    None,
                )
        state, number, tokens = outcome.state, number + 1, tokens + outcome.tokens
        yield Iteration(number, trainer.total, state, outcome.metrics, tokens, outcome.completions)
