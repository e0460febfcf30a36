"""Sampling: the prompt in one pass, then token by token with cached keys and values; one compiled call."""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from proximo.core import Scalar
from proximo.language.model.compiling import jit
from proximo.language.model.layers import LOWEST, attention, causal_mask, softcap
from proximo.language.model.transformer import Transformer, positions_of


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling options."""

    length: int  # most tokens of a response, its end token included
    temperature: float = 1.0  # logits are divided by it; 0 takes the likeliest token
    samples: int = 1  # responses to each prompt, which is computed once
    top_k: int = 0  # draw among the k likeliest tokens; 0 for all
    top_p: float = 1.0  # draw among the likeliest tokens that have this share together; 1 for all
    min_p: float = 0.0  # draw among tokens at least so likely, as a share of the likeliest; 0 for all
    eos_ids: tuple[int, ...] = ()  # a response ends with one of them
    # or with one of these sequences of tokens, none of which is empty
    stop_sequences: tuple[tuple[int, ...], ...] = ()

    @property
    def truncates(self) -> bool:
        """Whether some tokens are never sampled; log-probabilities then differ from the model's."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


class Samples(NamedTuple):
    """Sampled responses; those to one prompt stand side by side."""

    ids: Int[Array, "B T"]  # padded after the end
    log_probs: Float[Array, "B T"]  # under the distribution they were drawn from, in nats; 0 after the end
    lengths: Int[Array, "B"]  # tokens of each, its end token included
    finished: Bool[Array, "B"]  # ended by itself, not at the limit


class Cache(NamedTuple):
    """A layer's keys and values for all columns so far; keys lie with their columns last.

    That is the order in which one query's products run through them.
    """

    keys: Float[Array, "B K h S"]
    values: Float[Array, "B K S h"]


class State(NamedTuple):
    """What a step changes: the token last drawn and what belongs to all rows."""

    step: Array
    token: Int[Array, "B"]
    caches: tuple[Cache, ...]
    ids: Int[Array, "T B"]
    log_probs: Float[Array, "T B"]
    lengths: Int[Array, "B"]
    finished: Bool[Array, "B"]


def sample(
    model: Transformer,
    prompts: Int[np.ndarray, "P W"],
    lengths: Int[np.ndarray, "P"],
    key: PRNGKeyArray,
    sampling: Sampling,
    pad_id: int,
) -> Samples:
    """Responses to prompts; P x `samples` rows.

    prompts  padded on the left; lengths  tokens of each
    key      random key; a row's tokens depend on it, the row and the step only

    The shapes and the options other than the temperature are compiled in: pad prompts to `packing.bucket`.
    """
    greedy = sampling.temperature == 0.0
    shape = replace(sampling, temperature=0.0 if greedy else 1.0)
    temperature = jnp.float32(1.0 if greedy else sampling.temperature)
    return _sample(model, jnp.asarray(prompts), jnp.asarray(lengths), key, temperature, shape, pad_id)


@partial(jit, static_argnames=("sampling", "pad_id"))
def _sample(
    model: Transformer,
    prompts: Int[Array, "P W"],
    lengths: Int[Array, "P"],
    key: PRNGKeyArray,
    temperature: Scalar,
    sampling: Sampling,
    pad_id: int,
) -> Samples:
    width, rows = prompts.shape[1], prompts.shape[0] * sampling.samples
    last, caches = prefill(model, prompts, lengths, sampling)
    lengths = jnp.repeat(lengths, sampling.samples)
    noise = jax.random.uniform(key, (sampling.length, 2, rows))

    def drawn(state: State, logits: Float[Array, "B V"]) -> State:
        kept = truncate_logits(logits / temperature, sampling) if sampling.truncates else logits / temperature
        token = jnp.argmax(kept, axis=-1) if sampling.temperature == 0.0 else draw(kept, noise[state.step])
        log_prob = jnp.take_along_axis(kept, token[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(kept, axis=-1)
        done = state.finished
        ids = state.ids.at[state.step].set(jnp.where(done, pad_id, token))
        return State(
            step=state.step + 1,
            token=token,
            caches=state.caches,
            ids=ids,
            log_probs=state.log_probs.at[state.step].set(jnp.where(done, 0.0, log_prob)),
            lengths=state.lengths + ~done,
            finished=done | is_stop(ids, token, state.step, sampling),
        )

    def step(state: State) -> State:
        logits, caches = decode_step(model, state, lengths, width)
        return drawn(state._replace(caches=caches), logits)

    start = State(
        step=jnp.zeros((), jnp.int32),
        token=jnp.zeros(rows, jnp.int32),
        caches=caches,
        ids=jnp.full((sampling.length, rows), pad_id, jnp.int32),
        log_probs=jnp.zeros((sampling.length, rows)),
        lengths=jnp.zeros(rows, jnp.int32),
        finished=jnp.zeros(rows, bool),
    )
    end = jax.lax.while_loop(
        lambda state: (state.step < sampling.length) & ~jnp.all(state.finished), step, drawn(start, last)
    )
    return Samples(end.ids.T, end.log_probs.T, end.lengths, end.finished)


def prefill(
    model: Transformer, prompts: Int[Array, "P W"], lengths: Int[Array, "P"], sampling: Sampling
) -> tuple[Float[Array, "B V"], tuple[Cache, ...]]:
    """The logits after each prompt, and its keys and values with room for the response; rows repeated."""
    config, width = model.config, prompts.shape[1]
    segments = (jnp.arange(width) >= (width - lengths)[:, None]).astype(jnp.int32)
    positions = positions_of(segments)
    angles, x = model.angles(positions), model.embed(prompts, positions)
    allowed = {window: causal_mask(segments, window) for window in {layer.window for layer in config.layers}}
    caches = []
    for layer, block in zip(config.layers, model.blocks, strict=True):

        def attend(q: Array, k: Array, v: Array, window: int | None = layer.window) -> Array:
            caches.append(_pad_cache(k, v, sampling))
            return attention(q, k, v, allowed[window], config)

        x = block(x, angles[layer.rotary], attend)
    logits = model.logits(model.norm(x[:, -1]))
    return jnp.repeat(logits, sampling.samples, axis=0), tuple(caches)


def _pad_cache(k: Float[Array, "P W K h"], v: Float[Array, "P W K h"], sampling: Sampling) -> Cache:
    room = sampling.length - 1  # the last token drawn is never read
    keys = jnp.pad(k.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, room)))
    values = jnp.pad(v.transpose(0, 2, 1, 3), ((0, 0), (0, 0), (0, room), (0, 0)))
    return Cache(*(jnp.repeat(x, sampling.samples, axis=0) for x in (keys, values)))


