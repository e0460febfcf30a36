"""A policy's actions from -1 to 1, mapped to the bounds of a Box: volts, watts and degrees become learnable.

A Gaussian policy begins with mean 0 and standard deviation 1. In a Box from 0 to 2000 it would see the lower
bound alone, and gradients move its mean by thousandths. Mapped, one step of the policy is half of the range.

What each entry of a Box becomes:

    two bounds           -1 is the low bound, 1 the high one, 0 the middle between them; whole numbers are
                         rounded to the nearest
    -1 and 1             itself, bit for bit: there is nothing to map
    one bound, or none   itself, clipped at the bound that there is: nothing says how large a step should be.
                         `unscaled` tells which entries these are, and a training says so in one line
    equal bounds         the bound, whatever the policy does

A distribution between bounds (tanh of a normal, Beta) is mapped to them in the same way.

A bound beyond `UNBOUNDED`, or at the end of what an integer of 32 bits and more can hold, is a way to write
"no bound", and counts as none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.envs.actions import ActionCodec, action_codec, joined_actions
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.trees import children, leaves
from proximo.errors import UserError

UNBOUNDED = 1e30  # float32 ends at 3.4e38, which is what many declare instead of infinity
Inside = Callable[[np.ndarray], np.ndarray]
"""What was sampled, [N, size] -> float64 [N, size] from -1 to 1."""
OLDER_FILES = {"scale_actions": False}  # what runs of version 0.2 and before did, whose files do not say it


@dataclass(frozen=True, eq=False)
class Scaling:
    """The map of a Box's entries; all arrays are [size].

    low, high  float64, the bounds; -1 and 1 where an entry is not mapped
    mapped     bool
    whole      whether the result is rounded here, since its dtype (bool) would not
    """

    low: np.ndarray
    high: np.ndarray
    mapped: np.ndarray
    whole: bool = False

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """The policy's actions [N, size] -> float64 [N, size], in the units of the environment."""
        share = (np.minimum(np.maximum(action, -1.0, dtype=np.float64), 1.0) + 1.0) * 0.5
        # Both products are exact at the ends, and neither overflows, as high - low may.
        found = self.low * (1.0 - share) + self.high * share
        if not self.mapped.all():
            np.copyto(found, action, where=~self.mapped)
        return np.rint(found, out=found) if self.whole else found


def bounded(space: spaces.Box) -> np.ndarray:
    """Which entries of a Box have two bounds, bool [size]."""
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    if space.dtype.kind in "iu":
        if space.dtype.itemsize < 4:  # such as bytes from 0 to 255
            return np.ones(low.shape, bool)
        ends = np.iinfo(space.dtype.name)
        return ((low > ends.min) | (ends.min == 0)) & (high < ends.max)
    return (low.astype(np.float64) > -UNBOUNDED) & (high.astype(np.float64) < UNBOUNDED)


def unscaled(space: Any) -> np.ndarray:
    """Which entries of an action cannot be mapped, for want of a bound, bool [size]."""
    return ~bounded(space) if isinstance(space, spaces.Box) else np.zeros(0, bool)


def scaling_of(space: Any) -> Scaling | None:
    """The map of an action space; None where every action stays as it is."""
    if not isinstance(space, spaces.Box):
        return None
    low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
    mapped = bounded(space) & ((low != -1.0) | (high != 1.0))
    if not mapped.any():
        return None
    return Scaling(np.where(mapped, low, -1.0), np.where(mapped, high, 1.0), mapped, space.dtype.kind == "b")


def scaled_codec(
    space: Any, here: Any = None, *, scaled: bool = True, inside: Inside | None = None
) -> ActionCodec:
    """The codec of a policy's actions: the one place where they get the environment's units.

    space   whose bounds are meant
    here    that of the environment, where it may have other bounds: actions keep their units and are clipped
    scaled  whether the policy acts from -1 to 1, mapped to the bounds
    inside  of a distribution that ends at bounds: then its actions are mapped to them in any case

    Raises UserError as `action_codec`.
    """
    here = space if here is None else here
    if children(space) is not None:
        bounds = dict(leaves(space))
        return joined_actions(
            here, lambda path, part: scaled_codec(bounds[path], part, scaled=scaled, inside=inside)
        )
    codec = action_codec(here)
    scaling = scaling_of(space) if scaled or inside is not None else None
    to_environment = codec.to_environment  # clips, so that no rounding leaves the bounds
    if not isinstance(space, spaces.Box) or (scaling is None and inside is None):
        return codec
    if inside is None:
        return ActionCodec(codec.kind, lambda action: to_environment(scaling(action)))  # type: ignore[misc]
    if scaling is None:
        return ActionCodec(codec.kind, lambda action: to_environment(inside(action)))
    return ActionCodec(codec.kind, lambda action: to_environment(scaling(inside(action))))


def require_bounds(space: Any, called: str) -> None:
    """Raises UserError where a distribution that ends at bounds does not fit an action space.

    called  the distribution, as it is typed
    """
    boxes = list(_boxes(space))
    require_numbers(space, called)
    for box in boxes:
        lacks = unscaled(box)
        if lacks.any():
            entry = int(np.argmax(lacks))
            low, high = (float(bound.reshape(-1)[entry]) for bound in (box.low, box.high))
            raise UserError(
                f"distribution is {called}, which acts between two finite bounds, and entry {entry} of the "
                f"action goes from {low:g} to {high:g}: declare the smallest and the largest value that make "
                "sense, or leave --distribution out"
            )


def require_numbers(space: Any, called: str) -> None:
    """Raises UserError where no action is a real number, for a distribution of these."""
    if not any(True for _ in _boxes(space)):
        raise UserError(
            f"distribution is {called}, which is of real numbers, and the action space {one_line(space)} has "
            "none: leave --distribution out"
        )


def _boxes(space: Any) -> Iterator[spaces.Box]:
    """The Boxes in an action space."""
    return (part for _, part in leaves(space) if isinstance(part, spaces.Box))
