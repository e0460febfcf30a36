"""Tiny models of every family, as `config.json` of transformers 4 has them, and the library as the oracle.

Sizes are such that nothing hides: groups of queries share keys, heads are not size / heads wide, windows are
shorter than the texts, and every array is random, norms and biases too.
"""

import functools
import json
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from proximo.language.model.config import model_config
from proximo.language.model.transformer import new_model

LENGTH, PADDING = 12, 5  # tokens of a text; of these, how many are padding in the second one

ROTARY = {
    "vocab_size": 41,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA = ROTARY | {"model_type": "llama", "rope_theta": 10_000.0, "hidden_act": "silu"}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048}
QWEN = ROTARY | {"rope_theta": 1e6, "hidden_act": "silu", "sliding_window": 4}
GEMMA = ROTARY | {
    "head_dim": 6,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 9,
    "sliding_window": 4,
    "tie_word_embeddings": True,
    "rope_theta": 10_000.0,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 41,
    "n_embd": 16,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 32,
    "initializer_range": 0.3,
    "activation_function": "gelu_new",
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}

CONFIGS = {
    "gpt2": GPT2,
    "gpt2-untied": GPT2 | {"tie_word_embeddings": False, "activation_function": "gelu", "n_inner": 20},
    "llama": LLAMA,
    "llama-tied": LLAMA | {"tie_word_embeddings": True, "rope_theta": 100_000, "num_key_value_heads": 1},
    "llama-biases": LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 6},
    "llama-3": LLAMA | {"rope_theta": 500_000.0, "rope_scaling": LLAMA_3},
    "llama-linear": LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama-yarn": LLAMA | {"head_dim": 16, "max_position_embeddings": 16384, "rope_scaling": YARN},
    "llama-yarn-scaled": LLAMA
    | {
        "head_dim": 16,
        "max_position_embeddings": 16384,
        "rope_scaling": YARN | {"beta_fast": 8, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 0.4},
    },
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 4, "head_dim": 6},
    "mistral-whole": LLAMA | {"model_type": "mistral", "sliding_window": None},
    "qwen2": QWEN | {"model_type": "qwen2", "use_sliding_window": False, "tie_word_embeddings": True},
    "qwen2-yarn": QWEN
    | {
        "model_type": "qwen2",
        "head_dim": 16,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 1.5, "truncate": False},
    },
    "qwen2-window": QWEN | {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": QWEN | {"model_type": "qwen3", "head_dim": 6, "use_sliding_window": False},
    "qwen3-window": QWEN
    | {"model_type": "qwen3", "head_dim": 6, "use_sliding_window": True, "max_window_layers": 0}
    | {"attention_bias": True, "tie_word_embeddings": True},
    "gemma2": GEMMA
    | {"model_type": "gemma2", "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "head_dim": 8},
    "gemma3": GEMMA
    | {"model_type": "gemma3_text", "rope_local_base_freq": 100.0, "rope_theta": 1e6}
    | {
        "sliding_window_pattern": 2,
        "num_hidden_layers": 3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gemma3-untied": GEMMA
    | {"model_type": "gemma3_text", "attention_bias": True, "tie_word_embeddings": False}
    | {"layer_types": ["full_attention", "sliding_attention"], "final_logit_softcapping": 3.0},
}


class Batch(NamedTuple):
    """Two texts, the second padded on the left."""

    ids: np.ndarray
    mask: np.ndarray


def batch():
    ids = np.random.default_rng(0).integers(3, 41, (2, LENGTH))
    mask = np.ones_like(ids)
    mask[1, :PADDING] = 0
    return Batch(np.where(mask == 1, ids, 0), mask)


@functools.cache
def transformers():
    """The library, imported when the first test asks for it: that costs seconds."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def write_config(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def their_model(config, folder, kind="AutoModelForCausalLM"):
    """A random model of theirs, saved by them into `folder` (so in transformers 5's spelling)."""
    import torch

    source = write_config(folder / "config-of-version-4", config)
    their_config = transformers().AutoConfig.from_pretrained(source, num_labels=1)
    torch.manual_seed(0)
    model = getattr(transformers(), kind).from_config(their_config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + (parameter.ndim == 1))
    model.save_pretrained(folder / "theirs")
    return model


def their_loaded(folder, kind="AutoModelForCausalLM"):
    """A model of ours as they load it; nothing may be missing or unexpected."""
    import torch

    load = getattr(transformers(), kind).from_pretrained
    model, report = load(folder, attn_implementation="eager", output_loading_info=True, dtype=torch.float32)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def their_logits(model, batch):
    """Positions follow the mask; they would not by themselves, which a table of positions would show."""
    import torch

    ids, mask = (torch.tensor(part) for part in batch)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits.numpy()


def our_logits(model, ids, segments):
    """Without jit: the models share shapes, so that single operations are compiled once for all of them."""
    return model.logits(model.hidden(ids, segments))


def random_like(model, seed=0):
    """The same model with every array random: norms around 1, all others around 0. Shapes are enough."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda x: jnp.array(draw(x.ndim == 1, 0.3, x.shape), jnp.float32), model)


def random_model(name, seed=0):
    config = model_config(CONFIGS[name])
    return random_like(eqx.filter_eval_shape(lambda: new_model(config, jax.random.key(0))), seed)


def assert_same_logits(ours, theirs, batch, tolerance=1e-4):
    """Where a token is; what stands under padding is nobody's business."""
    mine = np.asarray(our_logits(ours, jnp.asarray(batch.ids), jnp.asarray(batch.mask)))
    there = batch.mask == 1
    np.testing.assert_allclose(mine[there], theirs[there], atol=tolerance)
    assert np.ptp(mine[there]) > 1  # that the comparison says something
