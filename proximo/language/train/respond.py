"""Responses to prompts, for `proximo lm generate` and `chat`, and from Python."""

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
    """How responses are sampled."""

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
    """Stop sequences: texts that also end a response. They are matched token by token, as encoded."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Random seed. The same seed, prompts and batch size give the same responses."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Prompts per forward pass."""


class Answer(NamedTuple):
    """A response to a prompt."""

    prompt: Any  # as given: text or messages
    completion: str  # text, without the end token
    tokens: int  # including the end token
    finished: bool  # whether it ended with an end token or stop sequence, not at the maximum length
    # of all its tokens together, in nats, under the distribution that they were sampled from; of a greedy
    # response at temperature 1
    log_prob: float
    columns: Mapping[str, Any]  # the other columns of the prompt's record


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
    """Prompts that leave room for a response in the model's context.

    source             a file of JSON lines with `prompt`, or such records
    overlong, invalid  as in `data.read_prompts`

    Raises UserError for invalid options, and for prompts that cannot be read or leave no room.
    """
    length = length_of(checked(drawing), config)
    room = config.context - length
    if room < 1:
        raise UserError(
            f"max_new_tokens is {length}: the model's context is {config.context} "
            "tokens, and the prompt needs some of them"
        )
    return read_prompts(source, tokenizer, room, overlong, invalid)


def answers(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Prompt], drawing: GenerationOptions
) -> Iterator[Answer]:
    """Responses to all prompts of `prompts_of`, in their order; those to one prompt stand side by side."""
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
    """Stop sequences as tokens.

    They are matched as tokens, not as text: a response with the same letters in other tokens goes on. Each
    text is matched in two forms: as it is encoded alone, and as it is encoded after other text. The two may
    differ, since some tokenizers (SentencePiece's) add a space before a text that is encoded alone.

    Raises UserError for a text that cannot be encoded, or that has no tokens, which would end every response.
    """
    found: dict[tuple[int, ...], None] = {}
    for text in texts:
        try:
            alone = tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"stop {text!r}: {error}") from error
        if not alone:
            raise UserError(f"stop is {text!r}, which has no token and would end every response: remove it")
        found |= {tuple(alone): None, tuple(tokenizer.behind_text(text)): None}
    return tuple(found)
