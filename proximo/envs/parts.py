"""Observations in named parts: images and large categories apart, all numbers joined in one vector."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from typing import Any
from zlib import crc32

import numpy as np
from gymnasium import spaces

from proximo.core.types import LEGAL, VECTOR, Choices, PartKind, Picture, Tokens, Words
from proximo.envs.spaces import (
    MOST_CHOICES,
    ObservationCodec,
    Part,
    beyond,
    joined,
    misfit,
    observation_codec,
    outside,
    part_of,
    texts_of,
)
from proximo.envs.vector.masks import MASK, choices
from proximo.envs.vector.returned import form_for
from proximo.envs.vector.trees import Path, children, leaves, name_of
from proximo.errors import UserError

# of an observation that is one part:
SOLE_NAMES: dict[type, str] = {Picture: "image", Choices: "category", Tokens: "text", Words: "text"}
TAKEN = {VECTOR: "all numbers together", LEGAL: "the flags of legal actions"}
MOST_ONE_HOT = 256  # values of a category; beyond it a table of vectors is smaller than the first layer


def codec_for(
    envs_spaces: tuple[Any, Any],
    in_parts: bool,
    sees_masks: bool = False,
    critic_only: Sequence[str] = (),
) -> ObservationCodec:
    """The codec of a policy's observations: this is where it is decided what a policy sees.

    envs_spaces  of observations and of actions
    in_parts     whether it takes images and categories as they are; else they are numbers of the one vector,
                 as all others. Without such a part it is one vector in either case
    sees_masks   whether a part `action_mask` is among the numbers, as for policies of older files
    critic_only  names of the parts that the critic alone sees: their numbers are the vector's last

    Raises UserError for a space that is not supported.
    """
    space = envs_spaces[0] if sees_masks else without_masks(*envs_spaces)
    if critic_only:
        seen, private = without(space, critic_only), only(space, critic_only)
        every = spaces.Dict([*seen.spaces.items(), *private.spaces.items()])
        codec, alone = (codec_for((one, None), in_parts, sees_masks=True) for one in (every, private))
        parts = {name: replace(part, critic_only=name in alone.parts) for name, part in codec.parts.items()}
        return replace(codec, parts=parts, critic_only=alone.shape[0])
    whole = observation_codec(space)
    parts = named(parts_of(space)) if in_parts else {}
    if not in_parts:
        require_short(space)
    return replace(numbers_of(space), parts=parts, batch_of_one=whole.batch_of_one) if parts else whole


def acting_codec(codec: ObservationCodec, seen: ObservationCodec) -> ObservationCodec:
    """A codec that needs nothing of what the critic alone sees; no action depends on the zeros in its place.

    seen  the codec of observations without those parts
    """
    if not (codec.private.numbers or codec.private.parts):
        return codec
    size = seen.shape[0]

    def encode(batch: Any, out: np.ndarray) -> None:
        seen.encode(batch, out[:, :size])
        out[:, size:] = 0.0

    def blank(batch: Any, out: np.ndarray) -> None:
        out[...] = 0

    parts = {
        name: replace(part, encode=blank) if part.critic_only else part for name, part in codec.parts.items()
    }
    return replace(codec, encode=encode, batch_of_one=seen.batch_of_one, parts=parts)


def only(space: Any, names: Sequence[str]) -> spaces.Dict:
    """The named parts of an observation space. Raises UserError unless it has them, and others beside."""
    if not isinstance(space, spaces.Dict):
        raise UserError(
            f"critic_only names parts of the observation ({', '.join(names)}), but the observation is a "
            f"{type(space).__name__}: leave critic_only out, or give the environment a Dict"
        )
    missing = [name for name in names if name not in space.spaces]
    if missing:
        raise UserError(
            f"critic_only names {', '.join(missing)}, but the parts of the observation are "
            f"{', '.join(map(str, space.spaces))}"
        )
    if len(set(names)) == len(space.spaces):
        raise UserError("critic_only names every part of the observation, and the actor has to see one")
    return spaces.Dict([(key, part) for key, part in space.spaces.items() if key in names])


def without(space: Any, names: Sequence[str]) -> Any:
    """An observation space without the named parts, as far as it has them."""
    if not names or not isinstance(space, spaces.Dict):
        return space
    return spaces.Dict([(key, part) for key, part in space.spaces.items() if key not in names])


def require_short(space: Any) -> None:
    """Raises UserError for a text that is too long to be one-hot."""
    for path, part in leaves(space):
        if isinstance(part, spaces.Text):
            length, count = part.max_length, len(part.character_set)
            if length * count > MOST_CHOICES:
                where = f"the text {name_of(path)!r}" if path else "the text"
                raise UserError(
                    f"{where} of {length:,} characters, each of {count:,}, needs {length * count:,} "
                    f"one-hot entries, and at most {MOST_CHOICES:,} are supported: let the network read it "
                    "as it is (without --flatten; in_parts = True in a network of your own), or "
                    "lower max_length"
                )


def without_masks(observation: Any, action: Any) -> Any:
    """An observation space without the part that tells which actions are legal. Raises UserError if that is
    all."""
    told = isinstance(observation, spaces.Dict) and MASK in observation.spaces
    if not told or not choices(action):
        return observation
    seen = [(key, part) for key, part in observation.spaces.items() if key != MASK]
    if not seen:
        raise UserError(
            f"the observation space has the part {MASK!r} alone, which no policy sees: give it another one "
            "(a constant is enough: the shape (1,), and np.zeros(1, np.float32))"
        )
    return spaces.Dict(seen)


def kind_of(space: Any) -> PartKind | None:
    """What a space is that has an encoder of its own; None where it is numbers of the vector.

    An image has rows, columns and channels, of bytes, switches, or floats from 0 to 1 or to 255; or rows and
    columns of bytes. Categories of a few values each are one-hot numbers: the first layer of a network embeds
    these too. A text is read word by word where its characters have a space among them, and else letter by
    letter.
    """
    if isinstance(space, spaces.Box):
        if brightest(space):
            return Picture(space.shape, "float32")
        axes = {"uint8": (2, 3), "bool": (3,)}.get(str(space.dtype), ())
        return Picture(space.shape, str(space.dtype)) if len(space.shape) in axes else None
    if isinstance(space, spaces.Text):
        if " " in space.character_set:
            return Words((space.max_length + 1) // 2)
        return Tokens(space.max_length, len(space.character_set) + 1)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        sizes = tuple(
            int(n) for n in np.reshape(space.n if isinstance(space, spaces.Discrete) else space.nvec, -1)
        )
        return Choices(sizes) if max(sizes, default=0) > MOST_ONE_HOT else None
    return None


def brightest(space: Any) -> float:
    """The largest value of a picture of floats, 1 or 255; 0 for a space that is none."""
    floats = isinstance(space, spaces.Box) and space.dtype.kind == "f" and len(space.shape) == 3
    if not floats or not space.low.size or np.any(space.low != 0.0):
        return 0.0
    return next((most for most in (1.0, 255.0) if np.all(space.high == most)), 0.0)


def is_image(space: Any) -> bool:
    """Whether a policy may see it as an image."""
    return isinstance(kind_of(space), Picture)


def parts_of(space: Any, path: Path = ()) -> Iterator[tuple[str, Part]]:
    """The parts in a space that have encoders of their own, by name."""
    kind = kind_of(space)
    if kind is not None:
        yield name_of(path) or SOLE_NAMES[type(kind)], part(path, space, kind)
    for key, child in (children(space) or {}).items():
        yield from parts_of(child, (*path, key))


def named(found: Iterable[tuple[str, Part]]) -> dict[str, Part]:
    """Parts by name. Raises UserError where two have one, or one has that of what stands beside them."""
    parts: dict[str, Part] = {}
    for name, one in found:
        if name in parts:
            raise UserError(f"two parts of the observation space are called {name!r}: rename one")
        if name in TAKEN:
            raise UserError(
                f"a part of the observation space with an encoder of its own is called {name!r}, which is "
                f"what {TAKEN[name]} are called: rename it"
            )
        parts[name] = one
    return parts


def numbers_of(space: Any) -> ObservationCodec:
    """The codec of all that has no encoder of its own."""
    inside = {(): space} if kind_of(space) else children(space)
    if inside is None:
        return observation_codec(space)
    codecs = {key: numbers_of(child) for key, child in inside.items() if not kind_of(child)}
    return joined(codecs, lambda one: one)


def part(path: Path, space: Any, kind: PartKind) -> Part:
    """The part at the end of some keys."""

    def found(batch: Any, count: int) -> Any:
        inside = reduce(part_of, path, batch)
        if inside.shape != (count, *space.shape):
            raise misfit(inside.shape[1:], space.shape)
        return inside

    def encode(batch: Any, out: np.ndarray) -> None:
        out[...] = found(batch, len(out))

    if isinstance(kind, Tokens):
        form = form_for(space)

        def encode_text(batch: Any, out: np.ndarray) -> None:
            out[...] = texts_of(reduce(part_of, path, batch), form, len(out))

        return Part(kind, form.shape, form.dtype, encode_text)
    if isinstance(kind, Words):
        return _words_part(path, space, kind)
    if isinstance(kind, Picture):
        most = brightest(space)

        def encode_floats(batch: Any, out: np.ndarray) -> None:
            values = found(batch, len(out))
            if not (values.min(initial=0.0) >= 0.0 and values.max(initial=0.0) <= most):  # nor if it is NaN
                raise beyond(values, most, name_of(path))
            out[...] = values
            if most != 1.0:
                out /= most

        return Part(kind, space.shape, np.dtype(kind.dtype), encode_floats if most else encode)
    sizes, start = np.asarray(kind.sizes), np.reshape(space.start, -1)

    def encode_choices(batch: Any, out: np.ndarray) -> None:
        values = found(batch, len(out))
        counted = values.reshape(out.shape) - start
        if (counted < 0).any() or (counted >= sizes).any():
            raise outside(values, sizes, start)
        out[...] = counted

    return Part(kind, sizes.shape, np.dtype(np.int32), encode_choices)


def _words_part(path: Path, space: spaces.Text, kind: Words) -> Part:
    """The words of a text at the end of some keys; what is neither a letter nor a digit divides them."""
    form = form_for(space)
    characters = ["", *form.characters]

    @lru_cache(maxsize=4096)  # of many observations the text is one of few
    def read(row: bytes) -> np.ndarray:
        text = "".join(characters[code] for code in np.frombuffer(row, form.dtype))
        found = [hash_of(word) for word in re.findall(r"\w+", text)]
        return np.array(found + [0] * (kind.length - len(found)), np.int32)

    def encode(batch: Any, out: np.ndarray) -> None:
        for index, row in enumerate(texts_of(reduce(part_of, path, batch), form, len(out))):
            out[index] = read(row.tobytes())

    return Part(kind, (kind.length,), np.dtype(np.int32), encode)


def hash_of(word: str) -> int:
    """The number of a word, the same in every process and never 0; case does not matter."""
    return crc32(word.lower().encode()) % (Words.vocabulary - 1) + 1