def decode_step(
    model: Transformer, state: State, lengths: Int[Array, "B"], width: int
) -> tuple[Float[Array, "B V"], tuple[Cache, ...]]:
    """The logits after the token last drawn, and the caches with it."""
    config, here = model.config, width + state.step - 1  # the column of that token
    positions = (lengths + state.step - 1)[:, None]
    angles, x = model.angles(positions), model.embed(state.token[:, None], positions)
    columns = jnp.arange(state.caches[0].values.shape[2])
    seen = (columns >= (width - lengths)[:, None]) & (columns <= here)
    caches = []
    for layer, block, cache in zip(config.layers, model.blocks, state.caches, strict=True):
        near = seen if layer.window is None else seen & (columns > here - layer.window)

        def attend(q: Array, k: Array, v: Array, cache: Cache = cache, near: Array = near) -> Array:
            cache = Cache(
                jax.lax.dynamic_update_slice(cache.keys, k.transpose(0, 2, 3, 1), (0, 0, 0, here)),
                jax.lax.dynamic_update_slice(cache.values, v.transpose(0, 2, 1, 3), (0, 0, here, 0)),
            )
            caches.append(cache)
            grouped = q.reshape(len(q), config.kv_heads, -1, config.head_size) * config.attention_scale
            scores = jnp.einsum("bkgh,bkhs->bkgs", grouped, cache.keys, preferred_element_type=jnp.float32)
            scores = jnp.where(near[:, None, None], softcap(scores, config.attention_cap), LOWEST)
            weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
            return jnp.einsum("bkgs,bksh->bkgh", weights, cache.values).reshape(q.shape)

        x = block(x, angles[layer.rotary], attend)
    return model.logits(model.norm(x[:, 0])), tuple(caches)


def draw(logits: Float[Array, "B V"], noise: Float[Array, "2 B"]) -> Int[Array, "B"]:
    """A token for each row, by inverting the distribution function.

    Two uniform numbers a row instead of V Gumbel ones, which cost more than the model where it is small.
    The first chooses a block of about sqrt(V) tokens, the second a token in it: sums stay short, and exact.
    """
    rows, vocabulary = logits.shape
    size = max(1, round(vocabulary**0.5))
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, -vocabulary % size))).reshape(rows, -1, size)
    block = _draw_index(jnp.sum(weights, axis=-1), noise[0])
    inside = jnp.take_along_axis(weights, block[:, None, None], axis=1)[:, 0]
    return block * size + _draw_index(inside, noise[1])


def _draw_index(weights: Float[Array, "B N"], noise: Float[Array, "B"]) -> Int[Array, "B"]:
    """An index for each row, in proportion to its weights; never one whose weight is 0."""
    below = jnp.cumsum(weights, axis=-1)
    index = jnp.sum(below <= noise[:, None] * below[:, -1:], axis=-1).astype(jnp.int32)
    last = weights.shape[-1] - 1 - jnp.argmax(weights[:, ::-1] > 0, axis=-1).astype(jnp.int32)
    return jnp.minimum(index, last)


def truncate_logits(logits: Float[Array, "B V"], sampling: Sampling) -> Float[Array, "B V"]:
    """The logits with -inf for the tokens that top_k, top_p and min_p leave out; the likeliest stays."""
    ordered = -jnp.sort(-logits, axis=-1)
    lowest = jnp.full(logits.shape[:1], -jnp.inf)
    if sampling.top_k > 0:
        lowest = ordered[:, min(sampling.top_k, logits.shape[-1]) - 1]
    if sampling.top_p < 1.0:
        before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
        within = jnp.where(before < sampling.top_p, ordered, jnp.inf)
        lowest = jnp.maximum(lowest, jnp.minimum(jnp.min(within, axis=-1), ordered[:, 0]))
    if sampling.min_p > 0.0:
        lowest = jnp.maximum(lowest, ordered[:, 0] + jnp.log(sampling.min_p))
    return jnp.where(logits >= lowest[:, None], logits, -jnp.inf)


def is_stop(
    ids: Int[Array, "T B"], token: Int[Array, "B"], step: Array, sampling: Sampling
) -> Bool[Array, "B"]:
    """Whether the token just drawn ends a response, alone or as the last one of a stop sequence."""
    end = jnp.zeros(token.shape, bool)
    for eos in sampling.eos_ids:
        end |= token == eos
    for sequence in sampling.stop_sequences:
        size = len(sequence)
        if size <= sampling.length:
            tail = jax.lax.dynamic_slice_in_dim(ids, jnp.maximum(step + 1 - size, 0), size, axis=0)
            end |= jnp.all(tail == jnp.array(sequence)[:, None], axis=0) & (step + 1 >= size)
    return end
