"""Observation spaces, turned once into codecs: what an environment says, as plain arrays.

A codec is made when the environments are, and used at every step; nothing else asks what kind of space
there is. A new kind joins with `observation_codec.register(Kind)`; for actions see `actions.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.core.types import LEGAL, VECTOR, PartKind, Seen
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.returned import Leaf, as_declared, form_for
from proximo.envs.vector.trees import Path, children, leaves, name_of
from proximo.errors import EnvironmentFault, Misfit, UserError

FLOAT = np.dtype(np.float32)
EXACT = np.longdouble  # holds what float64 and, on most machines, 64-bit whole numbers hold
MOST_CHOICES = 2**15  # one-hot entries, or logits: a rollout of 2,048 rows and its update take 3 GB
FAR = 1e4  # from 0; float32 keeps a thousandth there


@dataclass(frozen=True, eq=False)
class ObservationCodec:
    """How observations become float32 vectors.

    shape        (size,) of one encoded observation
    normalised   bool, of `shape`: True where a running normaliser may act. Measured numbers are True; one-hot
                 entries, switches and masks are False, for moving them would change what they mean.
    encode       `encode(batch, out)` writes a batch, as a vector environment returns it (an array, or a
                 dict or tuple of arrays, each [N, ...]), into `out`, float32 [N, size].
                 Raises EnvironmentFault if the batch does not fit the space.
    batch_of_one one observation -> a batch with N = 1
    wide         bool, of `shape`: True where the environment has more digits than float32 holds
    offset       of `shape`, what is subtracted from every entry before it becomes float32 (`about`); None for
                 nothing
    parts        name -> what stays an array of its own beside the vector (`envs.parts`); mostly none
    flags        how many flags of legal actions stand beside it (`HostEnvs.legal`); 0 where none are told
    critic_only  how many numbers at the vector's end the critic alone sees
    """

    shape: tuple[int, ...]
    normalised: np.ndarray
    encode: Callable[[Any, np.ndarray], None]
    batch_of_one: Callable[[Any], Any] = field(default=lambda observation: np.asarray(observation)[None])
    dtype: np.dtype = FLOAT
    wide: np.ndarray | bool = False
    offset: np.ndarray | None = None
    parts: Mapping[str, "Part"] = field(default_factory=dict)
    flags: int = 0
    critic_only: int = 0

    @property
    def seen(self) -> Seen:
        """What actor and critic see."""
        parts = {name: part.kind for name, part in self.parts.items() if not part.critic_only}
        return Seen(self.shape[0] - self.critic_only, parts)

    @property
    def private(self) -> Seen:
        """What the critic alone sees."""
        parts = {name: part.kind for name, part in self.parts.items() if part.critic_only}
        return Seen(self.critic_only, parts)

    def beside(self, legal: np.ndarray | None) -> "ObservationCodec":
        """The codec whose observations have legal actions [N, M] beside them, if environments tell these."""
        return replace(self, flags=0 if legal is None else legal.shape[1])

    def empty(self, *axes: int) -> Any:
        """Room for encoded observations, [*axes, ...]: an array, or one for each part."""
        vector = np.empty((*axes, *self.shape), self.dtype)
        if not self.parts and not self.flags:
            return vector
        parts = {name: np.empty((*axes, *part.shape), part.dtype) for name, part in self.parts.items()}
        return {
            VECTOR: vector,
            **parts,
            **({LEGAL: np.ones((*axes, self.flags), bool)} if self.flags else {}),
        }

    def write(self, batch: Any, out: Any, legal: np.ndarray | None = None) -> None:
        """Encode a batch into what `empty(N)` gave.

        Raises EnvironmentFault if it does not fit the space, Misfit for values beyond its bounds where these
        tell how it is read.

        legal  bool [N, flags], which actions may be next; None for all
        """
        if not self.parts and not self.flags:
            return self.encode(batch, out)
        self.encode(batch, out[VECTOR])
        for name, part in self.parts.items():
            part.encode(batch, out[name])
        if self.flags:
            out[LEGAL][...] = True if legal is None else legal
        return None

    def about(self, offset: np.ndarray) -> "ObservationCodec":
        """The codec whose float32 vectors are relative to `offset`, float32 [size].

        It is subtracted before the numbers become float32, which holds 1.7e9 in steps of 128. The same codec
        where it is 0.
        """
        if not offset.any():
            return self
        encode_exactly, exact_offset = self.encode, offset.astype(EXACT)

        def encode(batch: Any, out: np.ndarray) -> None:
            exact = np.empty(out.shape, EXACT)
            encode_exactly(batch, exact)
            np.subtract(exact, exact_offset, out=out, casting="same_kind")

        return replace(self, encode=encode, offset=offset)

    def offset_from(self, batch: Any, count: int) -> np.ndarray:
        """What to be relative to, float32 [size], as the first of `count` first observations has it.

        0 where an entry is near 0, may not be moved, has no more digits than float32, or is too large for it.
        """
        encoded = np.empty((count, *self.shape), self.dtype)
        self.encode(batch, encoded)
        first = encoded[0]
        moved = self.normalised & self.wide & (np.abs(first) > FAR) & np.isfinite(first)
        return np.where(moved, first, np.zeros_like(first))


@dataclass(frozen=True, eq=False)
class Part:
    """An array of its own, [N, *shape]; `encode(batch, out)` takes batches of whole observations.

    kind         what a policy has to know of it
    critic_only  whether the critic alone sees it
    """

    kind: PartKind
    shape: tuple[int, ...]
    dtype: np.dtype
    encode: Callable[[Any, np.ndarray], None]
    critic_only: bool = False


def unsupported(what: str, space: Any, path: Path = ()) -> UserError:
    """The error for a space of no kind that has a codec. `what` is "observation" or "action"."""
    where = f"the part {name_of(path)!r} of the {what} space, {one_line(space)}," if path else ""
    where = where or f"the {what} space {one_line(space)}"
    remedy = {
        spaces.Graph: "return arrays of a fixed size instead: a Box of its nodes and one of its edges, "
        "filled up with zeros to the largest graph",
        spaces.Sequence: "return an array of a fixed size instead: a Box of the longest sequence, filled up "
        "with zeros, and its length as Discrete",
    }.get(type(space), "use Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple")
    if what == "action":
        remedy = "use Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
    return UserError(
        f"{where} is not supported: {remedy}, or wrap the environment with "
        f"gymnasium.wrappers.Transform{what.capitalize()}"
    )


# --- observations --------------------------------------------------------------------------------


@singledispatch
def observation_codec(space: Any) -> ObservationCodec:
    """The codec of an observation space. Raises UserError if no codec is registered for its kind."""
    raise unsupported("observation", space)


@observation_codec.register
def _(space: spaces.Box) -> ObservationCodec:
    size = int(np.prod(space.shape))
    wide = space.dtype.kind in "iuf" and not np.can_cast(space.dtype, FLOAT)
    switches = (space.low == 0) & (space.high == 1) & (space.dtype.kind in "iub")
    return ObservationCodec(
        shape=(size,),
        normalised=~np.asarray(switches, bool).reshape(size),
        encode=_flatten(space.shape),
        wide=np.full(size, wide),
    )


@observation_codec.register
def _(space: spaces.Discrete) -> ObservationCodec:
    return _one_hot(np.array([space.n]), np.array([space.start]), ())


@observation_codec.register
def _(space: spaces.MultiDiscrete) -> ObservationCodec:
    return _one_hot(space.nvec.reshape(-1), space.start.reshape(-1), space.shape)


def _one_hot(sizes: np.ndarray, start: np.ndarray, shape: tuple[int, ...]) -> ObservationCodec:
    """One-hot codes of K components, one after another: size = sum(sizes)."""
    if sum(sizes.tolist()) > MOST_CHOICES:
        raise UserError(
            f"a discrete observation of {sum(sizes.tolist()):,} values needs as many one-hot entries, "
            f"and at most {MOST_CHOICES:,} are supported: return several smaller ones (MultiDiscrete, such "
            "as a row and a column) or measured numbers (Box), with gymnasium.wrappers.TransformObservation"
        )
    component = np.repeat(np.arange(len(sizes)), sizes)  # which component each entry of the code belongs to
    own = [first + np.arange(n) for n, first in zip(sizes, start, strict=True)]
    value = np.concatenate([np.zeros(0, np.int64), *own])  # there may be no component

    def encode(batch: Any, out: np.ndarray) -> None:
        if batch.shape != (len(out), *shape):
            raise misfit(batch.shape[1:], shape)
        choices = batch.reshape(len(out), len(sizes))
        np.equal(choices[:, component], value, out=out)
        if np.count_nonzero(out) != choices.size:
            raise outside(batch, sizes, start)

    return ObservationCodec((len(value),), np.zeros(len(value), bool), encode)


@observation_codec.register
def _(space: spaces.MultiBinary) -> ObservationCodec:
    size = int(np.prod(space.shape))
    return ObservationCodec((size,), np.zeros(size, bool), _flatten(space.shape))


def _flatten(shape: tuple[int, ...]) -> Callable[[Any, np.ndarray], None]:
    """An encoder of arrays [N, *shape]."""

    def encode_vector(batch: Any, out: np.ndarray) -> None:
        if batch.shape != out.shape:  # an assignment alone would repeat a [1, size] batch without a word
            raise misfit(batch.shape[1:], shape)
        out[:] = batch

    def encode_flattened(batch: Any, out: np.ndarray) -> None:
        if batch.shape != (len(out), *shape):
            raise misfit(batch.shape[1:], shape)
        out[:] = batch.reshape(out.shape)

    return encode_vector if len(shape) == 1 else encode_flattened


@observation_codec.register
def _(space: spaces.Text) -> ObservationCodec:
    form = form_for(space)
    length, count = space.max_length, len(form.characters)

    def encode(batch: Any, out: np.ndarray) -> None:
        symbols = texts_of(batch, form, len(out))
        codes = symbols[:, :, None] == np.arange(1, count + 1)
        out[...] = codes.reshape(out.shape)

    def batch_of_one(text: Any) -> np.ndarray:
        return as_declared(text, form)[None]

    size = length * count
    return ObservationCodec((size,), np.zeros(size, bool), encode, batch_of_one)


def texts_of(batch: Any, form: Leaf, count: int) -> np.ndarray:
    """Texts as int32 [N, length], characters counted from 1. Raises Misfit for what is none, or too long."""
    return as_declared(batch, form._replace(shape=(count, *form.shape)))


@observation_codec.register
def _(space: spaces.Dict) -> ObservationCodec:
    codecs = _codecs_inside(space)
    return joined(codecs, lambda one: {key: codec.batch_of_one(one[key]) for key, codec in codecs.items()})


@observation_codec.register
def _(space: spaces.Tuple) -> ObservationCodec:
    codecs = _codecs_inside(space)
    return joined(codecs, lambda one: tuple(codec.batch_of_one(one[key]) for key, codec in codecs.items()))


def _codecs_inside(space: Any) -> dict[Any, ObservationCodec]:
    """Of the parts of a Dict or a Tuple. Raises UserError with the keys of one that is not supported."""
    for path, part in leaves(space):
        if observation_codec.dispatch(type(part)) is observation_codec.dispatch(object):
            raise unsupported("observation", part, path)
    return {key: observation_codec(child) for key, child in (children(space) or {}).items()}


def joined(codecs: dict[Any, ObservationCodec], batch_of_one: Callable[[Any], Any]) -> ObservationCodec:
    """The parts of a Dict or a Tuple side by side, in the order of the space."""
    ends = np.cumsum([codec.shape[0] for codec in codecs.values()]).tolist()
    parts = [
        (key, slice(end - codec.shape[0], end), codec.encode)
        for (key, codec), end in zip(codecs.items(), ends, strict=True)
    ]

    def encode(batch: Any, out: np.ndarray) -> None:
        for key, columns, encode_part in parts:
            encode_part(part_of(batch, key), out[:, columns])

    normalised = np.concatenate([np.zeros(0, bool), *(codec.normalised for codec in codecs.values())])
    wide = [np.broadcast_to(codec.wide, codec.shape) for codec in codecs.values()]
    return ObservationCodec(
        (len(normalised),), normalised, encode, batch_of_one, wide=np.concatenate([np.zeros(0, bool), *wide])
    )


def part_of(batch: Any, key: Any) -> Any:
    """A part of a Dict's or a Tuple's observations. Raises EnvironmentFault where it is missing."""
    try:
        return batch[key]
    except (KeyError, IndexError, TypeError) as error:
        raise EnvironmentFault(
            f"the observation has no part {key!r}, which its space declares; return every part"
        ) from error


def outside(batch: np.ndarray, sizes: np.ndarray, start: np.ndarray) -> EnvironmentFault:
    return EnvironmentFault(
        f"a discrete observation is outside its space: the values lie between {batch.min()} and "
        f"{batch.max()}, the space has {sizes.tolist()} values counted from {start.tolist()}; "
        "correct the environment's observation_space or what it returns"
    )


def beyond(values: np.ndarray, most: float, name: str) -> Misfit:
    """What is wrong with a batch of images of which some are not within 0 and `most`."""
    within = (values >= 0.0) & (values <= most)  # not where it is NaN
    index = int(np.argmin(within.reshape(len(values), -1).all(axis=1)))
    known = values[index][~np.isnan(values[index])]
    found = [f"values from {known.min()!s} to {known.max()!s}"] if known.size else []
    found += ["NaN"] if known.size < values[index].size else []
    image = f"image {name!r}" if name else "image"
    error = Misfit(
        f"its {image} has {' and '.join(found)}, but 0 to {most:g} was assumed, as its space says; correct "
        "its observation_space or what it returns; np.clip cuts off errors of rounding"
    )
    error.environment_index = index  # type: ignore[attr-defined]
    return error


def misfit(found: tuple[int, ...], declared: tuple[int, ...]) -> EnvironmentFault:
    return EnvironmentFault(
        f"the observation has shape {found}, but its space declares {declared}; correct the environment's "
        "observation_space or what it returns"
    )
