"""Positions as rotations of queries and keys (Su et al. 2021, RoFormer)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Llama3:
    """Llama 3's stretching: by how often a wave turns within the context that the model was trained with."""

    low: float  # below so many turns it is stretched
    high: float  # above so many it stays; between the two it is blended
    context: int  # tokens

    def unscaled(self, rotary: "Rotary", plain: Float[np.ndarray, "half"]) -> Float[np.ndarray, "half"]:
        """How much of each wave stays as it was, 0 to 1."""
        turns = self.context * plain / (2 * math.pi)
        return np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True)
class YaRN:
    """YaRN's (Peng et al. 2023, arXiv 2309.00071): the same, but linear in the number of the wave."""

    fast: float  # the wave that turns so often within the context, and those before it, stay as they are
    slow: float  # the one that turns so often, and those after it, are stretched
    context: int  # tokens of the model's training
    whole: bool  # whether the two are rounded, outwards, to waves that there are

    def unscaled(self, rotary: "Rotary", plain: Float[np.ndarray, "half"]) -> Float[np.ndarray, "half"]:
        """How much of each wave stays as it was, 0 to 1."""

        def wave(turns: float) -> float:  # solves context theta^(-2 i / head_size) = 2 pi turns for i
            ratio = math.log(self.context / (2 * math.pi * turns)) / math.log(rotary.theta)
            return rotary.head_size * ratio / 2

        first, last = wave(self.fast), wave(self.slow)
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, rotary.head_size - 1)
        width = last - first or 0.001
        return 1.0 - np.clip((np.arange(len(plain), dtype=np.float32) - first) / width, 0.0, 1.0)


@dataclass(frozen=True)
class Rotary:
    """The turning speeds of one kind of layer."""

    theta: float  # base of the wavelengths, 10000 in the paper
    head_size: int  # width of a head; its halves are turned against each other
    factor: float = 1.0  # how far the context was stretched: wavelengths are longer by it
    unstretched: Llama3 | YaRN | None = None  # which wavelengths stay as they are; None stretches all alike
    amplitude: float = 1.0  # of the rotations: queries and keys are longer by it (YaRN: 0.1 log(factor) + 1)

    def frequencies(self) -> Float[np.ndarray, "half"]:
        """Radians per position.

        theta^(-2 i / head_size), i = 0 .. head_size / 2 - 1, then stretched
        """
        exponent = np.arange(0, self.head_size, 2, dtype=np.float32) / self.head_size
        plain = 1.0 / np.float32(self.theta) ** exponent
        unscaled = 0.0 if self.unstretched is None else self.unstretched.unscaled(self, plain)
        return ((1.0 - unscaled) * plain / self.factor + unscaled * plain).astype(np.float32)

    def angles(
        self, positions: Int[Array, "B L"]
    ) -> tuple[Float[Array, "B L half"], Float[Array, "B L half"]]:
        """Cosine and sine of each position's rotation, times the amplitude, in float32."""
        angle = positions[..., None].astype(jnp.float32) * self.frequencies()
        return self.amplitude * jnp.cos(angle), self.amplitude * jnp.sin(angle)


def apply_rotary(
    x: Float[Array, "B L heads size"], angles: tuple[Float[Array, "B L half"], Float[Array, "B L half"]]
) -> Float[Array, "B L heads size"]:
    """Queries or keys, turned: the first half of a head against its second half."""
    cos, sin = (part[:, :, None, :].astype(x.dtype) for part in angles)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotary_of(config: Mapping[str, Any], kind: str, head_size: int) -> Rotary:
    """The rotation of a kind of layer, from a `config.json` of transformers 4 or 5.

    kind  "full_attention" or "sliding_attention"; Gemma 3 has a rotation for each

    Raises ValueError for a kind of stretching that is not supported.
    """
    if head_size % 2:
        raise ValueError(f"a head of {head_size} cannot be split into halves")
    said = config.get("rope_parameters")
    if said is None:
        said = _before_version_5(config, kind)
    elif kind in said:
        said = said[kind]
    stretching = said.get("rope_type", said.get("type", "default"))
    theta = float(said.get("rope_theta", _before_version_5(config, kind)["rope_theta"]))
    if said.get("partial_rotary_factor", config.get("partial_rotary_factor")) not in (None, 1, 1.0):
        raise ValueError("heads of which only a part is turned (partial_rotary_factor) are not supported")
    if stretching == "default":
        return Rotary(theta, head_size)
    if stretching == "linear":
        return Rotary(theta, head_size, float(said["factor"]))
    context = int(said.get("original_max_position_embeddings") or config["max_position_embeddings"])
    if stretching == "llama3":
        bands = Llama3(float(said["low_freq_factor"]), float(said["high_freq_factor"]), context)
        return Rotary(theta, head_size, float(said["factor"]), bands)
    if stretching == "yarn":
        factor = float(said.get("factor") or config["max_position_embeddings"] / context)
        fast, slow = float(said.get("beta_fast") or 32), float(said.get("beta_slow") or 1)
        waves = YaRN(fast, slow, context, bool(said.get("truncate", True)))
        return Rotary(theta, head_size, factor, waves, _amplitude(said, factor))
    raise ValueError(f"rope_type {stretching!r} is not supported: take default, linear, llama3 or yarn")


def _amplitude(said: Mapping[str, Any], factor: float) -> float:
    """YaRN's, from `attention_factor`, or from `mscale` and `mscale_all_dim` (DeepSeek's), or neither."""
    if said.get("attention_factor") is not None:
        return float(said["attention_factor"])

    def longer(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    upper, lower = said.get("mscale"), said.get("mscale_all_dim")
    return longer(float(upper)) / longer(float(lower)) if upper and lower else longer(1.0)


def _before_version_5(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if config["model_type"] == "gemma3_text":
        if kind == "sliding_attention":
            return {"rope_theta": config.get("rope_local_base_freq", 10_000.0)}
        return {"rope_theta": config.get("rope_theta", 1_000_000.0), **(config.get("rope_scaling") or {})}
    return {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
