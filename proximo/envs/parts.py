"""Observations in named parts: every image as it is, all other numbers joined in one vector."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.envs.spaces import Image, ObservationCodec, joined, misfit, observation_codec, part_of

Path = tuple[Any, ...]


def codec_for(space: Any, in_parts: bool) -> ObservationCodec:
    """The codec of a policy's observations: this is where it is decided what a policy sees.

    in_parts  whether it takes images as they are; else they are numbers of the one vector, as all others.
              Without an image it is one vector in either case

    Raises UserError for a space that is not supported.
    """
    whole = observation_codec(space)
    images = dict(images_of(space)) if in_parts else {}
    if not images:
        return whole
    named = {name_of(path): image(path, box) for path, box in images.items()}
    return replace(numbers_of(space), images=named, batch_of_one=whole.batch_of_one)


def children(space: Any) -> dict[Any, Any] | None:
    """Key -> space, of a Dict or a Tuple; None for any other."""
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def is_image(space: Any) -> bool:
    """Whether it is bytes in rows and columns, perhaps with channels."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def images_of(space: Any, path: Path = ()) -> Iterator[tuple[Path, spaces.Box]]:
    """The images in a space, and the keys that lead to each."""
    if is_image(space):
        yield path, space
    for key, child in (children(space) or {}).items():
        yield from images_of(child, (*path, key))


def numbers_of(space: Any) -> ObservationCodec:
    """The codec of all that is no image."""
    inside = {(): space} if is_image(space) else children(space)
    if inside is None:
        return observation_codec(space)
    codecs = {key: numbers_of(child) for key, child in inside.items() if not is_image(child)}
    return joined(codecs, lambda one: one)


def name_of(path: Path) -> str:
    """What a policy knows a part by: its keys, such as "camera" or "left/camera"."""
    return "/".join(str(key) for key in path) or "image"


def image(path: Path, space: spaces.Box) -> Image:
    """An image at the end of some keys."""

    def encode(batch: Any, out: np.ndarray) -> None:
        found = reduce(part_of, path, batch)
        if found.shape != out.shape:
            raise misfit(found.shape[1:], space.shape)
        out[...] = found

    return Image(space.shape, np.dtype(np.uint8), encode)
