"""Observations in named parts: images and large categories apart, all numbers joined in one vector."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.core.types import Choices, PartKind, Picture
from proximo.envs.spaces import (
    ObservationCodec,
    Part,
    joined,
    misfit,
    observation_codec,
    outside,
    part_of,
)

Path = tuple[Any, ...]
WORDS: dict[type, str] = {Picture: "image", Choices: "category"}  # for an observation that is one part
MOST_ONE_HOT = 256  # values of a category; beyond it a table of vectors is smaller than the first layer


def codec_for(space: Any, in_parts: bool) -> ObservationCodec:
    """The codec of a policy's observations: this is where it is decided what a policy sees.

    in_parts  whether it takes images and categories as they are; else they are numbers of the one vector, as
              all others. Without such a part it is one vector in either case

    Raises UserError for a space that is not supported.
    """
    whole = observation_codec(space)
    parts = dict(parts_of(space)) if in_parts else {}
    return replace(numbers_of(space), parts=parts, batch_of_one=whole.batch_of_one) if parts else whole


def children(space: Any) -> dict[Any, Any] | None:
    """Key -> space, of a Dict or a Tuple; None for any other."""
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def kind_of(space: Any) -> PartKind | None:
    """What a space is that has an encoder of its own; None where it is numbers of the vector.

    An image is bytes or switches in rows, columns and channels, or bytes in rows and columns. Categories of a
    few values each are one-hot numbers: the first layer of a network embeds these too.
    """
    if isinstance(space, spaces.Box):
        axes = {np.dtype(np.uint8): (2, 3), np.dtype(bool): (3,)}.get(space.dtype, ())
        return Picture(space.shape) if len(space.shape) in axes else None
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        sizes = tuple(
            int(n) for n in np.reshape(space.n if isinstance(space, spaces.Discrete) else space.nvec, -1)
        )
        return Choices(sizes) if max(sizes, default=0) > MOST_ONE_HOT else None
    return None


def is_image(space: Any) -> bool:
    """Whether a policy may see it as an image."""
    return isinstance(kind_of(space), Picture)


def parts_of(space: Any, path: Path = ()) -> Iterator[tuple[str, Part]]:
    """The parts in a space that have encoders of their own, by name."""
    kind = kind_of(space)
    if kind is not None:
        yield name_of(path) or WORDS[type(kind)], part(path, space, kind)
    for key, child in (children(space) or {}).items():
        yield from parts_of(child, (*path, key))


def numbers_of(space: Any) -> ObservationCodec:
    """The codec of all that has no encoder of its own."""
    inside = {(): space} if kind_of(space) else children(space)
    if inside is None:
        return observation_codec(space)
    codecs = {key: numbers_of(child) for key, child in inside.items() if not kind_of(child)}
    return joined(codecs, lambda one: one)


def name_of(path: Path) -> str:
    """The name of a part: its keys, such as "camera" or "left/camera"."""
    return "/".join(str(key) for key in path)


def part(path: Path, space: Any, kind: PartKind) -> Part:
    """The part at the end of some keys."""

    def found(batch: Any, count: int) -> Any:
        inside = reduce(part_of, path, batch)
        if inside.shape != (count, *space.shape):
            raise misfit(inside.shape[1:], space.shape)
        return inside

    def encode(batch: Any, out: np.ndarray) -> None:
        out[...] = found(batch, len(out))

    if not isinstance(kind, Choices):
        return Part(kind, space.shape, np.dtype(space.dtype), encode)
    sizes, start = np.asarray(kind.sizes), np.reshape(space.start, -1)

    def encode_choices(batch: Any, out: np.ndarray) -> None:
        choices = found(batch, len(out))
        counted = choices.reshape(out.shape) - start
        if (counted < 0).any() or (counted >= sizes).any():
            raise outside(choices, sizes, start)
        out[...] = counted

    return Part(kind, sizes.shape, np.dtype(np.int32), encode_choices)
