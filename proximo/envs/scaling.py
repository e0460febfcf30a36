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

A bound beyond `UNBOUNDED`, or at the end of what an integer of 32 bits and more can hold, is a way to write
"no bound", and counts as none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.envs.spaces import ActionCodec, action_codec

UNBOUNDED = 1e30  # float32 ends at 3.4e38, which is what many declare instead of infinity
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


def scaled_codec(space: Any, here: Any = None) -> ActionCodec:
    """The codec of an action space for a policy that acts from -1 to 1.

    space  whose bounds are meant
    here   that of the environment, where it may have other bounds: actions keep their units and are clipped

    Raises UserError as `action_codec`.
    """
    codec, scaling = action_codec(space if here is None else here), scaling_of(space)
    if scaling is None:
        return codec
    to_environment = codec.to_environment  # clips, so that no rounding leaves the bounds
    return ActionCodec(codec.kind, lambda action: to_environment(scaling(action)))
