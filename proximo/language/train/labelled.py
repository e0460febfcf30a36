"""Training on labelled data: the trainer of fine-tuning, reward models and DPO.

They differ in the loss (`Loss`), in how data become rows (`Rows`), and in how the model is written. Epochs,
steps, evaluation on held-out data and logging are shared.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from proximo.core import Scalar
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.files.loading import combine, partition_trainable
from proximo.language.model.compiling import jit
from proximo.language.text.packing import batch_indices
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.job import Outcome
from proximo.language.train.optimise import (
    Learner,
    Optimisation,
    in_precision,
    learning_rate_at,
    remaining_at,
    rows_of_part,
    static_options,
    step_of_adam,
)
from proximo.learn.descend import adam, in_parts
from proximo.learn.update import State, Task, minibatch_step

Columns = dict[str, np.ndarray]
"""What a loss computes for rows, [rows, ...] each, on the host."""


class Rows(Protocol):
    """Labelled data as rows of tokens."""

    @property
    def tokens(self) -> np.ndarray:
        """The number of tokens in each row, [count]."""
        ...

    def __len__(self) -> int: ...

    def batch(self, places: Int[np.ndarray, "B"]) -> Any:
        """The rows at these places: a tree of arrays [B, ...], of which `ids` go through the model."""
        ...


class Loss(Protocol):
    """The loss and its metrics. A tree whose numbers are traced."""

    def __call__(self, model: Any, part: Any) -> dict[str, Array]:
        """Columns [b, ...] for rows of a batch: each row's `loss`, and what the metrics need."""
        ...

    def count(self, batch: Any) -> Scalar:
        """The divisor of a batch's summed loss: its tokens that count, or its rows."""
        ...

    def metrics(self, columns: Columns) -> dict[str, float]:
        """Means over a batch."""
        ...

    def evaluation(self, columns: Columns) -> dict[str, float]:
        """Means over held-out data."""
        ...


def write_model(trainer: "LabelledTrainer", weights: Any, folder: Path) -> None:
    """Write a language model with its tokenizer (`save_with_adapters`)."""
    model = combine(weights, trainer.frozen)
    save_with_adapters(folder, model, trainer.tokenizer, trainer.options.model)


class LabelledTrainer:
    """The trainer for labelled data (see `job.Trainer`).

    options    of a command, checked: epochs, batch_size, micro_batch_tokens, model, optimisation, run
    model      the starting model, with adapters if any
    tokenizer  saved with the model
    loss       the loss to minimise
    rows       training data
    held_out   data to evaluate on after every epoch, if any
    notes      remarks for the user, a line each
    write      writes the trained model: (this trainer, its weights, the folder)
    check      raises UserError if the first batch's columns, in float32, are wrong
    """

    def __init__(
        self,
        options: Any,
        model: Any,
        tokenizer: Tokenizer,
        loss: Loss,
        rows: Rows,
        held_out: Rows | None = None,
        notes: tuple[str, ...] = (),
        write: "Callable[[LabelledTrainer, Any, Path], None]" = write_model,
        check: Callable[[Columns], None] = lambda columns: None,
    ) -> None:
        self.options, self.tokenizer, self.notes = options, tokenizer, notes
        self.write, self.check = write, check
        self.loss, self.rows, self.held_out = loss, rows, held_out
        self.first, self.frozen = partition_trainable(model)
        self.batch_size = min(options.batch_size, len(rows))
        self.total = -(-options.epochs * len(rows) // self.batch_size)

    def begin(self) -> Learner:
        """The starting model."""
        return new_learner(self.first)

    def iterate(self, state: Learner, number: int) -> Outcome:
        """One step on the batch of this number; after an epoch, also the evaluation on held-out data."""
        options, count = self.options, len(self.rows)
        seen = batch_indices(options.run.seed, number, self.batch_size, count)
        batch = self.rows.batch(seen)
        learner, columns, facts = update(
            state,
            batch,
            static_options(options.optimisation),
            remaining_at(number, self.total),
            self.frozen,
            self.loss,
            rows_of_part(self.batch_size, batch.ids[0].size, options.micro_batch_tokens),
        )
        columns, facts = jax.device_get((columns, facts))
        if number == 0 and options.optimisation.precision == "float32":
            self.check(columns)
        done = (number + 1) * self.batch_size
        metrics = self.loss.metrics(columns) | {name: float(value) for name, value in facts.items()}
        metrics |= {"epoch": done / count, "num_tokens": float(self.tokens_until(done))}
        if self.held_out is not None and epoch_ends(number, self.batch_size, count, self.total):
            metrics |= self.evaluate_held_out(learner.weights)
        return Outcome(learner, metrics, int(self.rows.tokens[seen].sum()))

    def tokens_until(self, rows: int) -> int:
        """Tokens in the first so many rows that the run takes."""
        epochs, rest = divmod(rows, len(self.rows))
        order = batch_indices(self.options.run.seed, epochs, len(self.rows), len(self.rows))
        return int(epochs * self.rows.tokens.sum() + self.rows.tokens[order[:rest]].sum())

    def evaluate_held_out(self, weights: Any) -> dict[str, float]:
        """What is logged of the rows that were held out."""
        assert self.held_out is not None
        found = self.loss.evaluation(self.columns(weights, self.held_out))
        return {f"eval_{name}": value for name, value in found.items()}

    def columns(self, weights: Any, rows: Rows) -> Columns:
        """What the loss says of all these rows, in their order."""
        return evaluate_rows(weights, self.frozen, rows, self.loss, self.options, self.batch_size)

    def save(self, state: Learner, folder: Path) -> None:
        """Write the trained model with its tokenizer."""
        self.write(self, state.weights, folder)


def new_learner(weights: Any) -> Learner:
    """The initial state."""
    # An array made from a plain number has a weak type; after a step it would have none, and compile anew.
    weights = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), weights)
    return Learner(weights, adam(weights))


