"""One decoder-only transformer for all families; `config.json` says which."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from proximo.language.model.config import ModelConfig
from proximo.language.model.layers import (
    LOWEST,
    MLP,
    Angles,
    Attention,
    Block,
    LayerNorm,
    Linear,
    Norm,
    RMSNorm,
    attention,
    causal_mask,
    softcap,
)
from proximo.language.model.rotary import Rotary
from proximo.learn.mesh import laid_out_batch


class Transformer(eqx.Module):
    """A language model: from tokens to the logits of the next ones."""

    embedding: Float[Array, "V D"]
    positions: Float[Array, "context D"] | None  # [context, D] where they are learned, else None
    blocks: tuple[Block, ...]  # the layers
    norm: Norm  # before the head
    head: Linear | None  # None where the embedding serves as one (tied)
    config: ModelConfig = eqx.field(static=True)

    def embed(self, ids: Int[Array, "B L"], positions: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """Tokens as vectors, with their positions where those are learned."""
        x = self.embedding[laid_out_batch(ids)]
        if self.config.embedding_scale != 1.0:
            x = x * jnp.asarray(self.config.embedding_scale, x.dtype)
        return x if self.positions is None else x + self.positions[positions]

    def angles(self, positions: Int[Array, "B L"]) -> dict[Rotary | None, Angles]:
        """The rotations of each kind of layer, computed once."""
        kinds = {layer.rotary for layer in self.config.layers}
        return {kind: None if kind is None else kind.angles(positions) for kind in kinds}

    def hidden(
        self,
        ids: Int[Array, "B L"],
        segments: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        checkpoint: bool = False,
    ) -> Float[Array, "B L D"]:
        """The last layer's output, after its norm, for whole sequences.

        ids         tokens
        segments    0 for padding, else the number of the document; documents do not attend to each other.
                    By default there is one document
        positions   of the tokens in their documents; by default counted
        checkpoint  keep only the layers' inputs for the gradient, and compute the rest again
        """
        segments = jnp.ones_like(ids) if segments is None else segments
        positions = positions_of(segments) if positions is None else positions
        allowed = {window: causal_mask(segments, window) for window in {x.window for x in self.config.layers}}
        angles = self.angles(positions)

        def apply(block: Block, x: Array, angles: Angles, allowed: Array) -> Array:
            return block(x, angles, partial(attention, allowed=allowed, config=self.config))

        apply = jax.checkpoint(apply) if checkpoint else apply
        x = self.embed(ids, positions)
        for layer, block in zip(self.config.layers, self.blocks, strict=True):
            x = apply(block, x, angles[layer.rotary], allowed[layer.window])
        return self.norm(x)

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Unnormalised log-probabilities of the next token, in float32.

        An id without a token (`ModelConfig.absent`) has the lowest logit. All logits are computed here, so
        sampling, scoring and training agree on that.
        """
        flat = hidden.reshape(-1, hidden.shape[-1])
        weight = self.embedding.T if self.head is None else self.head.weight
        out = jnp.matmul(flat, weight, preferred_element_type=jnp.float32)
        out = softcap(out, self.config.logit_cap)
        if self.config.absent:
            out = jnp.where(_present(self.config), out, LOWEST)
        return out.reshape(*hidden.shape[:-1], out.shape[-1])


def with_tokens(model: Transformer, ids: Iterable[int]) -> Transformer:
    """The model for a tokenizer with these ids: other ids are never sampled and have probability 0.

    Many tables are larger than their vocabulary, up to a round number (Qwen 2.5 has 271 such rows). A sampled
    id without a token would have no text, so no reward could score it.
    """
    there = np.zeros(model.config.vocabulary + 2, bool)
    there[[id + 1 for id in ids if id < model.config.vocabulary]] = True
    there[[0, -1]] = True
    borders = np.flatnonzero(np.diff(there)).reshape(-1, 2)
    absent = tuple((int(first), int(end)) for first, end in borders)
    return replace(model, config=replace(model.config, absent=absent))


def _present(config: ModelConfig) -> np.ndarray:
    """Which ids have a token, [V]."""
    found = np.ones(config.vocabulary, bool)
    for first, end in config.absent:
        found[first:end] = False
    return found


def positions_of(segments: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """Position of each token in its document, from 0; padding counts as a document of its own."""
    place = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    changes = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return place - jax.lax.cummax(jnp.where(changes, place, 0), axis=1)


def new_model(config: ModelConfig, key: PRNGKeyArray) -> Transformer:
    """A transformer with random weights.

    Normal with the configuration's standard deviation; the two maps that end in the residual stream are
    narrower by sqrt(2 layers), as in GPT-2 (Radford et al. 2019), so that depth does not widen the stream.
    """
    keys = iter(jax.random.split(key, 3 + 7 * len(config.layers)))
    std, deep = config.initial_std, config.initial_std / (2 * len(config.layers)) ** 0.5

    def linear(inputs: int, outputs: int, bias: bool, std: float = std) -> Linear:
        weight = std * jax.random.normal(next(keys), (inputs, outputs))
        return Linear(weight, jnp.zeros(outputs) if bias else None)

    def block() -> Block:
        wide, narrow = config.heads * config.head_size, config.kv_heads * config.head_size
        bias, size = config.attention_bias, config.size
        head_norm = partial(_rms_norm, config, config.head_size)
        return Block(
            attention_norm=_norm(config),
            attention=Attention(
                query=linear(size, wide, bias),
                key=linear(size, narrow, bias),
                value=linear(size, narrow, bias),
                output=linear(wide, size, config.output_bias, deep),
                query_norm=head_norm() if config.query_key_norm else None,
                key_norm=head_norm() if config.query_key_norm else None,
                head_size=config.head_size,
            ),
            after_attention=_rms_norm(config, size) if config.sandwich else None,
            mlp_norm=_norm(config),
            mlp=MLP(
                gate=linear(size, config.inner, config.inner_bias) if config.gated else None,
                up=linear(size, config.inner, config.inner_bias),
                down=linear(config.inner, size, config.inner_bias, deep),
                activation=config.activation,
            ),
            after_mlp=_rms_norm(config, size) if config.sandwich else None,
        )

    table = (config.context, config.size)
    return Transformer(
        embedding=std * jax.random.normal(next(keys), (config.vocabulary, config.size)),
        positions=std * jax.random.normal(next(keys), table) if config.learned_positions else None,
        blocks=tuple(block() for _ in config.layers),
        norm=_norm(config),
        head=None if config.tied else linear(config.size, config.vocabulary, False),
        config=config,
    )


def _norm(config: ModelConfig) -> Norm:
    if config.layer_norm:
        return LayerNorm(jnp.ones(config.size), jnp.zeros(config.size), config.norm_epsilon)
    return _rms_norm(config, config.size)


def _rms_norm(config: ModelConfig, size: int) -> RMSNorm:
    return RMSNorm(
        jnp.full(size, 1.0 - config.norm_offset, jnp.float32), config.norm_epsilon, config.norm_offset
    )
