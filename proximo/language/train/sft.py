"""Supervised fine-tuning: next-token prediction on texts or completions (Ouyang et al. 2022, step 1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from proximo.core import select
from proximo.core.arrays import traceable
from proximo.core.ranges import at_least
from proximo.language.files.loading import load_model_and_tokenizer, read_files, row_length
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.likelihood import score_tokens
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Overlong, TrainingText, read_training_texts
from proximo.language.text.packing import Packed, bucket, pack, pad_right
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.labelled import Columns, LabelledTrainer
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import RunOptions
from proximo.options import FILE, also, checked


@dataclass(frozen=True, kw_only=True)
class SFTOptions:
    """Supervised fine-tuning (SFT): train a model on texts, conversations, or prompts with completions."""

    data: Annotated[str, FILE, also("--dataset-name", "--train-file")]
    """Training data: JSON lines with `text`, `messages`, or `prompt` and `completion`."""
    evaluation_data: Annotated[str | None, FILE] = None
    """Held-out data in the same format; its loss is measured after every epoch."""
    epochs: Annotated[int, at_least(1), also("--num-train-epochs")] = 1
    """Epochs over the data. Small instruction data sets need 2 or 3; with more, the model memorises them."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Rows per step. With packing, a row holds about --length tokens; without it, one text."""
    length: Annotated[int, at_least(1), also("--max-length", "--max-seq-length")] = 1024
    """Maximum tokens of a row and of a text; at most the model's context."""
    packing: bool = True
    """Put several texts in one row to avoid padding. They do not attend to each other."""
    completion_only: Annotated[bool, also("--completion-only-loss")] = True
    """Compute the loss only on completions and the assistant's messages, not on prompts."""
    overlong: Overlong = "truncate"
    """What to do with longer texts: `truncate`, `drop`, or `refuse` to start."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as empty answers: `refuse` to start, or `drop` them."""
    micro_batch_tokens: Annotated[int | None, at_least(1)] = None
    """Maximum tokens per forward pass (gradient accumulation); by default all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=2e-5, schedule="cosine", warmup=0.03, adam_epsilon=1e-8
        )
    )
    """For all weights 2e-5 with a cosine schedule is usual (Taori et al. 2023); for adapters 1e-4 to 2e-4."""
    run: RunOptions = field(default_factory=RunOptions)


def sft_trainer(options: SFTOptions) -> LabelledTrainer:
    """The trainer for the model and the texts that the options name.

    Raises UserError for invalid options, and for missing or damaged files.
    """
    options = checked(options)
    model, tokenizer = load_model_and_tokenizer(options.model, jax.random.key(options.run.seed))
    length = row_length(options.length, model.config)

    texts, held_out, notes = read_files(
        options,
        lambda source: read_training_texts(
            source,
            tokenizer,
            length,
            options.completion_only,
            options.overlong,
            options.invalid,
        ),
    )
    return fine_tuning(options, model, tokenizer, texts, held_out, (*tokenizer.notes, *notes))


def fine_tuning(
    options: SFTOptions,
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[TrainingText],
    held_out: Sequence[TrainingText] = (),
    notes: tuple[str, ...] = (),
) -> LabelledTrainer:
    """The trainer for these texts. Arguments as in `LabelledTrainer`; `held_out` may be empty."""
    length = row_length(options.length, model.config)
    loss = NextToken(options.optimisation.gradient_checkpointing)
    rows = TextRows(texts, length, options.packing)
    evaluation = TextRows(held_out, length, options.packing) if held_out else None
    return LabelledTrainer(options, model, tokenizer, loss, rows, evaluation, notes)


@traceable
@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the next token, -log p(token | earlier tokens of its text): the mean over tokens.

    Every token that counts has the same weight, in whatever row or micro-batch. Batches are `Packed`.
    """

    checkpoint: bool = False  # as of `Transformer.hidden`

    def __call__(self, model: Transformer, part: Any) -> dict[str, Array]:
        hidden = model.hidden(part.ids, part.segments, part.positions, self.checkpoint)
        said, learn = score_tokens(model, hidden[:, :-1], part.ids[:, 1:]), part.learn[:, 1:]
        sums = {"loss": -said.log_prob, "mean_token_accuracy": 1.0 * said.best, "entropy": said.entropy}
        columns = {name: jnp.sum(select(x, learn), axis=1) for name, x in sums.items()}
        return columns | {"tokens": jnp.sum(learn, axis=1)}

    def count(self, batch: Any) -> Array:
        """The number of tokens that count in the loss."""
        return jnp.sum(batch.learn)

    def metrics(self, columns: Columns) -> dict[str, float]:
        """Means over tokens, with TRL's names."""
        count = max(int(columns["tokens"].sum()), 1)
        return {name: float(x.sum() / count) for name, x in columns.items() if name != "tokens"}

    evaluation = metrics


class TextRows:
    """Texts as rows of tokens (see `labelled.Rows`): packed, or one per row.

    tokens  number of tokens in each row, [count]
    """

    def __init__(self, texts: Sequence[TrainingText], length: int, packing: bool) -> None:
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

    def batch(self, places: Int[np.ndarray, "B"]) -> Packed:
        """The rows at these places."""
        if self.packed is not None:
            return Packed(*(x[places] for x in self.packed))
        texts = [self.texts[place] for place in places]
        width = bucket(max(len(text.ids) for text in texts), largest=self.length)
        ids, lengths = pad_right([text.ids for text in texts], width, 0)
        learn, _ = pad_right([text.learn for text in texts], width, 0)
        there = (np.arange(width) < lengths[:, None]).astype(np.int32)
        return Packed(ids, there, np.arange(width, dtype=np.int32) * there, learn.astype(bool))
