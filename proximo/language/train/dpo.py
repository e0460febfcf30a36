"""Direct Preference Optimization: a policy from pairs of answers, without a reward model or samples.

The policy that is best for a reward r at a price of beta per nat from the reference,
pi(y) = ref(y) exp(r(y) / beta) / Z, says what r was: r(y) = beta log(pi(y) / ref(y)) + a constant. So the
policy itself is trained as a reward model is (Rafailov et al. 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.core import ConservativeLoss, PreferenceLoss, SigmoidLoss, masked_sum
from proximo.core.arrays import traceable
from proximo.errors import UserError
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.files.loading import assembled, check_counts, loaded, longest_of, read_files, split
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.likelihood import loss_of_tokens
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Overlong, Preference, read_preferences
from proximo.language.text.packing import batch_indices
from proximo.language.text.pairs import Pairs, batch_of, batches_of, placed
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.job import Outcome
from proximo.language.train.optimise import Optimisation, rows_of_part
from proximo.language.train.run_options import RunOptions
from proximo.language.train.step import Learner, begun, epoch_ends, measured, middle, stepped

SAME = 3e-3  # of an answer's log-probability, that rounding explains; some devices multiply with 10 bits


@dataclass(frozen=True, kw_only=True)
class DPOOptions:
    """Direct Preference Optimization from pairs of answers, one of which was preferred."""

    data: str
    """JSON lines with `prompt`, `chosen` and `rejected`; without `prompt` it is what both begin with."""
    evaluation_data: str | None = None
    """The same, not learned from; measured after every epoch."""
    epochs: int = 1
    """Passes over the data; with every further one the policy drifts from the reference."""
    batch_size: int = 32
    """Pairs of a step; 64 in the paper."""
    length: int = 1024
    """Tokens of a prompt with its answer, at most; the model's context where that is shorter."""
    overlong: Overlong = "truncate"
    """What becomes of longer pairs: `truncate`, `drop`, or `refuse` to begin."""
    invalid: Invalid = "refuse"
    """What becomes of records that are wrong, such as equal answers: `refuse` to begin, or `drop`."""
    beta: float = 0.1
    """Price of a nat from the reference: the smaller, the further the policy goes; 0.1 to 0.5 are usual."""
    loss: PreferenceLoss = field(default_factory=SigmoidLoss)
    """`sigmoid-loss`, `conservative-loss:0.1` for labels of which a tenth is wrong, `ipo-loss`."""
    micro_batch_tokens: int | None = None
    """Most tokens that go through the model at once; the same gradient. Unless said all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=1e-6, schedule="linear", warmup=0.1, adam_epsilon=1e-8
        )
    )
    """1e-6 as in the paper's appendix B, for all weights; adapters take 1e-5."""
    run: RunOptions = field(default_factory=RunOptions)


def checked(options: DPOOptions) -> DPOOptions:
    """The same options, or a UserError that says which cannot be."""
    options.optimisation.checked()
    options.run.checked()
    check_counts(options, ("epochs", "batch_size", "length", "micro_batch_tokens"))
    if not 0 < options.beta < float("inf"):
        raise UserError(f"beta is {options.beta}: it must be above 0")
    if isinstance(options.loss, ConservativeLoss) and not 0 <= options.loss.smoothing < 0.5:
        raise UserError(f"smoothing is {options.loss.smoothing}: it must be at least 0 and below 0.5")
    return options


def dpo_trainer(options: DPOOptions) -> "DPO":
    """A trainer on the model and the pairs that the options name.

    Raises UserError for options that cannot be, and for files that are missing or damaged.
    """
    options = checked(options)
    model, tokenizer = loaded(options.model, jax.random.key(options.run.seed))
    length = longest_of(options.length, model.config)
    pairs, held_out, notes = read_files(
        options,
        lambda source: read_preferences(
            source, tokenizer, length, options.overlong, model.config.vocabulary, options.invalid
        ),
    )
    return DPO(options, model, tokenizer, pairs, held_out, (*tokenizer.notes, *notes))


