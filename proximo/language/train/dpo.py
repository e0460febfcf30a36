"""Direct Preference Optimization: a policy from preferences, without a reward model or samples.

For a reward r and a KL coefficient beta, the optimal policy is pi(y) = ref(y) exp(r(y) / beta) / Z. So the
reward is r(y) = beta log(pi(y) / ref(y)) + a constant, and the policy itself is trained like a reward model
(Rafailov et al. 2023).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from proximo.core import PreferenceLoss, SigmoidLoss
from proximo.core.arrays import traceable
from proximo.core.ranges import above, at_least
from proximo.errors import UserError
from proximo.language.files.loading import (
    load_model_and_tokenizer,
    partition_trainable,
    read_files,
    row_length,
)
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.likelihood import loss_of_tokens
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Overlong, Preference, read_preferences
from proximo.language.text.packing import PairRows, Pairs
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.labelled import Columns, LabelledTrainer, evaluate_rows
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import RunOptions
from proximo.options import FILE, also, checked

SAME = 3e-3  # of an answer's log-probability, that rounding explains; some devices multiply with 10 bits


@dataclass(frozen=True, kw_only=True)
class DPOOptions:
    """Train a policy with direct preference optimization (DPO), on pairs of answers with one preferred."""

    data: Annotated[str, FILE, also("--dataset-name", "--train-file")]
    """Preferences: JSON lines with `prompt`, `chosen` and `rejected`. Without `prompt`, the common beginning
    of both answers is the prompt."""
    evaluation_data: Annotated[str | None, FILE] = None
    """Held-out data in the same format, measured after every epoch."""
    epochs: Annotated[int, at_least(1), also("--num-train-epochs")] = 1
    """Epochs over the data. Each one moves the policy further from the reference model."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Pairs per step; 64 in the paper."""
    length: Annotated[int, at_least(1), also("--max-length", "--max-seq-length")] = 1024
    """Maximum tokens of a prompt with its answer; at most the model's context."""
    overlong: Overlong = "truncate"
    """What to do with longer pairs: `truncate`, `drop`, or `refuse` to start."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as equal answers: `refuse` to start, or `drop` them."""
    beta: Annotated[float, above(0)] = 0.1
    """KL coefficient (per nat). A smaller one lets the policy move further; 0.1 to 0.5 are usual."""
    loss: Annotated[PreferenceLoss, also("--loss-type")] = field(default_factory=SigmoidLoss)
    """Preference loss: `sigmoid-loss`, `ipo-loss`, or `conservative-loss:0.1` if a tenth of the labels are
    wrong."""
    micro_batch_tokens: Annotated[int | None, at_least(1)] = None
    """Maximum tokens per forward pass (gradient accumulation); by default all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=1e-6, schedule="linear", warmup=0.1, adam_epsilon=1e-8
        )
    )
    """For all weights 1e-6, as in the paper's appendix B; for adapters 1e-5."""
    run: RunOptions = field(default_factory=RunOptions)


def dpo_trainer(options: DPOOptions) -> LabelledTrainer:
    """The trainer for the model and the pairs that the options name.

    Raises UserError for invalid options, and for missing or damaged files.
    """
    options = checked(options)
    model, tokenizer = load_model_and_tokenizer(options.model, jax.random.key(options.run.seed))
    length = row_length(options.length, model.config)
    pairs, held_out, notes = read_files(
        options,
        lambda source: read_preferences(source, tokenizer, length, options.overlong, options.invalid),
    )
    return preference_tuning(options, model, tokenizer, pairs, held_out, (*tokenizer.notes, *notes))