@partial(jit, static_argnames="part_rows")
def update(
    learner: Learner,
    batch: Any,
    options: Optimisation,
    remaining: Scalar,
    frozen: Any,
    loss: Loss,
    part_rows: int,
) -> tuple[Learner, dict[str, Array], dict[str, Array]]:
    """One gradient step on the loss of a batch.

    options    of `static_options`
    remaining  share of the run that is left
    frozen     arrays that are not trained, from `partition_trainable`
    part_rows  rows per forward pass; the gradient does not depend on it

    Returns the learner after it, the loss's columns before it, and the gradient's norm and learning rate.
    """
    rate, rows = learning_rate_at(options, remaining), len(batch.ids)
    count = jnp.maximum(loss.count(batch), 1)

    def share(weights: Any, part: Any) -> tuple[Array, dict[str, Array]]:
        some, places = part
        columns = loss(in_precision(combine(weights, frozen), options), some)
        return jnp.sum(columns["loss"]) / count, scatter_rows(columns, places, rows)

    task = Task(
        rows=lambda weights: batch,
        prepare=lambda batch: (batch, jnp.ones((), bool)),  # all of it counts
        gradient=jax.grad(share, has_aux=True),
        descend=step_of_adam(options),
        part_rows=part_rows,
    )
    state = State(learner.weights, learner.moments, rate, jnp.zeros((), bool))
    state, columns = minibatch_step(state, (batch, jnp.arange(rows)), task)
    del columns["counted"]
    facts = {"grad_norm": columns.pop("grad_norm"), "learning_rate": rate}
    return Learner(state.weights, state.adam), columns, facts


def scatter_rows(columns: dict[str, Array], places: Int[Array, "b"], rows: int) -> dict[str, Array]:
    """A part's columns at their places in the whole batch, 0 elsewhere: the sum over parts is the batch's."""
    return {name: jnp.zeros((rows, *x.shape[1:]), x.dtype).at[places].set(x) for name, x in columns.items()}


def evaluate_rows(
    weights: Any, frozen: Any, rows: Rows, loss: Loss, options: Any, batch_size: int
) -> Columns:
    """The loss's columns for all rows, in their order, without a step."""
    found = []
    for start in range(0, len(rows), batch_size):
        # The last batch is filled up with rows that are cut off again, so that its shape is not new.
        batch = rows.batch(np.arange(start, start + batch_size) % len(rows))
        part_rows = rows_of_part(batch_size, batch.ids[0].size, options.micro_batch_tokens)
        found.append(
            jax.device_get(evaluate_batch(weights, frozen, batch, loss, options.optimisation, part_rows))
        )
    return {name: np.concatenate([one[name] for one in found])[: len(rows)] for name in found[0]}


@partial(jit, static_argnames="part_rows")
def evaluate_batch(
    weights: Any, frozen: Any, batch: Any, loss: Loss, options: Optimisation, part_rows: int
) -> dict[str, Array]:
    """The loss's columns of a batch. Arguments as of `update`."""
    model = in_precision(combine(weights, frozen), options)
    columns = jax.lax.map(partial(loss, model), in_parts(batch, part_rows))
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in columns.items()}


def epoch_ends(number: int, rows: int, count: int, total: int) -> bool:
    """Whether iteration `number`, of `total`, is the last or completes a pass over the data.

    rows   of an iteration
    count  rows of the data
    """
    return number + 1 == total or (number + 1) * rows // count > number * rows // count
