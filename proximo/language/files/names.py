"""Names and layouts of each family's tensors on the Hub: tables, without code per family."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from proximo.language.model.config import ModelConfig


@dataclass(frozen=True)
class TensorNames:
    """A family's names. `{}` stands for the number of a layer.

    prefix         before every name but the heads'; files of a bare trunk leave it out
    tables         arrays, Hub -> ours
    norms          modules with a weight, or weight and bias, that lie alike
    maps           linear maps; several of ours lie side by side in one of the Hub's
    inputs_first   maps lie [inputs, outputs] there too (GPT-2), else [outputs, inputs]
    architectures  the classes in transformers: language model, sequence classification
    """

    prefix: str
    tables: Mapping[str, str]
    norms: Mapping[str, str]
    maps: Mapping[str, tuple[str, ...]]
    inputs_first: bool
    architectures: tuple[str, str]


GPT2 = TensorNames(
    prefix="transformer.",
    tables={"wte.weight": "embedding", "wpe.weight": "positions"},
    norms={
        "ln_f": "norm",
        "h.{}.ln_1": "blocks.{}.attention_norm",
        "h.{}.ln_2": "blocks.{}.mlp_norm",
    },
    maps={
        "h.{}.attn.c_attn": tuple(f"blocks.{{}}.attention.{part}" for part in ("query", "key", "value")),
        "h.{}.attn.c_proj": ("blocks.{}.attention.output",),
        "h.{}.mlp.c_fc": ("blocks.{}.mlp.up",),
        "h.{}.mlp.c_proj": ("blocks.{}.mlp.down",),
    },
    inputs_first=True,
    architectures=("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
)

LLAMA = TensorNames(
    prefix="model.",
    tables={"embed_tokens.weight": "embedding"},
    norms={
        "norm": "norm",
        "layers.{}.input_layernorm": "blocks.{}.attention_norm",
        "layers.{}.self_attn.q_norm": "blocks.{}.attention.query_norm",
        "layers.{}.self_attn.k_norm": "blocks.{}.attention.key_norm",
        "layers.{}.post_attention_layernorm": "blocks.{}.mlp_norm",
    },
    maps={
        "layers.{}.self_attn.q_proj": ("blocks.{}.attention.query",),
        "layers.{}.self_attn.k_proj": ("blocks.{}.attention.key",),
        "layers.{}.self_attn.v_proj": ("blocks.{}.attention.value",),
        "layers.{}.self_attn.o_proj": ("blocks.{}.attention.output",),
        "layers.{}.mlp.gate_proj": ("blocks.{}.mlp.gate",),
        "layers.{}.mlp.up_proj": ("blocks.{}.mlp.up",),
        "layers.{}.mlp.down_proj": ("blocks.{}.mlp.down",),
    },
    inputs_first=False,
    architectures=("LlamaForCausalLM", "LlamaForSequenceClassification"),
)

GEMMA_NORMS = {
    **LLAMA.norms,
    "layers.{}.post_attention_layernorm": "blocks.{}.after_attention",
    "layers.{}.pre_feedforward_layernorm": "blocks.{}.mlp_norm",
    "layers.{}.post_feedforward_layernorm": "blocks.{}.after_mlp",
}


def _called(name: str, **differences: Any) -> TensorNames:
    return replace(
        LLAMA, architectures=(f"{name}ForCausalLM", f"{name}ForSequenceClassification"), **differences
    )


NAMINGS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": _called("Mistral"),
    "qwen2": _called("Qwen2"),
    "qwen3": _called("Qwen3"),
    "gemma2": _called("Gemma2", norms=GEMMA_NORMS),
    "gemma3_text": replace(
        _called("Gemma3", norms=GEMMA_NORMS),
        architectures=("Gemma3ForCausalLM", "Gemma3TextForSequenceClassification"),
    ),
}

HEADS = {"lm_head": "head", "score": "score"}
BUFFERS = re.compile(r"(^|\.)attn\.(bias|masked_bias)$|(^|\.)rotary_emb\.inv_freq$")  # computed, not learned


class Entry(NamedTuple):
    """A tensor of the Hub's: its name without prefix, the arrays of ours that make it up, how it lies."""

    hub: str
    ours: tuple[str, ...]
    transposed: bool


def maps_of(config: ModelConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The layers' linear maps as modules: the Hub's name, with prefix, and ours."""
    naming = NAMINGS[config.family]
    for index in range(len(config.layers)):
        for hub, ours in naming.maps.items():
            yield naming.prefix + hub.format(index), tuple(name.format(index) for name in ours)


def entries(config: ModelConfig, names: Mapping[str, Any], inside: str = "") -> list[Entry]:
    """The tensors of a model, in a fixed order.

    names   of the arrays that it has
    inside  where in these the transformer's stand, such as "trunk."
    """
    naming = NAMINGS[config.family]
    numbers = range(len(config.layers))
    found = [Entry(hub, (inside + table,), False) for hub, table in naming.tables.items()]
    for hub, norm in naming.norms.items():
        for index in numbers if "{}" in hub else [0]:
            for part in ("weight", "bias"):
                ours = f"{inside}{norm.format(index)}.{part}"
                found.append(Entry(f"{hub.format(index)}.{part}", (ours,), False))
    for hub, maps in maps_of(config):
        for part in ("weight", "bias"):
            here = tuple(f"{inside}{name}.{part}" for name in maps)
            turned = part == "weight" and not naming.inputs_first
            found.append(Entry(f"{hub.removeprefix(naming.prefix)}.{part}", here, turned))
    found += [
        Entry("lm_head.weight", (f"{inside}head.weight",), True),
        Entry("score.weight", ("score.weight",), True),
    ]
    return [entry for entry in found if all(name in names for name in entry.ours)]
