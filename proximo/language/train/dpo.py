"""Direct Preference Optimization: a policy from pairs of answers, without a reward model or samples.

The policy that is best for a reward r at a price of beta per nat from the reference,
pi(y) = ref(y) exp(r(y) / beta) / Z, says what r was: r(y) = beta log(pi(y) / ref(y)) + a constant. So the
policy itself is trained as a reward model is (Rafailov et al. 2023).
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
from proximo.options import also, checked

SAME = 3e-3  # of an answer's log-probability, that rounding explains; some devices multiply with 10 bits


@dataclass(frozen=True, kw_only=True)
class DPOOptions:
    """Direct Preference Optimization from pairs of answers, one of which was preferred."""

    data: Annotated[str, also("--dataset-name", "--train-file")]
    """JSON lines with `prompt`, `chosen` and `rejected`; without `prompt` it is what both begin with."""
    evaluation_data: str | None = None
    """Held-out data in the same form, measured after every epoch."""
    epochs: Annotated[int, at_least(1), also("--num-train-epochs")] = 1
    """Epochs over the data; with each one the policy drifts further from the reference."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Pairs per step; 64 in the paper."""
    length: Annotated[int, at_least(1), also("--max-length", "--max-seq-length")] = 1024
    """Maximum tokens of a prompt with its answer; at most the model's context."""
    overlong: Overlong = "truncate"
    """What to do with longer pairs: `truncate`, `drop`, or `refuse` to start."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as equal answers: `refuse` to start, or `drop` them."""
    beta: Annotated[float, above(0)] = 0.1
    """KL coefficient (per nat): the smaller, the further the policy moves; 0.1 to 0.5 are usual."""
    loss: Annotated[PreferenceLoss, also("--loss-type")] = field(default_factory=SigmoidLoss)
    """`sigmoid-loss`, `conservative-loss:0.1` for labels of which a tenth is wrong, `ipo-loss`."""
    micro_batch_tokens: Annotated[int | None, at_least(1)] = None
    """Maximum tokens per forward pass (gradient accumulation); by default all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=1e-6, schedule="linear", warmup=0.1, adam_epsilon=1e-8
        )
    )
    """1e-6 as in the paper's appendix B, for all weights; adapters take 1e-5."""
    run: RunOptions = field(default_factory=RunOptions)


def dpo_trainer(options: DPOOptions) -> LabelledTrainer:
    """A trainer on the model and the pairs that the options name.

    Raises UserError for options that cannot be, and for files that are missing or damaged.
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
    """A trainer on these pairs; the reference is the model as it is given.

    Arguments as of `LabelledTrainer`; `held_out` may be empty.
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
    """Pairs of answers with what the reference says of them, as rows (see `labelled.Rows`).

    said  the reference's log-probabilities of all answers, in nats. They are computed when they are first
          needed, which is on the devices that learn; a resumed run computes the same again
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
    """What pairs cost, the mean over them."""

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
        """Means over pairs, by TRL's names; a reward is beta times the log ratio that the loss has seen."""
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
    """log p(answer | prompt), the sum over the answer's tokens, in nats."""
    ids, segments = (x.reshape(-1, x.shape[-1]) for x in (pairs.ids, pairs.segments))
    losses = loss_of_tokens(model, ids, segments, checkpoint=checkpoint).reshape(pairs.ids.shape)
    return -jnp.sum(jnp.where(pairs.answer, losses, 0.0), axis=-1)


def check_reference(columns: Columns) -> None:
    """Raises UserError unless the policy is the reference, to rounding, as it must be before the first step.

    Then the sigmoid loss is log 2. Anything else means that the two are computed differently, and that
    nothing learned from them would be right.
    """
    away = np.abs(columns["log_ratios"]) / (1.0 + np.abs(columns["log_probs"]))
    if not np.max(away) < SAME:
        raise UserError(
            f"the policy and the reference differ by {np.max(away):.2g} of a log-probability before the "
            "first step, where they must agree: was the model's folder changed?"
        )
