"""Spaces, turned once into codecs: what an environment says and hears, as plain arrays.

A codec is made when the environments are, and used at every step; nothing else asks what kind of space
there is. A new kind joins with `observation_codec.register(Kind)` or `action_codec.register(Kind)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.core.types import VECTOR, ActionKind, Binary, Categories, Continuous, PartKind
from proximo.envs.vector.returned import one_line
from proximo.errors import EnvironmentFault, UserError

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
    """

    shape: tuple[int, ...]
    normalised: np.ndarray
    encode: Callable[[Any, np.ndarray], None]
    batch_of_one: Callable[[Any], Any] = field(default=lambda observation: np.asarray(observation)[None])
    dtype: np.dtype = FLOAT
    wide: np.ndarray | bool = False
    offset: np.ndarray | None = None
    parts: Mapping[str, "Part"] = field(default_factory=dict)

    def empty(self, *axes: int) -> Any:
        """Room for encoded observations, [*axes, ...]: an array, or one for each part."""
        vector = np.empty((*axes, *self.shape), self.dtype)
        if not self.parts:
            return vector
        return {VECTOR: vector} | {
            name: np.empty((*axes, *part.shape), part.dtype) for name, part in self.parts.items()
        }

    def write(self, batch: Any, out: Any) -> None:
        """Encode a batch into what `empty(N)` gave. Raises EnvironmentFault if it does not fit the space."""
        if not self.parts:
            return self.encode(batch, out)
        self.encode(batch, out[VECTOR])
        for name, part in self.parts.items():
            part.encode(batch, out[name])
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

    kind  what a policy has to know of it
    """

    kind: PartKind
    shape: tuple[int, ...]
    dtype: np.dtype
    encode: Callable[[Any, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """How a policy's actions become the environment's.

    kind             what the policy has to produce
    to_environment   a batch of the policy's actions -> what the vector environment's `step` takes, [N, ...]
                     in the space's own dtype. Always a new array: an environment may keep the action it was
                     given (to price a change of action, say), and a buffer used again would change that.
    """

    kind: ActionKind
    to_environment: Callable[[np.ndarray], np.ndarray]

    def to_environment_one(self, action: Any) -> Any:
        """One action of the policy -> what a single environment's `step` takes."""
        return self.to_environment(np.asarray(action)[None])[0]


def codecs(observation: Any, action: Any) -> tuple[ObservationCodec, "ActionCodec"]:
    """The codecs of an environment's two spaces.

    Raises UserError for a space that is not supported, is too large, or has nothing in it.
    """
    observed, acted = observation_codec(observation), action_codec(action)
    if observed.shape[0] == 0:
        raise UserError(
            f"the observation space {one_line(observation)} has no entries, so a policy would see "
            "nothing: give it one (a constant is enough: the shape (1,), and np.zeros(1, np.float32))"
        )
    return observed, acted


# --- observations --------------------------------------------------------------------------------


@singledispatch
def observation_codec(space: Any) -> ObservationCodec:
    """The codec of an observation space. Raises UserError if no codec is registered for its kind."""
    raise UserError(
        f"the observation space {one_line(space)} is not supported: use Box, Discrete, MultiDiscrete, "
        "MultiBinary, Dict or Tuple, or wrap the environment with gymnasium.wrappers.TransformObservation"
    )


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
def _(space: spaces.Dict) -> ObservationCodec:
    codecs = {key: observation_codec(child) for key, child in space.spaces.items()}
    return joined(codecs, lambda one: {key: codec.batch_of_one(one[key]) for key, codec in codecs.items()})


@observation_codec.register
def _(space: spaces.Tuple) -> ObservationCodec:
    codecs = dict(enumerate(observation_codec(child) for child in space.spaces))
    return joined(codecs, lambda one: tuple(codec.batch_of_one(one[key]) for key, codec in codecs.items()))


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


def misfit(found: tuple[int, ...], declared: tuple[int, ...]) -> EnvironmentFault:
    return EnvironmentFault(
        f"the observation has shape {found}, but its space declares {declared}; correct the environment's "
        "observation_space or what it returns"
    )


# --- actions -------------------------------------------------------------------------------------


