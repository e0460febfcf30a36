"""Models of a few thousand weights, for tests."""

import jax

from proximo.language.model.config import model_config
from proximo.language.model.transformer import new_model


def small_config(vocabulary=16, layers=2, size=16, context=64, **fields):
    """A Llama of a few thousand weights."""
    return model_config(
        {
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": size,
            "intermediate_size": 2 * size,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": context,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "initializer_range": 0.3,
            **fields,
        }
    )


def small_model(seed=0, **fields):
    """Random weights, wide enough that its predictions differ from token to token."""
    return new_model(small_config(**fields), jax.random.key(seed))
