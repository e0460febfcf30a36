"""Positions as rotations of queries and keys (Su et al. 2021, RoFormer)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Rotary:
    """The turning speeds of one kind of layer.

    theta      base of the wavelengths, 10000 in the paper
    head_size  width of a head; its halves are turned against each other
    factor     how far the context was stretched: wavelengths are longer by it
    bands      Llama 3's: (low_freq_factor, high_freq_factor, original context), so that short wavelengths
               stay as they are and those between are blended; None stretches all alike
    """

    theta: float
    head_size: int
    factor: float = 1.0
    bands: tuple[float, float, int] | None = None

    def frequencies(self) -> Float[np.ndarray, "half"]:
        """Radians per position.

        theta^(-2 i / head_size), i = 0 .. head_size / 2 - 1, then stretched
        """
        exponent = np.arange(0, self.head_size, 2, dtype=np.float32) / self.head_size
        plain = 1.0 / np.float32(self.theta) ** exponent
        stretched = plain / self.factor
        if self.bands is None:
            return stretched.astype(np.float32)
        low, high, context = self.bands
        turns = context * plain / (2 * math.pi)  # over the original context
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return ((1 - blend) * stretched + blend * plain).astype(np.float32)

    def angles(
        self, positions: Int[Array, "B L"]
    ) -> tuple[Float[Array, "B L half"], Float[Array, "B L half"]]:
        """Cosine and sine of each position's rotation, in float32."""
        angle = positions[..., None].astype(jnp.float32) * self.frequencies()
        return jnp.cos(angle), jnp.sin(angle)


def rotated(
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
    if stretching == "llama3":
        bands = (float(said["low_freq_factor"]), float(said["high_freq_factor"]))
        context = said.get("original_max_position_embeddings") or config["max_position_embeddings"]
        return Rotary(theta, head_size, float(said["factor"]), (*bands, int(context)))
    raise ValueError(f"rope_type {stretching!r} is not supported: take default, linear or llama3")


def _before_version_5(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if config["model_type"] == "gemma3_text":
        if kind == "sliding_attention":
            return {"rope_theta": config.get("rope_local_base_freq", 10_000.0)}
        return {"rope_theta": config.get("rope_theta", 1_000_000.0), **(config.get("rope_scaling") or {})}
    return {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