class DPO:
    """The trainer (see `job.Trainer`). The reference is the model as it was given.

    options    checked
    model      to begin with, adapters included
    tokenizer  saved with it
    pairs      to learn from
    held_out   to measure; may be empty
    notes      what the user should know, a line each
    """

    def __init__(
        self,
        options: DPOOptions,
        model: Transformer,
        tokenizer: Tokenizer,
        pairs: tuple[Preference, ...],
        held_out: tuple[Preference, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.options, self.tokenizer, self.notes = options, tokenizer, notes
        self.pairs, self.held_out = pairs, held_out
        self.first, self.frozen = split(model)
        self.length = longest_of(options.length, model.config)
        self.batch_size = min(options.batch_size, len(pairs))
        self.total = -(-options.epochs * len(pairs) // self.batch_size)
        self.loss = PairLoss(
            options.loss, options.beta, self.batch_size, options.optimisation.gradient_checkpointing
        )

    def begin(self) -> Learner:
        """The reference."""
        return begun(self.first, self.options.optimisation)

    def iterate(self, state: Learner, number: int) -> Outcome:
        """One step on the pairs of this number; after an epoch, a look at what was held out."""
        options, count = self.options, len(self.pairs)
        seen = batch_indices(options.run.seed, number, self.batch_size, count)
        batch = batch_of([self.pairs[index] for index in seen], self.batch_size, self.length)
        state, facts = stepped(
            state,
            self.frozen,
            Compared(batch, jnp.asarray(self.reference[seen])),
            middle(number, self.total),
            self.loss,
            options.optimisation,
            self.rows_at_once(batch),
        )
        if number == 0 and options.optimisation.precision == "float32":
            check_reference(facts)
        metrics = facts_of(facts, options.beta)
        metrics |= {name: float(facts[name]) for name in ("grad_norm", "learning_rate")}
        metrics["epoch"] = (number + 1) * self.batch_size / count
        if self.held_out and epoch_ends(number, self.batch_size, count, self.total):
            found = self.measured(state.weights, self.held_out, self.held_out_reference)
            metrics |= {f"eval_{name}": value for name, value in facts_of(found, options.beta).items()}
        return Outcome(state, metrics, int(np.sum(batch.segments)))

    @cached_property
    def reference(self) -> Float[np.ndarray, "N 2"]:
        """Log-probabilities of all answers before the first step; a resumed run computes the same again."""
        return self.log_probs(self.first, self.pairs)

    @cached_property
    def held_out_reference(self) -> Float[np.ndarray, "N 2"]:
        """The same of what is held out."""
        return self.log_probs(self.first, self.held_out)

    def log_probs(self, weights: Any, pairs: Sequence[Preference]) -> Float[np.ndarray, "N 2"]:
        """Of chosen and rejected answers, in nats; with the first weights, adapters change nothing yet."""
        return self.measured(weights, pairs, np.zeros((len(pairs), 2), np.float32))["log_probs"]

    def measured(
        self, weights: Any, pairs: Sequence[Preference], reference: Float[np.ndarray, "N 2"]
    ) -> dict[str, np.ndarray]:
        """The facts of all these pairs, as those of one batch."""
        found, place = [], 0
        for chunk, batch in batches_of(pairs, self.batch_size, self.length):
            padded = np.zeros((self.batch_size, 2), np.float32)
            padded[: len(chunk)] = reference[place : place + len(chunk)]
            compared, rows = Compared(batch, jnp.asarray(padded)), self.rows_at_once(batch)
            facts = measured(weights, self.frozen, compared, self.loss, self.options.optimisation, rows)
            found.append({name: facts[name][: len(chunk)] for name in PER_PAIR})
            place += len(chunk)
        return {name: np.concatenate([facts[name] for facts in found]) for name in PER_PAIR}

    def rows_at_once(self, batch: Pairs) -> int:
        """Pairs that go through the model together."""
        return rows_of_part(self.batch_size, batch.ids[0].size, self.options.micro_batch_tokens)

    def save(self, state: Learner, folder: Path) -> None:
        """Write the model with its tokenizer (`save_with_adapters`)."""
        model = assembled(state.weights, self.frozen)
        save_with_adapters(folder, model, self.tokenizer, self.options.model)


class Compared(NamedTuple):
    """A batch of pairs with what the reference says of them.

    reference  [B, 2], log-probabilities of the answers, in nats
    """

    pairs: Pairs
    reference: Float[Array, "B 2"]


PER_PAIR = ("losses", "log_probs", "log_ratios")


@traceable
@dataclass(frozen=True)
class PairLoss:
    """The loss of a batch of pairs: the sum of weight times each pair's cost.

    objective   what a pair costs
    beta        price of a nat from the reference
    rows        pairs of the whole batch
    checkpoint  as of `Transformer.hidden`
    """

    objective: PreferenceLoss
    beta: float
    rows: int
    checkpoint: bool = False

    def __call__(self, model: Transformer, part: Compared) -> tuple[Array, dict[str, Array]]:
        pairs = part.pairs
        log_prob = answer_log_probs(model, pairs, self.checkpoint)
        log_ratio = log_prob - part.reference
        if self.objective.per_token:
            log_ratio = log_ratio / jnp.maximum(pairs.answer.sum(axis=-1), 1)
        cost = self.objective(log_ratio[:, 0], log_ratio[:, 1], self.beta)
        columns = dict(zip(PER_PAIR, (cost, log_prob, log_ratio), strict=True))
        facts = {name: placed(x, pairs.place, self.rows) for name, x in columns.items()}
        return masked_sum(cost * pairs.weight, pairs.weight), facts


def answer_log_probs(model: Transformer, pairs: Pairs, checkpoint: bool = False) -> Float[Array, "B 2"]:
    """log p(answer | prompt), the sum over the answer's tokens, in nats."""
    ids, segments = (x.reshape(-1, x.shape[-1]) for x in (pairs.ids, pairs.segments))
    losses = loss_of_tokens(model, ids, segments, checkpoint=checkpoint).reshape(pairs.ids.shape)
    return -jnp.sum(jnp.where(pairs.answer, losses, 0.0), axis=-1)


def facts_of(facts: dict[str, np.ndarray], beta: float) -> dict[str, float]:
    """Means over pairs, by TRL's names; a reward is beta times the log ratio that the loss has seen."""
    reward, log_prob = beta * facts["log_ratios"], facts["log_probs"]
    columns = {
        "loss": facts["losses"],
        "rewards/chosen": reward[:, 0],
        "rewards/rejected": reward[:, 1],
        "rewards/accuracies": reward[:, 0] > reward[:, 1],
        "rewards/margins": reward[:, 0] - reward[:, 1],
        "logps/chosen": log_prob[:, 0],
        "logps/rejected": log_prob[:, 1],
    }
    return {name: float(np.mean(column)) for name, column in columns.items()}


def check_reference(facts: dict[str, np.ndarray]) -> None:
    """Raises UserError unless the policy is the reference, to rounding, as it must be before the first step.

    Then the sigmoid loss is log 2. Anything else means that the two are computed differently, and that
    nothing learned from them would be right.
    """
    away = np.abs(facts["log_ratios"]) / (1.0 + np.abs(facts["log_probs"]))
    if not np.max(away) < SAME:
        raise UserError(
            f"the policy and the reference differ by {np.max(away):.2g} of a log-probability before the "
            "first step, where they must agree: was the model's folder changed?"
        )
