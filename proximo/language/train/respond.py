"""Answers to prompts, with what was drawn and how."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np

from proximo.core.ranges import Range, at_least, between
from proximo.errors import UserError
from proximo.language.model.config import ModelConfig
from proximo.language.model.sampler import Sampling, sample
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Prompt, read_prompts
from proximo.language.text.data_files import Source
from proximo.language.text.packing import bucket, pad_left
from proximo.language.text.records import Dataset, Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.options import LARGEST_SEED
from proximo.options import also, checked

USUAL_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How answers are drawn."""

    max_new_tokens: Annotated[
        int | None, at_least(1), also("--response-length", "--max-completion-length")
    ] = None
    """Maximum response length in tokens; by default 64, or half the model's context if that is less."""
    samples: Annotated[int, at_least(1), also("--num-generations", "--num-return-sequences")] = 1
    """Responses per prompt."""
    temperature: Annotated[float, at_least(0)] = 1.0
    """Sampling temperature; 0 takes the most likely token."""
    top_k: Annotated[int, at_least(0)] = 0
    """Sample from the k most likely tokens; 0 for all."""
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0
    """Sample from the most likely tokens that together have this probability; 1 for all."""
    greedy: bool = False
    """Always take the most likely token, as with temperature 0."""
    stop: tuple[str, ...] = ()
    """Texts that also end a response; they are matched as the tokens that they are encoded as."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Random seed. The same seed, prompts and batch size give the same responses."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Prompts that go through the model at once."""


class Answer(NamedTuple):
    """An answer to a prompt."""

    prompt: Any  # as it was given: text or messages
    completion: str  # text, without the end token
    tokens: int  # of the answer; its end token counts
    finished: bool  # whether it ended by itself, not at the limit
    # of all its tokens together, in nats, under the distribution they were drawn from; of the likeliest
    # answer (temperature 0) at temperature 1
    log_prob: float
    columns: Mapping[str, Any]  # what else stood in the prompt's record


def length_of(drawing: GenerationOptions, config: ModelConfig) -> int:
    """Maximum response length in tokens."""
    given = drawing.max_new_tokens
    return min(USUAL_LENGTH, config.context // 2) if given is None else given


def prompts_of(
    source: Source,
    config: ModelConfig,
    tokenizer: Tokenizer,
    drawing: GenerationOptions,
    overlong: Literal["refuse", "drop"] = "refuse",
    invalid: Invalid = "refuse",
) -> Dataset[Prompt]:
    """Prompts that leave a model room for its answers.

    source             a file of JSON lines with `prompt`, or such records
    overlong, invalid  as of `data.read_prompts`

    Raises UserError for what cannot be drawn, and for prompts that cannot be read or leave no room.
    """
    length = length_of(checked(drawing), config)
    room = config.context - length
    if room < 1:
        raise UserError(
            f"max_new_tokens is {length}: the model's context is {config.context} "
            "tokens, and the prompt needs some"
        )
    return read_prompts(source, tokenizer, room, overlong, invalid)


def answers(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Prompt], drawing: GenerationOptions
) -> Iterator[Answer]:
    """Answers to all prompts (of `prompts_of`), those of one prompt side by side, in the prompts' order."""
    length = length_of(drawing, model.config)
    room = model.config.context - length
    sampling = Sampling(
        length=length,
        temperature=0.0 if drawing.greedy else drawing.temperature,
        top_k=drawing.top_k,
        top_p=drawing.top_p,
        samples=drawing.samples,
        eos_ids=tokenizer.eos_ids,
        stop_sequences=stop_sequences(tokenizer, drawing.stop),
    )
    key = jax.random.key(drawing.seed)
    rows = min(drawing.batch_size, len(prompts))
    for start in range(0, len(prompts), rows):
        batch = prompts[start : start + rows]
        filled = [*batch, *[batch[0]] * (rows - len(batch))]  # the last batch has the others' shape
        width = bucket(max(len(prompt.ids) for prompt in filled), largest=room)
        ids, lengths = pad_left([prompt.ids for prompt in filled], width, tokenizer.pad_id)
        drawn = jax.device_get(
            sample(model, ids, lengths, jax.random.fold_in(key, start), sampling, tokenizer.pad_id)
        )
        for row in range(len(batch) * drawing.samples):
            size, place = int(drawn.lengths[row]), row // drawing.samples
            yield Answer(
                batch[place].given,
                tokenizer.decode(drawn.ids[row, :size]),
                size,
                bool(drawn.finished[row]),
                float(np.sum(drawn.log_probs[row, :size])),
                batch[place].columns,
            )


def stop_sequences(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Tokens that end an answer, for texts that do.

    A stop is matched as its tokens, not as its text: an answer that has the same letters in other tokens
    goes on. It has those that it is encoded as alone; and those that it has behind other text, where these
    are others, since some tokenizers (SentencePiece's) mark a blank before whatever they are given alone.

    Raises UserError for a text without tokens, which would end every answer, or that cannot be encoded.
    """
    found: dict[tuple[int, ...], None] = {}
    for text in texts:
        try:
            alone = tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"stop {text!r}: {error}") from error
        if not alone:
            raise UserError(f"stop is {text!r}, which has no token and would end every answer: leave it out")
        found |= {tuple(alone): None, tuple(tokenizer.behind_text(text)): None}
    return tuple(found)
