"""Action spaces, turned once into codecs: what a policy has to produce, and what the environment hears.

A new kind joins with `action_codec.register(Kind)`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache, singledispatch
from operator import itemgetter
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.core.types import ActionKind, Binary, Categories, Combinations, Continuous, Parts
from proximo.envs.spaces import MOST_CHOICES, ObservationCodec, observation_codec, unsupported
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.trees import Path, each, leaves, name_of, tree_of, with_texts
from proximo.errors import UserError


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """How a policy's actions become the environment's.

    kind             what the policy has to produce
    to_environment   a batch of the policy's actions -> what the vector environment's `step` takes, [N, ...]
                     in the space's own dtype. Always a new array: an environment may keep the action it was
                     given (to price a change of action, say), and a buffer used again would change that. Of
                     a Dict or a Tuple both are dicts or tuples of such: the policy's by name, "arm/grip"
    """

    kind: ActionKind
    to_environment: Callable[[Any], Any]

    def to_environment_one(self, action: Any) -> Any:
        """One action of the policy -> what a single environment's `step` takes."""
        batch = self.to_environment(each(lambda part: np.asarray(part)[None], action))
        return each(itemgetter(0), batch)


def with_dependent(kind: ActionKind, names: Collection[str]) -> ActionKind:
    """A kind whose parts of these names have dependent choices; "" is an action as a whole."""
    if isinstance(kind, Parts):
        pairs = zip(kind.names, kind.parts, strict=True)
        return Parts(
            kind.names, tuple(with_dependent(part, "" if name in names else ()) for name, part in pairs)
        )
    return Combinations(kind.sizes) if isinstance(kind, Categories) and "" in names else kind


def codecs(observation: Any, action: Any) -> tuple[ObservationCodec, ActionCodec]:
    """The codecs of an environment's two spaces.

    Raises UserError for a space that is not supported, is too large, or has nothing in it.
    """
    observed, acted = observation_codec(with_texts(observation)), action_codec(action)
    if observed.shape[0] == 0:
        raise UserError(
            f"the observation space {one_line(observation)} has no entries, so a policy would see "
            "nothing: give it one (a constant is enough: the shape (1,), and np.zeros(1, np.float32))"
        )
    return observed, acted


@singledispatch
def action_codec(space: Any) -> ActionCodec:
    """The codec of an action space. Raises UserError if no codec is registered for its kind."""
    raise unsupported("action", space)


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


@action_codec.register
def _(space: spaces.Dict | spaces.Tuple) -> ActionCodec:
    return joined_actions(space, lambda path, part: action_codec(part))


def joined_actions(space: Any, codec_of: Callable[[Path, Any], ActionCodec]) -> ActionCodec:
    """The codec of a Dict or a Tuple: an action is a dict of those of its parts, by name.

    codec_of  makes the codec of a part of its keys and its space

    Raises UserError for a part that is not supported.
    """
    codecs = {}
    for path, part in leaves(space):
        if action_codec.dispatch(type(part)) is action_codec.dispatch(object):
            raise unsupported("action", part, path)
        if name_of(path) in codecs:
            raise UserError(f"two parts of the action space are called {name_of(path)!r}: rename one")
        codecs[name_of(path)] = codec_of(path, part)
    if not codecs:
        raise UserError(f"the action space {one_line(space)} has no parts, so there is nothing to learn")

    def to_environment(action: dict[str, np.ndarray]) -> Any:
        def one(path: Path, part: Any) -> Any:
            name = name_of(path)
            return codecs[name].to_environment(action[name])

        return tree_of(space, one)

    kinds = tuple(codec.kind for codec in codecs.values())
    return ActionCodec(Parts(tuple(codecs), kinds), to_environment)


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
