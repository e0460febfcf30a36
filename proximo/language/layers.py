"""The parts of a decoder-only transformer: linear maps, norms, attention, MLP, and a block of them."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.language.config import ModelConfig
from proximo.language.rotary import rotated

Angles = tuple[Float[Array, "B L half"], Float[Array, "B L half"]] | None
LOWEST = -1e30  # finite: a row that may attend to nothing (padding) must not become NaN


class Linear(eqx.Module):
    """x W + b. The weight lies [inputs, outputs]."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"] | None

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        # Two dimensions: XLA's products for the weight's gradient are faster on a CPU than with three.
        y = x.reshape(-1, x.shape[-1]) @ self.weight
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], y.shape[-1])


class LayerNorm(eqx.Module):
    """(x - mean) / sqrt(variance + epsilon) * w + b (Ba et al. 2016), computed in float32."""

    weight: Float[Array, "size"]
    bias: Float[Array, "size"]
    epsilon: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.epsilon)
        return (centred * scale * self.weight + self.bias).astype(x.dtype)


class RMSNorm(eqx.Module):
    """x / sqrt(mean(x^2) + epsilon) * (offset + w) (Zhang and Sennrich 2019), computed in float32."""

    weight: Float[Array, "size"]
    epsilon: float = eqx.field(static=True)
    offset: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        wide = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return (wide * scale * (self.offset + self.weight.astype(jnp.float32))).astype(x.dtype)


Norm = LayerNorm | RMSNorm


class Attention(eqx.Module):
    """Projections of causal self-attention with grouped queries (Ainslie et al. 2023)."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    query_norm: RMSNorm | None
    key_norm: RMSNorm | None
    head_size: int = eqx.field(static=True)

    def projected(
        self, x: Float[Array, "B L D"], angles: Angles
    ) -> tuple[Float[Array, "B L H h"], Float[Array, "B L K h"], Float[Array, "B L K h"]]:
        """Queries, keys and values, head by head, positions turned in."""
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_size)
            for linear in (self.query, self.key, self.value)
        )
        q = q if self.query_norm is None else self.query_norm(q)
        k = k if self.key_norm is None else self.key_norm(k)
        return (q, k, v) if angles is None else (rotated(q, angles), rotated(k, angles), v)


class MLP(eqx.Module):
    """down(activation(up x)), or gated: down(activation(gate x) * up x) (Shazeer 2020)."""

    gate: Linear | None
    up: Linear
    down: Linear
    activation: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        if self.gate is None:
            return self.down(activated(self.activation, self.up(x)))
        return self.down(activated(self.activation, self.gate(x)) * self.up(x))


class Block(eqx.Module):
    """One layer: x + attention(norm x), then x + mlp(norm x); Gemma has norms after both as well."""

    attention_norm: Norm
    attention: Attention
    after_attention: RMSNorm | None
    mlp_norm: Norm
    mlp: MLP
    after_mlp: RMSNorm | None

    def __call__(self, x: Float[Array, "B L D"], angles: Angles, attend: "Attend") -> Float[Array, "B L D"]:
        q, k, v = self.attention.projected(self.attention_norm(x), angles)
        mixed = self.attention.output(attend(q, k, v).reshape(*x.shape[:-1], -1))
        x = x + (mixed if self.after_attention is None else self.after_attention(mixed))
        changed = self.mlp(self.mlp_norm(x))
        return x + (changed if self.after_mlp is None else self.after_mlp(changed))


Attend = Callable[
    [Float[Array, "B L H h"], Float[Array, "B L K h"], Float[Array, "B L K h"]], Float[Array, "B L H h"]
]


def activated(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation that a configuration names."""
    if name == "silu":
        return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=name == "gelu")


def capped(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """Held within +- cap, smoothly: cap tanh(x / cap)."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attention(
    q: Float[Array, "B L H h"],
    k: Float[Array, "B S K h"],
    v: Float[Array, "B S K h"],
    allowed: Bool[Array, "B L S"],
    config: ModelConfig,
) -> Float[Array, "B L H h"]:
    """softmax(scale q k^T) v over the keys that are allowed, in float32 where it is summed.

    q        queries; H / K of them share each key
    k, v     keys and values
    allowed  which query may see which key
    """
    b, length, heads, size = q.shape
    grouped = q.reshape(b, length, k.shape[2], heads // k.shape[2], size) * config.attention_scale
    scores = jnp.einsum("blkgh,bskh->bkgls", grouped, k, preferred_element_type=jnp.float32)
    scores = capped(scores, config.attention_cap)
    weights = jax.nn.softmax(jnp.where(allowed[:, None, None], scores, LOWEST), axis=-1)
    mixed = jnp.einsum("bkgls,bskh->blkgh", weights.astype(v.dtype), v)
    return mixed.reshape(b, length, heads, size)


def causal(segments: Float[Array, "B L"], window: int | None = None) -> Bool[Array, "B L L"]:
    """Which token may see which: those of its own document, up to itself, no further back than a window.

    segments  0 where there is padding, else the document's number
    """
    same = segments[:, :, None] == segments[:, None, :]
    place = jnp.arange(segments.shape[1])
    before = place[:, None] - place[None, :]
    near = before >= 0 if window is None else (before >= 0) & (before < window)
    return same & (segments > 0)[:, None, :] & near
