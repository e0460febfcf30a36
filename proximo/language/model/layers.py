"""The parts of a decoder-only transformer: linear maps, norms, attention, MLP, and a block of them."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.language.model.config import ModelConfig
from proximo.language.model.rotary import apply_rotary

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
        standard = standardise(x.astype(jnp.float32), True, self.epsilon)
        return (standard * self.weight + self.bias).astype(x.dtype)


class RMSNorm(eqx.Module):
    """x / sqrt(mean(x^2) + epsilon) * (offset + w) (Zhang and Sennrich 2019), computed in float32."""

    weight: Float[Array, "size"]
    epsilon: float = eqx.field(static=True)
    offset: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        standard = standardise(x.astype(jnp.float32), False, self.epsilon)
        return (standard * (self.offset + self.weight.astype(jnp.float32))).astype(x.dtype)


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
        return (q, k, v) if angles is None else (apply_rotary(q, angles), apply_rotary(k, angles), v)


class MLP(eqx.Module):
    """down(activation(up x)), or gated: down(activation(gate x) * up x) (Shazeer 2020)."""

    gate: Linear | None
    up: Linear
    down: Linear
    activation: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        # For the gradient only what goes into the activation is kept, and its steps are taken again.
        if self.gate is None:
            return self.down(jax.checkpoint(partial(activate, self.activation))(self.up(x)))
        return self.down(jax.checkpoint(partial(gated_activation, self.activation))(self.gate(x), self.up(x)))


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


def activate(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation that a configuration names."""
    if name == "silu":
        return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=name == "gelu")


def gated_activation(name: str, gate: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """activation(gate) * x."""
    return activate(name, gate) * x


def softcap(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
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
    sharing = heads // k.shape[2]
    # Queries that share a key stand below each other: two batch dimensions are faster than three.
    rows = (q * config.attention_scale).reshape(b, length, -1, sharing, size).transpose(0, 2, 3, 1, 4)
    rows = rows.reshape(b, -1, sharing * length, size)
    scores = jnp.einsum("bkrh,bskh->bkrs", rows, k, preferred_element_type=jnp.float32)
    allowed = jnp.tile(allowed, (1, sharing, 1))[:, None]
    weights = masked_softmax(softcap(scores, config.attention_cap), allowed)
    mixed = jnp.einsum("bkrs,bskh->bkrh", weights.astype(v.dtype), v)
    mixed = mixed.reshape(b, -1, sharing, length, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(b, length, heads, size)


def causal_mask(segments: Float[Array, "B L"], window: int | None = None) -> Bool[Array, "B L L"]:
    """Which token may see which: those of its own document, up to itself, no further back than a window.

    segments  0 where there is padding, else the document's number
    """
    same = segments[:, :, None] == segments[:, None, :]
    place = jnp.arange(segments.shape[1])
    before = place[:, None] - place[None, :]
    near = before >= 0 if window is None else (before >= 0) & (before < window)
    return same & (segments > 0)[:, None, :] & near


# What follows has gradients written out by hand, which keep less than JAX's own: on a CPU the passes wait for
# memory more than for arithmetic. The barriers hold XLA from computing the gradient's steps, and keeping
# them, before the gradient itself is there.


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def standardise(x: Float[Array, "... size"], centred: bool, epsilon: float) -> Float[Array, "... size"]:
    """x / sqrt(mean(x^2) + epsilon) over the last axis, the mean taken away before if it is `centred`.

    With y for the result and r for the reciprocal root, the gradient is

        dx = r (dy - y mean(y dy)), less its mean if centred
    """
    return _standardise(x, centred, epsilon)[0]


def _standardise(x: Array, centred: bool, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    x = x - jnp.mean(x, axis=-1, keepdims=True) if centred else x
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
    return x * scale, (x * scale, scale)


def _standardise_gradient(
    centred: bool, epsilon: float, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    y, scale, gradient = jax.lax.optimization_barrier((*kept, gradient))
    along = jnp.mean(y * gradient, axis=-1, keepdims=True)
    mean = jnp.mean(gradient, axis=-1, keepdims=True) if centred else 0.0  # that of y is 0
    return (scale * (gradient - mean - y * along),)


standardise.defvjp(_standardise, _standardise_gradient)


@jax.custom_vjp
def masked_softmax(scores: Float[Array, "... S"], allowed: Bool[Array, "... S"]) -> Float[Array, "... S"]:
    """softmax over what is allowed; alike everywhere where nothing is.

    With w for the result, the gradient is

        dscores = w (dw - sum(w dw))
    """
    return jax.nn.softmax(jnp.where(allowed, scores, LOWEST), axis=-1)


def _masked_softmax(scores: Array, allowed: Array) -> tuple[Array, tuple[Array, Array]]:
    weights = masked_softmax(scores, allowed)
    return weights, (weights, allowed)


def _masked_softmax_gradient(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, None]:
    weights, allowed, gradient = jax.lax.optimization_barrier((*kept, gradient))
    centred = gradient - jnp.sum(weights * gradient, axis=-1, keepdims=True)
    return jnp.where(allowed, weights * centred, 0.0), None


masked_softmax.defvjp(_masked_softmax, _masked_softmax_gradient)
