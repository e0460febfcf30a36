"""Supervised fine-tuning: the next token of texts, or of answers (Ouyang et al. 2022, step 1)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from proximo.core import masked_sum
from proximo.core.arrays import traceable
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.files.loading import assembled, check_counts, loaded, longest_of, read_files, split
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.likelihood import predicted
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Overlong, TrainingText, read_training_texts
from proximo.language.text.packing import Packed, batch_indices, bucket, pack, padded_right
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.job import Outcome
from proximo.language.train.optimise import Optimisation, rows_of_part
from proximo.language.train.run_options import RunOptions
from proximo.language.train.step import Learner, begun, epoch_ends, measured, middle, stepped


@dataclass(frozen=True, kw_only=True)
class SFTOptions:
    """Supervised fine-tuning: a model learns the next token of texts, or of answers to prompts."""

    data: str
    """JSON lines with `text`, `messages`, or `prompt` and `completion`."""
    evaluation_data: str | None = None
    """The same, not learned from; its loss is measured after every epoch."""
    epochs: int = 1
    """Passes over the data. Small sets of instructions take 2 or 3; more is memorised, not learned."""
    batch_size: int = 16
    """Rows of a step; with packing a row holds about `length` tokens, without it one text."""
    length: int = 1024
    """Tokens of a row, and of a text, at most; the model's context where that is shorter."""
    packing: bool = True
    """Several texts to a row, which do not see each other: nothing is spent on padding."""
    completion_only: bool = True
    """Learn completions and the assistant's messages, not what they answer."""
    overlong: Overlong = "truncate"
    """What becomes of longer texts: `truncate`, `drop`, or `refuse` to begin."""
    invalid: Invalid = "refuse"
    """What becomes of records that are wrong, such as empty answers: `refuse` to begin, or `drop`."""
    micro_batch_tokens: int | None = None
    """Most tokens that go through the model at once; the same gradient. Unless said all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=2e-5, schedule="cosine", warmup=0.03, adam_epsilon=1e-8
        )
    )
    """2e-5 and a cosine are usual for all weights (Taori et al. 2023); adapters take 1e-4 to 2e-4."""
    run: RunOptions = field(default_factory=RunOptions)


def checked(options: SFTOptions) -> SFTOptions:
    """The same options, or a UserError that says which cannot be."""
    options.optimisation.checked()
    options.run.checked()
    check_counts(options, ("epochs", "batch_size", "length", "micro_batch_tokens"))
    return options


def sft_trainer(options: SFTOptions) -> "SFT":
    """A trainer on the model and the texts that the options name.

    Raises UserError for options that cannot be, and for files that are missing or damaged.
    """
    options = checked(options)
    model, tokenizer = loaded(options.model, jax.random.key(options.run.seed))
    length = longest_of(options.length, model.config)

    texts, held_out, notes = read_files(
        options,
        lambda source: read_training_texts(
            source,
            tokenizer,
            length,
            options.completion_only,
            options.overlong,
            model.config.vocabulary,
            options.invalid,
        ),
    )
    return SFT(options, model, tokenizer, texts, held_out, (*tokenizer.notes, *notes))


class SFT:
    """The trainer (see `job.Trainer`).

    options    checked
    model      to begin with, adapters included
    tokenizer  saved with it
    texts      to learn from
    held_out   to measure; may be empty
    notes      what the user should know, a line each
    """

    def __init__(
        self,
        options: SFTOptions,
        model: Transformer,
        tokenizer: Tokenizer,
        texts: tuple[TrainingText, ...],
        held_out: tuple[TrainingText, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.options, self.tokenizer, self.notes = options, tokenizer, notes
        self.first, self.frozen = split(model)
        length = longest_of(options.length, model.config)
        self.rows = Rows(texts, length, options.packing)
        self.held_out = Rows(held_out, length, options.packing) if held_out else None
        self.loss = NextToken(options.optimisation.gradient_checkpointing)
        self.batch_size = min(options.batch_size, len(self.rows))
        self.total = -(-options.epochs * len(self.rows) // self.batch_size)

    def begin(self) -> Learner:
        """The model as it was given."""
        return begun(self.first, self.options.optimisation)

    def iterate(self, state: Learner, number: int) -> Outcome:
        """One step on the batch of this number; after an epoch, a look at what was held out."""
        options, count = self.options, len(self.rows)
        seen = batch_indices(options.run.seed, number, self.batch_size, count)
        batch = weighted(self.rows.batch(seen))
        state, facts = stepped(
            state,
            self.frozen,
            batch,
            middle(number, self.total),
            self.loss,
            options.optimisation,
            self.rows_at_once(batch),
        )
        metrics = {name: float(value) for name, value in facts.items()} | {
            "epoch": (number + 1) * self.batch_size / count,
            "num_tokens": float(self.tokens_until((number + 1) * self.batch_size)),
        }
        if self.held_out is not None and epoch_ends(number, self.batch_size, count, self.total):
            metrics |= self.evaluated(state, self.held_out)
        return Outcome(state, metrics, int(self.rows.tokens[seen].sum()))

    def tokens_until(self, rows: int) -> int:
        """Tokens in the first so many rows that the run takes."""
        epochs, rest = divmod(rows, len(self.rows))
        order = batch_indices(self.options.run.seed, epochs, len(self.rows), len(self.rows))
        return int(epochs * self.rows.tokens.sum() + self.rows.tokens[order[:rest]].sum())

    def evaluated(self, state: Learner, rows: "Rows") -> dict[str, float]:
        """Loss and accuracy over the tokens of all rows that carry loss."""
        total: dict[str, float] = {}
        learnt = 0
        for start in range(0, len(rows), self.batch_size):
            # The last batch is filled up with rows that are not counted, so that its shape is not new.
            places = np.arange(start, start + self.batch_size)
            batch = rows.batch(places % len(rows))
            batch.learn[places >= len(rows)] = False
            count, one = int(batch.learn.sum()), weighted(batch)
            facts = measured(
                state.weights, self.frozen, one, self.loss, self.options.optimisation, self.rows_at_once(one)
            )
            total = {name: total.get(name, 0.0) + float(x) * count for name, x in facts.items()}
            learnt += count
        return {f"eval_{name}": x / learnt for name, x in total.items()}

    def rows_at_once(self, batch: "Batch") -> int:
        """Rows that go through the model together."""
        rows, width = batch.ids.shape
        return rows_of_part(rows, width, self.options.micro_batch_tokens)

    def save(self, state: Learner, folder: Path) -> None:
        """Write the model with its tokenizer (`save_with_adapters`)."""
        model = assembled(state.weights, self.frozen)
        save_with_adapters(folder, model, self.tokenizer, self.options.model)


class Batch(NamedTuple):
    """Rows of tokens, [B, L] each.

    ids, segments, positions  as of `packing.Packed`
    weight                    share of each token in the batch's loss: 1 / (tokens that carry loss), or 0
    """

    ids: Int[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    weight: Float[Array, "B L"]


def weighted(rows: Packed) -> Batch:
    """A batch in which every token that carries loss counts alike, whatever its row or its micro-batch."""
    weight = rows.learn.astype(np.float32) / max(rows.learn.sum(), 1)
    return Batch(jnp.asarray(rows.ids), *map(jnp.asarray, (rows.segments, rows.positions, weight)))


@traceable
@dataclass(frozen=True)
class NextToken:
    """The loss of language models.

    - sum of weight log p(token | those before it in its text)

    checkpoint  as of `Transformer.hidden`
    """

    checkpoint: bool = False

    def __call__(self, model: Transformer, part: Batch) -> tuple[Array, dict[str, Array]]:
        hidden = model.hidden(part.ids, part.segments, part.positions, self.checkpoint)
        said, weight = predicted(model, hidden[:, :-1], part.ids[:, 1:]), part.weight[:, 1:]
        loss = -masked_sum(said.log_prob * weight, weight)
        return loss, {
            "loss": loss,
            "mean_token_accuracy": masked_sum(said.best * weight, weight),
            "entropy": masked_sum(said.entropy * weight, weight),
        }


class Rows:
    """Texts as rows of tokens: packed, or one to a row.

    tokens  [count], in each row
    """

    def __init__(self, texts: tuple[TrainingText, ...], length: int, packing: bool) -> None:
        self.texts, self.length = texts, length
        self.packed: Packed | None = None
        if packing:
            whole = pack(texts, length)
            used = bucket(int((whole.segments > 0).sum(axis=1).max()), largest=length)
            self.packed = Packed(*(x[:, :used] for x in whole))  # a few short texts need no long row
            self.tokens = (whole.segments > 0).sum(axis=1)
        else:
            self.tokens = np.array([len(text.ids) for text in texts])

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, places: Any) -> Packed:
        """Copies of the rows at these places."""
        if self.packed is not None:
            return Packed(*(x[places] for x in self.packed))
        texts = [self.texts[place] for place in places]
        width = bucket(max(len(text.ids) for text in texts), largest=self.length)
        ids, lengths = padded_right([text.ids for text in texts], width, 0)
        learn, _ = padded_right([text.learn for text in texts], width, 0)
        there = (np.arange(width) < lengths[:, None]).astype(np.int32)
        return Packed(ids, there, np.arange(width, dtype=np.int32) * there, learn.astype(bool))
