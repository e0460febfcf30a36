"""A small new model: a tokenizer trained on your texts, and random weights. Nothing is downloaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from proximo.core.ranges import at_least, between
from proximo.errors import UserError
from proximo.language.files.folder import save_model
from proximo.language.model.config import model_config
from proximo.language.model.transformer import new_model
from proximo.language.text.data_files import lines_of
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.text.tokenizer_backend import id_of
from proximo.language.train.options import LARGEST_SEED
from proximo.options import FILE, checked

PAD, END, BEGIN, CLOSE = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"
HEAD = 32  # width of an attention head
COLUMNS = ("text", "messages", "prompt", "completion", "chosen", "rejected")
TEMPLATE = """{% for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message.content + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


class Shape(NamedTuple):
    """The size of a model: its layers, the width of its residual stream, and its vocabulary in tokens."""

    layers: int
    width: int
    vocabulary: int


# Characters of the texts, up to which a shape is enough: with some four to a token and twenty tokens to a
# weight (Hoffmann et al. 2022) each is far beyond what its texts can fill, and the first trains in minutes.
SHAPES = ((3_000_000, Shape(4, 128, 2048)), (60_000_000, Shape(6, 256, 8192)))
LARGEST = Shape(8, 512, 16384)


@dataclass(frozen=True, kw_only=True)
class NewModelOptions:
    """Make a small model: a tokenizer trained on your texts, and random weights."""

    texts: Annotated[Path, FILE]
    """Your texts: JSON lines as for `proximo lm sft`, or a plain text file. If they contain `messages`, the
    model gets a chat template."""
    layers: Annotated[int | None, at_least(1)] = None
    """Number of layers; by default 4, 6 or 8, depending on the amount of text."""
    width: Annotated[int | None, at_least(HEAD)] = None
    """Width of the model, a multiple of 32; by default 128, 256 or 512, depending on the amount of text."""
    vocabulary: Annotated[int | None, between(300, 2**20)] = None
    """Maximum vocabulary size in tokens; by default 2,048, 8,192 or 16,384, depending on the amount of
    text."""
    context: Annotated[int, at_least(8)] = 256
    """Context length in tokens, for prompt and response together."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Random seed for the weights."""


class NewModel(NamedTuple):
    """A new model's size and its texts."""

    shape: Shape
    weights: int  # parameters
    characters: int  # of the texts
    chat: bool  # whether it has a chat template


def make_model(folder: Path, options: NewModelOptions) -> NewModel:
    """Write a model folder. Raises UserError for invalid options or texts, and if the folder exists."""
    options = checked(options)
    if folder.exists():
        raise UserError(f"{folder} already exists: choose another folder")
    texts, chat = read_texts(options.texts)
    characters = sum(map(len, texts))
    usual = next((shape for most, shape in SHAPES if characters <= most), LARGEST)
    layers, width, vocabulary = (
        getattr(usual, name) if getattr(options, name) is None else getattr(options, name)
        for name in Shape._fields
    )
    if width % HEAD:
        raise UserError(f"width is {width}: it must be a multiple of {HEAD}, the width of an attention head")
    tokenizer = train_tokenizer(texts, vocabulary, chat)
    config = model_config(
        dict(
            model_type="llama",
            vocab_size=tokenizer.vocab_size,
            hidden_size=width,
            intermediate_size=-(-8 * width // 3 // HEAD) * HEAD,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            num_key_value_heads=width // HEAD,
            max_position_embeddings=options.context,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        )
    )
    model = new_model(config, jax.random.key(options.seed))
    save_model(folder, model, tokenizer)
    weights = sum(leaf.size for leaf in jax.tree.leaves(model))
    return NewModel(Shape(layers, width, tokenizer.vocab_size), weights, characters, chat)


def read_texts(path: Path) -> tuple[list[str], bool]:
    """The texts of a file, and whether some are conversations.

    Raises UserError if the file cannot be read or has no text.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    if start.startswith((b"{", b"[")) or path.suffix in (".jsonl", ".json"):
        records = [line.record for line in lines_of(path)]
        found = [text for record in records for name in COLUMNS for text in _strings(record.get(name))]
        chat = any(isinstance(record.get(name), list) for record in records for name in COLUMNS)
    else:
        try:
            found, chat = path.read_text("utf-8").splitlines(keepends=True), False
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text ({error.reason}): save the file as UTF-8") from error
    texts = [text for text in found if text.strip()]
    if not texts:
        raise UserError(f"{path} has no text: give lines, or JSON lines with {', '.join(COLUMNS)}")
    return texts, chat


def _strings(value: Any) -> Iterator[str]:
    """The texts in a column: one text, or those of messages, each with the role that the template writes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if isinstance(role := value.get("role"), str):
            yield f"{role}\n"
        yield from _strings(value.get("content", value.get("text", value.get("value"))))
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def train_tokenizer(texts: list[str], vocabulary: int, chat: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer (Radford et al. 2019) trained on these texts; it can encode any text.

    vocabulary  maximum number of tokens
    chat        whether to add the special tokens and template of conversations (ChatML)
    """
    ends = [PAD, END, *([BEGIN, CLOSE] if chat else [])]
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=ends,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    eos = CLOSE if chat else END
    settings = {"clean_up_tokenization_spaces": False, "eos_token": eos, "pad_token": PAD}
    template = TEMPLATE if chat else None
    return Tokenizer(
        backend, None, (id_of(backend, eos),), id_of(backend, PAD), template=template, settings=settings
    )


def as_plain(made: NewModel) -> dict[str, Any]:
    """The new model's size as plain data."""
    return {**made.shape._asdict(), "weights": made.weights, "characters": made.characters, "chat": made.chat}


def in_words(made: NewModel) -> str:
    """The new model's size in one line."""
    layers, width, vocabulary = made.shape
    chat = "; with a chat template" if made.chat else ""
    return (
        f"{layers} layers x {width}, {vocabulary:,} tokens, {made.weights:,} random weights, from "
        f"{made.characters:,} characters{chat}"
    )
