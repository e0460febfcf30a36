"""A language model with its tokenizer, for use from Python."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from proximo.errors import UserError
from proximo.language.files.adapter_files import base_folder, is_reward_model, load_merged_model
from proximo.language.files.folder import check_vocabulary, save_model
from proximo.language.inputs import model_folder
from proximo.language.model.compiling import jit
from proximo.language.model.config import ModelConfig
from proximo.language.model.transformer import Transformer, with_tokens
from proximo.language.text.chat_records import with_template_variables
from proximo.language.text.tokenizer import Tokenizer, load_tokenizer
from proximo.language.train.respond import GenerationOptions, answers, prompts_of
from proximo.options import options_from
from proximo.runs.forks import refuse_after_fork


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model with its tokenizer.

    transformer  the model; ids without a token have probability 0
    tokenizer    converts text to token ids, and back
    """

    transformer: Transformer
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        check_vocabulary(self.config, self.tokenizer, "the model")
        known = with_tokens(self.transformer, self.tokenizer.backend.get_vocab().values())
        object.__setattr__(self, "transformer", known)

    def __repr__(self) -> str:
        config, numbers = self.config, sum(np.size(leaf) for leaf in jax.tree.leaves(self.transformer))
        return (
            f"LanguageModel({config.family}: {len(config.layers)} layers, width {config.size}, "
            f"vocabulary {config.vocabulary:,}, {numbers:,} parameters)"
        )

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.transformer.config

    def logits(self, ids: Any, mask: Any = None) -> np.ndarray:
        """Logits of the next token after each position, [B, L, V] float32.

        ids   token ids, [B, L]
        mask  [B, L], 1 for a token, 0 for padding before or after the tokens; by default all are tokens

        Raises UserError for other shapes, for ids outside the vocabulary, for padding between tokens, and
        for texts longer than a model with learned positions supports.
        """
        try:
            ids = np.asarray(ids)
        except ValueError:  # rows of different lengths
            raise UserError(
                "ids has rows of different lengths: pad them, and mark the padding with 0 in mask"
            ) from None
        mask = np.ones_like(ids) if mask is None else np.asarray(mask)
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or ids.size == 0:
            raise UserError(f"ids is {ids.dtype}{list(ids.shape)}: give whole numbers, [texts, tokens]")
        if mask.shape != ids.shape:
            raise UserError(f"mask is {list(mask.shape)}: it must have the shape of ids, {list(ids.shape)}")
        here = ids[mask != 0]
        if here.size and not 0 <= here.min() <= here.max() < self.config.vocabulary:
            wrong = here.min() if here.min() < 0 else here.max()
            raise UserError(f"the model has no token id {wrong}: give 0 to {self.config.vocabulary - 1}")
        segments = (mask != 0).astype(np.int32)
        if np.any(np.sum(np.diff(segments, axis=1, prepend=0) == 1, axis=1) > 1):
            raise UserError("mask has padding between tokens: padding must stand before or after all tokens")
        longest = int(segments.sum(axis=1).max())
        if self.config.learned_positions and longest > self.config.context:
            raise UserError(f"a text has {longest} tokens, but the model supports {self.config.context}")
        return np.asarray(_logits(self.transformer, ids.astype(np.int32), segments))

    def generate(self, prompts: Any, **options: Any) -> list[Any]:
        """One response per prompt; with `samples` above 1, a list of responses per prompt.

            model.generate("Once upon a time", max_new_tokens=32, temperature=0.7, stop="\\n")

        prompts  a text, a list of texts, a conversation (a list of {"role", "content"}), or a list of these
        options  sampling options of `proximo lm generate` (see its --help), with underscores

        Raises UserError for empty or too long prompts, and for invalid options.
        """
        drawing = options_from(GenerationOptions, options)
        records = [{"prompt": prompt} for prompt in as_prompts(prompts)]
        asked = prompts_of(records, self.config, self.tokenizer, drawing).records
        found = [one.completion for one in answers(self.transformer, self.tokenizer, asked, drawing)]
        many = drawing.samples
        return found if many == 1 else [found[start : start + many] for start in range(0, len(found), many)]

    def save(self, folder: str | Path) -> Path:
        """Save model and tokenizer as a folder in the Hugging Face Hub's format; returns the folder."""
        save_model(Path(folder), self.transformer, self.tokenizer)
        return Path(folder)


@jit
def _logits(model: Transformer, ids: Any, segments: Any) -> jax.Array:
    return model.logits(model.hidden(ids, segments))


def as_prompts(prompts: Any) -> list[Any]:
    """The argument of `generate` as a list of prompts, each a text or a list of messages."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise UserError(f"prompts is {prompts!r}: give a text, a conversation, or a list of these")
    found = list(prompts)
    if found and all(isinstance(one, Mapping) for one in found):
        return [found]
    return found


def load(
    folder: str | os.PathLike[str],
    *,
    eos_token: str | None = None,
    pad_token: str | None = None,
    chat_template: str | os.PathLike[str] | None = None,
    chat_template_kwargs: Mapping[str, Any] | str | None = None,
) -> LanguageModel:
    """Load a language model with its tokenizer.

        model = proximo.language.load("Qwen/Qwen2.5-0.5B-Instruct")

    folder                a model's folder, a run's folder or result, an id of the Hugging Face Hub, or
                          adapters, which name their base
    eos_token, pad_token  end-of-text and padding tokens, if the tokenizer does not name them
    chat_template         a file with a chat template (Jinja), to use instead of the model's
    chat_template_kwargs  variables for the chat template, such as {"enable_thinking": False}

    Raises UserError if there is no model, or if it is damaged or not supported.
    """
    refuse_after_fork()
    name = model_folder(folder)
    place = base_folder(name)
    if is_reward_model(str(place)):
        raise UserError(f"{name} is a reward model and cannot generate text: pass it as reward_model")
    template = None if chat_template is None else Path(chat_template)
    tokenizer = with_template_variables(
        load_tokenizer(place, eos_token, pad_token, template), chat_template_kwargs
    )
    return LanguageModel(load_merged_model(name), tokenizer)
