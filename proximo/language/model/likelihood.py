"""Log-probabilities of given tokens and entropies, without [B, T, V] logits at once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from proximo.core import Scalar
from proximo.language.model.transformer import Transformer
from proximo.learn.mesh import data_parallel

MOST_LOGITS = 2**23
"""Logits held at once (32 MiB in float32); more are computed in parts, and again for the gradient."""


class TokenScores(NamedTuple):
    """Log-probability, entropy and best guess for tokens, each given those before it."""

    log_prob: Float[Array, "*shape"]  # log softmax(logits / temperature)[id], in nats
    entropy: Float[Array, "*shape"]  # of the distribution that the token is from, in nats
    best: Bool[Array, "*shape"]  # no other token has a higher logit


def score_tokens(
    model: Transformer, hidden: Float[Array, "B T D"], ids: Int[Array, "B T"], temperature: Scalar = 1.0
) -> TokenScores:
    """Scores of tokens, [B, T] each.

    hidden       of the positions BEFORE the tokens
    ids          the tokens
    temperature  that they were sampled with
    """
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), ids.reshape(-1)
    parts = -(-len(targets) * model.config.vocabulary // MOST_LOGITS)
    if parts <= 1:
        return TokenScores(*(x.reshape(ids.shape) for x in _score_tokens(model, flat, targets, temperature)))
    rows, labels = (_chunked(x, parts) for x in (flat, targets))
    part = jax.checkpoint(partial(_score_tokens, temperature=temperature))
    _, out = jax.lax.scan(lambda _, x: (None, part(model, *x)), None, (rows, labels))
    return TokenScores(*(_unchunked(x, len(targets)).reshape(ids.shape) for x in out))


def _chunked(x: Shaped[Array, "N *rest"], parts: int) -> Shaped[Array, "parts n *rest"]:
    """Filled up and cut. On a mesh a part has some of every device's tokens, so that none has to move."""
    devices, rest = data_parallel(), x.shape[1:]
    blocks = x.reshape(devices, -1, *rest)
    filled = jnp.pad(blocks, ((0, 0), (0, -blocks.shape[1] % parts), *((0, 0) for _ in rest)))
    return filled.reshape(devices, parts, -1, *rest).swapaxes(0, 1).reshape(parts, -1, *rest)


def _unchunked(x: Shaped[Array, "parts n"], count: int) -> Shaped[Array, "N"]:
    """What `_chunked` cut, without the filling."""
    devices = data_parallel()
    blocks = x.reshape(len(x), devices, -1).swapaxes(0, 1).reshape(devices, -1)
    return blocks[:, : count // devices].reshape(-1)


def _score_tokens(
    model: Transformer, hidden: Float[Array, "N D"], ids: Int[Array, "N"], temperature: Scalar
) -> TokenScores:
    logits = model.logits(hidden) / temperature
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - top)
    total = jnp.sum(weights, axis=-1)
    normaliser = jnp.log(total) + top[:, 0]
    chosen = jnp.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]
    entropy = normaliser - jnp.sum(weights * logits, axis=-1) / total
    return TokenScores(chosen - normaliser, entropy, chosen >= top[:, 0])


def loss_of_tokens(
    model: Transformer,
    ids: Int[Array, "B L"],
    segments: Int[Array, "B L"],
    positions: Int[Array, "B L"] | None = None,
    checkpoint: bool = False,
) -> Float[Array, "B L"]:
    """-log p of each token given those before it in its document; 0 for a row's first.

    A packed document's first token follows another document, which says nothing of it: leave it out.

    ids, segments, positions, checkpoint  as of `Transformer.hidden`
    """
    hidden = model.hidden(ids, segments, positions, checkpoint)
    log_prob = score_tokens(model, hidden[:, :-1], ids[:, 1:]).log_prob
    return jnp.pad(-log_prob, ((0, 0), (1, 0)))
