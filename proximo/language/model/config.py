"""A model's `config.json` as the options of one decoder-only transformer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proximo.errors import UserError
from proximo.language.model.rotary import Rotary, rotary_of


@dataclass(frozen=True)
class Layer:
    """Options that differ between a model's layers."""

    window: int | None  # tokens that a query sees, itself included; None for all before it
    rotary: Rotary | None  # how positions turn queries and keys; None where positions are learned


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a transformer; each family is a choice of these options."""

    family: str  # `model_type` of the file, such as "llama"
    vocabulary: int  # tokens that the embedding has, V
    size: int  # width of the residual stream, D
    heads: int  # query heads H; key and value heads K, which divide them (grouped queries)
    kv_heads: int
    head_size: int  # width of a head
    inner: int  # width of the MLP
    context: int  # longest sequence in tokens
    layers: tuple[Layer, ...]  # one entry per layer
    activation: str  # "gelu" (tanh), "gelu-exact" or "silu"
    source: str  # the file itself, canonical JSON, to be written back
    gated: bool = True  # MLP of the form down(activation(gate x) * up x)
    layer_norm: bool = False  # LayerNorm with biases instead of RMSNorm
    norm_epsilon: float = 1e-6  # added under the norms' root
    norm_offset: float = 0.0  # added to an RMSNorm's stored weight: 1 in Gemma, which stores w - 1
    sandwich: bool = False  # norms after attention and MLP too (Gemma)
    learned_positions: bool = False  # a table of positions is added to the embedding (GPT-2)
    query_key_norm: bool = False  # RMSNorm of each head's queries and keys
    attention_bias: bool = False  # on queries, keys and values
    output_bias: bool = False  # on the attention's output
    inner_bias: bool = False  # on the MLP
    attention_scale: float = 1.0  # of query-key products
    attention_cap: float | None = None  # they are held within +- this by tanh; None for not at all
    logit_cap: float | None = None  # the same of the logits
    embedding_scale: float = 1.0  # of the embedded tokens
    tied: bool = True  # the head is the embedding, turned round
    initial_std: float = 0.02
    # ids that no token has, as ranges (first, one behind the last): they are never drawn. No file says
    # them; they are known where there is a tokenizer (`with_tokens`)
    absent: tuple[tuple[int, int], ...] = ()
    # "float32", "bfloat16" or "float16": what weights are saved in; as the files had them that a model
    # came from. Those that learn are float32 whatever it says
    dtype: str = "float32"
    generation: str = "{}"  # the content of `generation_config.json`, canonical JSON, to be written back

    def as_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        content: dict[str, Any] = json.loads(self.source)
        return content


ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu": "gelu-exact",
    "silu": "silu",
    "swish": "silu",
}


def model_config(content: Mapping[str, Any]) -> ModelConfig:
    """The configuration that a `config.json` describes.

    content  the file, as of the Hugging Face Hub, of transformers 4 or 5

    Raises UserError for an architecture that is not supported (and says which are), for fields that are
    missing and for sizes that do not fit together.
    """
    family = content.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(f"model_type {family!r} is not supported: use one of {', '.join(FAMILIES)}")
    try:
        config = _gpt2(content) if family == "gpt2" else _rotary_family(content)
    except KeyError as error:
        raise UserError(f"config.json of a {family} model has no {error}") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"config.json of a {family} model cannot be read: {error}") from error
    return _checked(config)


def _gpt2(c: Mapping[str, Any]) -> ModelConfig:
    size, heads = c["n_embd"], c["n_head"]
    if c.get("scale_attn_by_inverse_layer_idx") or not c.get("scale_attn_weights", True):
        raise ValueError("scale_attn_by_inverse_layer_idx and unscaled attention are not supported")
    if c.get("add_cross_attention"):
        raise ValueError("attention to another model (add_cross_attention) is not supported")
    return ModelConfig(
        family="gpt2",
        vocabulary=c["vocab_size"],
        size=size,
        heads=heads,
        kv_heads=heads,
        head_size=size // heads,
        inner=c.get("n_inner") or 4 * size,
        context=c["n_positions"],
        layers=(Layer(None, None),) * c["n_layer"],
        activation=_activation(c, "activation_function", "gelu_new"),
        source=json.dumps(dict(c), sort_keys=True),
        gated=False,
        layer_norm=True,
        norm_epsilon=c.get("layer_norm_epsilon", 1e-5),
        learned_positions=True,
        attention_bias=True,
        output_bias=True,
        inner_bias=True,
        attention_scale=(size // heads) ** -0.5,
        tied=c.get("tie_word_embeddings", True),
        initial_std=c.get("initializer_range", 0.02),
    )


def _rotary_family(c: Mapping[str, Any]) -> ModelConfig:
    """Llama and all after it."""
    family = c["model_type"]
    c = {**DEFAULTS.get(family, {}), **c}
    size, heads = c["hidden_size"], c["num_attention_heads"]
    head_size = c.get("head_dim") or size // heads
    gemma = family in ("gemma2", "gemma3_text")
    if gemma and c.get("use_bidirectional_attention"):
        raise ValueError("bidirectional attention is not supported")
    activation = ("hidden_activation", "gelu_pytorch_tanh") if gemma else ("hidden_act", "silu")
    attention_cap, logit_cap = (50.0, 30.0) if family == "gemma2" else (None, None)
    bias = bool(c.get("attention_bias", False)) and family not in ("mistral", "qwen2")
    return ModelConfig(
        family=family,
        vocabulary=c["vocab_size"],
        size=size,
        heads=heads,
        kv_heads=c.get("num_key_value_heads") or heads,
        head_size=head_size,
        inner=c["intermediate_size"],
        context=c.get("max_position_embeddings", 2048),
        layers=tuple(
            Layer(c["sliding_window"] if kind == "sliding_attention" else None, rotary_of(c, kind, head_size))
            for kind in _layer_kinds(c)
        ),
        activation=_activation(c, *activation),
        source=json.dumps(dict(c), sort_keys=True),
        norm_epsilon=c.get("rms_norm_eps", 1e-6),
        norm_offset=1.0 if gemma else 0.0,
        sandwich=gemma,
        query_key_norm=family in ("qwen3", "gemma3_text"),
        attention_bias=bias or family == "qwen2",
        output_bias=bias,
        inner_bias=family == "llama" and bool(c.get("mlp_bias", False)),
        attention_scale=(c.get("query_pre_attn_scalar", 256) if gemma else head_size) ** -0.5,
        attention_cap=c.get("attn_logit_softcapping", attention_cap) if gemma else None,
        logit_cap=c.get("final_logit_softcapping", logit_cap) if gemma else None,
        embedding_scale=size**0.5 if gemma else 1.0,
        tied=c.get("tie_word_embeddings", gemma),
        initial_std=c.get("initializer_range", 0.02),
    )


def _layer_kinds(c: Mapping[str, Any]) -> list[str]:
    """`full_attention` or `sliding_attention` for each layer; files before `layer_types` imply it."""
    number, family = c["num_hidden_layers"], c["model_type"]
    full, sliding = "full_attention", "sliding_attention"
    if c.get("sliding_window") is None or family == "llama":
        return [full] * number
    if family == "mistral":
        return [sliding] * number
    if family in ("qwen2", "qwen3") and not c.get("use_sliding_window", False):
        return [full] * number
    if c.get("layer_types") is not None:
        kinds = list(c["layer_types"])
        if len(kinds) != number or not set(kinds) <= {full, sliding}:
            raise ValueError(f"layer_types must name {full} or {sliding} for each of {number} layers")
        return kinds
    if family in ("qwen2", "qwen3"):
        return [sliding if index >= c.get("max_window_layers", 28) else full for index in range(number)]
    every = 2 if family == "gemma2" else c.get("sliding_window_pattern", 6)
    return [full if (index + 1) % every == 0 else sliding for index in range(number)]


DEFAULTS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": {"sliding_window": 4096},
    "qwen3": {"sliding_window": 4096, "head_dim": 128},
    "gemma2": {"sliding_window": 4096, "head_dim": 256, "num_key_value_heads": 4},
    "gemma3_text": {"sliding_window": 4096, "head_dim": 256, "num_key_value_heads": 4},
}
"""Fields that a family's files may leave out."""

FAMILIES = ("gpt2", "llama", *DEFAULTS)


def _activation(c: Mapping[str, Any], field: str, default: str) -> str:
    name = c.get(field) or default
    if name not in ACTIVATIONS:
        raise ValueError(f"{field} {name!r} is not supported: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _checked(config: ModelConfig) -> ModelConfig:
    sizes = ("vocabulary", "size", "heads", "kv_heads", "head_size", "inner", "context")
    for name in sizes:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"config.json: {name} is {value!r}, not a positive integer")
    if not config.layers:
        raise UserError("config.json: the model has no layers")
    if config.heads % config.kv_heads:
        raise UserError(f"config.json: {config.kv_heads} key-value heads do not divide {config.heads} heads")
    if config.family == "gpt2" and config.size % config.heads:
        raise UserError(f"config.json: {config.heads} heads do not divide a width of {config.size}")
    return config