def preference_tuning(
    options: DPOOptions,
    model: Transformer,
    tokenizer: Tokenizer,
    pairs: Sequence[Preference],
    held_out: Sequence[Preference] = (),
    notes: tuple[str, ...] = (),
) -> LabelledTrainer:
    """The trainer for these pairs. The reference is the model as given.

    Arguments as in `LabelledTrainer`; `held_out` may be empty.
    """
    length, batch_size = row_length(options.length, model.config), min(options.batch_size, len(pairs))
    loss = PairLoss(options.loss, options.beta, options.optimisation.gradient_checkpointing)
    first, frozen = partition_trainable(model)

    def said(rows: PairRows) -> Float[np.ndarray, "N 2"]:
        return evaluate_rows(first, frozen, rows, loss, options, batch_size)["log_probs"]

    rows = ComparedRows(PairRows(pairs, length), said)
    evaluation = ComparedRows(PairRows(held_out, length), said) if held_out else None
    return LabelledTrainer(options, model, tokenizer, loss, rows, evaluation, notes, check=check_reference)


class ComparedRows:
    """Pairs of answers with the reference's log-probabilities, as rows (see `labelled.Rows`).

    said  computes the reference's log-probabilities of all answers, in nats. They are computed on first use,
          on the devices that train; a resumed run computes the same ones again
    """

    def __init__(self, pairs: PairRows, said: Callable[[PairRows], Float[np.ndarray, "N 2"]]) -> None:
        self.pairs, self.said, self.tokens = pairs, said, pairs.tokens

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def reference(self) -> Float[np.ndarray, "N 2"]:
        """Log-probabilities of all answers before the first step."""
        return self.said(self.pairs)

    def batch(self, places: Int[np.ndarray, "B"]) -> Pairs:
        """The pairs at these places."""
        return self.pairs.batch(places)._replace(reference=jnp.asarray(self.reference[places]))


@traceable
@dataclass(frozen=True)
class PairLoss:
    """The loss of a pair of answers; the mean over pairs is minimised."""

    objective: PreferenceLoss  # what a pair costs
    beta: float  # price of a nat from the reference
    checkpoint: bool = False  # as of `Transformer.hidden`

    def __call__(self, model: Transformer, part: Pairs) -> dict[str, Array]:
        log_prob = answer_log_probs(model, part, self.checkpoint)
        log_ratio = log_prob - part.reference
        if self.objective.per_token:
            log_ratio = log_ratio / jnp.maximum(part.answer.sum(axis=-1), 1)
        cost = self.objective(log_ratio[:, 0], log_ratio[:, 1], self.beta)
        return {"loss": cost, "log_probs": log_prob, "log_ratios": log_ratio}

    def count(self, batch: Pairs) -> int:
        """Pairs."""
        return len(batch.ids)

    def metrics(self, columns: Columns) -> dict[str, float]:
        """Means over pairs, with TRL's names. A reward is beta times the log ratio of the loss."""
        reward, log_prob = self.beta * columns["log_ratios"], columns["log_probs"]
        named = {
            "loss": columns["loss"],
            "rewards/chosen": reward[:, 0],
            "rewards/rejected": reward[:, 1],
            "rewards/accuracies": reward[:, 0] > reward[:, 1],
            "rewards/margins": reward[:, 0] - reward[:, 1],
            "logps/chosen": log_prob[:, 0],
            "logps/rejected": log_prob[:, 1],
        }
        return {name: float(np.mean(column)) for name, column in named.items()}

    evaluation = metrics


def answer_log_probs(model: Transformer, pairs: Pairs, checkpoint: bool = False) -> Float[Array, "B 2"]:
    """log p(answer | prompt): the sum over the answer's tokens, in nats."""
    ids, segments = (x.reshape(-1, x.shape[-1]) for x in (pairs.ids, pairs.segments))
    losses = loss_of_tokens(model, ids, segments, checkpoint=checkpoint).reshape(pairs.ids.shape)
    return -jnp.sum(jnp.where(pairs.answer, losses, 0.0), axis=-1)


def check_reference(columns: Columns) -> None:
    """Raises UserError unless policy and reference agree, to rounding, before the first step.

    The sigmoid loss is then log 2. Any difference means that the two are computed differently, so training
    would be wrong.
    """
    away = np.abs(columns["log_ratios"]) / (1.0 + np.abs(columns["log_probs"]))
    if not np.max(away) < SAME:
        raise UserError(
            f"log-probabilities of policy and reference differ by {np.max(away):.2g} (relative) before the "
            "first step, where they must agree: was the model's folder changed?"
        )