@singledispatch
def action_codec(space: Any) -> ActionCodec:
    """The codec of an action space. Raises UserError if no codec is registered for its kind."""
    raise UserError(
        f"the action space {one_line(space)} is not supported: use Discrete, MultiDiscrete, MultiBinary or "
        "Box, or wrap the environment with gymnasium.wrappers.TransformAction"
    )


@action_codec.register
def _(space: spaces.Discrete) -> ActionCodec:
    _require_choices(space, int(space.n))
    return ActionCodec(Categories((int(space.n),), scalar=True), _shifted(space, space.start))


@action_codec.register
def _(space: spaces.MultiDiscrete) -> ActionCodec:
    _require_choices(space, space.nvec.size * int(space.nvec.max(initial=0)))  # components have equal room
    sizes = tuple(int(n) for n in space.nvec.flat)
    return ActionCodec(Categories(sizes), _shifted(space, space.start.reshape(-1)))


@action_codec.register
def _(space: spaces.MultiBinary) -> ActionCodec:
    _require_choices(space)
    return ActionCodec(Binary(int(np.prod(space.shape))), _shifted(space, 0))


def _require_choices(space: Any, logits: int = 0) -> None:
    """Raises UserError for actions of no entry, or of more logits than a policy can have."""
    if np.prod(space.shape) == 0:
        raise UserError(f"the action space {one_line(space)} has no entries, so there is nothing to learn")
    if logits > MOST_CHOICES:
        raise UserError(
            f"the action space {one_line(space)} needs {logits:,} logits, and at most {MOST_CHOICES:,} "
            "are supported: split it into smaller choices (MultiDiscrete), or leave out what is never good"
        )


def _shifted(space: Any, start: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Counted from `start`, in the space's dtype (compiled environments insist on it), in its shape."""
    dtype, shape = space.dtype, space.shape if len(space.shape) > 1 else None
    first = np.asarray(start, dtype)

    def to_environment(action: np.ndarray) -> np.ndarray:
        shifted = np.add(action, first, dtype=dtype, casting="unsafe")
        return shifted if shape is None else shifted.reshape(len(shifted), *shape)

    return to_environment


@action_codec.register
def _(space: spaces.Box) -> ActionCodec:
    # The policy's action stays as it was sampled; only what the environment sees is clipped. Clipping what is
    # stored would make its log-probability that of another action, and the ratio before any update not 1.
    _require_choices(space)
    size, shape, dtype = int(np.prod(space.shape)), space.shape, space.dtype
    if dtype.kind in "iu":
        return ActionCodec(Continuous(size), _rounded(space))
    low, high = space.low.reshape(size), space.high.reshape(size)

    @lru_cache(maxsize=4)
    def bounds(count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(low, (count, 1)), np.tile(high, (count, 1))

    def to_vector(action: np.ndarray) -> np.ndarray:
        # Two ufuncs on arrays of one shape, 0.9 us: np.clip takes 2.4 us, so does broadcasting the bounds.
        lowest, highest = bounds(len(action))
        clipped = np.minimum(np.maximum(action, lowest), highest)
        return clipped if clipped.dtype == dtype else clipped.astype(dtype)

    def to_shape(action: np.ndarray) -> np.ndarray:
        return to_vector(action).reshape(len(action), *shape)

    return ActionCodec(Continuous(size), to_vector if len(shape) == 1 else to_shape)


def _rounded(space: spaces.Box) -> Callable[[np.ndarray], np.ndarray]:
    """Whole numbers: clip as float64, round, clip again: float64 does not hold all bounds past 2^53."""

    def bound(values: np.ndarray) -> np.ndarray:
        real = values.reshape(-1).astype(np.float64)
        return np.where(np.abs(real) > 2.0**53, np.nextafter(real, 0.0), real)

    low, high = bound(space.low), bound(space.high)  # one step inwards there, so that the rounded one fits
    lowest, highest = space.low.reshape(-1), space.high.reshape(-1)

    def to_environment(action: np.ndarray) -> np.ndarray:
        clipped = np.minimum(np.maximum(action, low, dtype=np.float64), high)
        whole = np.rint(clipped).astype(space.dtype)
        return np.minimum(np.maximum(whole, lowest), highest).reshape(len(action), *space.shape)

    return to_environment
