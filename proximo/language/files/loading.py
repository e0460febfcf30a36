"""Loads models, tokenizers and data for a command's options; selects the arrays that are trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from proximo.errors import UserError
from proximo.language.files.adapter_files import base_folder, load_merged_model
from proximo.language.files.folder import check_vocabulary, load_config
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.adapters import LoRA, trainable, with_adapters
from proximo.language.model.config import ModelConfig
from proximo.language.model.sharding import shard
from proximo.language.model.transformer import Transformer, new_model, with_tokens
from proximo.language.text.chat_records import with_template_variables
from proximo.language.text.records import Dataset
from proximo.language.text.tokenizer import Tokenizer, load_tokenizer
from proximo.learn.mesh import in_host_memory, mesh_of

Model = TypeVar("Model")
Record = TypeVar("Record")


def load_model_and_tokenizer(options: ModelOptions, key: PRNGKeyArray) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer of a folder, or of an id of the Hub.

    key  for random weights: all of them (`from_scratch`), or the adapters'

    Raises UserError if there is no model, if it is damaged or not supported, if the tokenizer has ids that
    the model lacks, and for invalid adapters.
    """
    weights_key, adapters_key = jax.random.split(key)
    mesh = mesh_of(options.mesh)
    folder = base_folder(options.model)
    tokenizer = load_tokenizer(folder, options.eos_token, options.pad_token, options.chat_template)
    tokenizer = with_template_variables(tokenizer, options.chat_template_kwargs)
    check_vocabulary(load_config(folder), tokenizer, options.model)
    with in_host_memory(mesh):
        made_anew = options.from_scratch
        model = new_model(load_config(folder), weights_key) if made_anew else load_merged_model(options.model)
        model = with_tokens(model, tokenizer.backend.get_vocab().values())
        if options.save_dtype is not None:
            model = replace(model, config=replace(model.config, dtype=options.save_dtype))
        model = add_adapters(model, options, adapters_key)
    return shard(model, mesh), tokenizer


def add_adapters(model: Model, options: ModelOptions, key: PRNGKeyArray) -> Model:
    """The model, with new adapters if the options ask for them; they have no effect yet.

    Raises UserError for adapter options without a rank.
    """
    if options.lora_rank == 0:
        for name in ("lora_alpha", "lora_targets"):
            if getattr(options, name) != getattr(ModelOptions, name):
                raise UserError(f"{name} is for adapters, but lora_rank is 0: set a rank, such as 16")
        return model
    return with_adapters(model, LoRA(options.lora_rank, options.lora_alpha, options.lora_targets), key)


def partition_trainable(model: Any) -> tuple[Any, Any]:
    """The trained and the frozen arrays: two trees like the model, with None where the other has an array.

    With adapters, only these and the heads beside the transformer are trained; otherwise everything is.
    """
    learning, frozen = eqx.partition(model, trainable(model))
    return learning, frozen


def combine(learning: Any, frozen: Any) -> Any:
    """The model from the two trees of `partition_trainable`."""
    return eqx.combine(learning, frozen)


def row_length(length: int, config: ModelConfig) -> int:
    """Maximum tokens of a row: the option, but at most the model's context."""
    return min(length, config.context)


class DataOptions(Protocol):
    """Where a command's data are."""

    @property
    def data(self) -> str: ...
    @property
    def evaluation_data(self) -> str | None: ...


def read_files(
    options: DataOptions, read: Callable[[str], Dataset[Record]]
) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[str, ...]]:
    """The data, the held-out data (empty if no file is named), and remarks for the user."""
    data = read(options.data)
    held_out = Dataset[Record]((), 0, 0) if options.evaluation_data is None else read(options.evaluation_data)
    notes = data.notes(options.data) + held_out.notes(options.evaluation_data)
    return data.records, held_out.records, notes
