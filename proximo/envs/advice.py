"""What is likely to keep a policy from learning in an environment, one line per finding, with a remedy.

`check` reports them, and a training warns of them once, as it begins.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from proximo.core.types import MOST_CHANNELS, Picture
from proximo.envs.description import visible
from proximo.envs.parts import kind_of
from proximo.envs.scaling import unscaled
from proximo.envs.spaces import FAR, ObservationCodec
from proximo.envs.vector.snapshot import layers
from proximo.envs.vector.trees import Path, leaves, name_of

REACH = 2.0  # standard deviations that the first policy's actions lie within, but for one in twenty
WIDEST, NARROWEST = 20.0, 0.1  # bounds of so many standard deviations: it sees a tenth, or their ends alone
CONSTANT = 2.0**-4  # where float32's steps are larger, beyond a million, a constant is hardly meant to be one
COARSE = 16  # float32's steps that an entry should vary by: with fewer, most of what it shows is rounding
SMALLEST_SIDE = 8  # pixels of what looks like a picture
STATISTICS = "RunningMeanStd"  # what Gymnasium calls running statistics, and those who took them from there


def unreachable_actions(space: Any, std: float, *, scaled: bool) -> list[str]:
    """What the bounds of a Box allow and the first policy does not reach: it has mean 0.

    std     of the first policy
    scaled  whether it acts from -1 to 1, mapped to the bounds where there are two (`envs.scaling`)
    """
    lines = []
    for path, part in leaves(space):
        if isinstance(part, spaces.Box):
            what = f"the action's part {name_of(path)!r}" if path else "the action"
            lines += unscaled_actions(part, std, what) if scaled else _out_of_reach(part, std, what)
    return lines


def unscaled_actions(space: spaces.Box, std: float, what: str = "the action") -> list[str]:
    """The entries of an action that are not mapped to their bounds."""
    which = unscaled(space)
    if not which.any():
        return []
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    they, them = ("it", "it") if which.sum() == 1 else ("they", "them")
    return [
        f"{_entries(which)} of {what} {_go(low, high, which)}: without two finite bounds {they} cannot "
        f"be scaled, so the policy begins there with mean 0 and standard deviation {std:g}; declare the "
        f"smallest and the largest value that make sense, or divide {them} by a typical size in step()"
    ]


def _out_of_reach(space: spaces.Box, std: float, what: str) -> list[str]:
    """What the bounds of a Box allow and a policy that is not mapped to them does not reach."""
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    with np.errstate(over="ignore"):
        width = high - low
    bounded = np.isfinite(width)
    policy = f"the first policy (mean 0, standard deviation {std:g})"
    outside = (low > REACH * std) | (high < -REACH * std)
    found = (
        (outside, f"{policy} lies outside, so every action is the bound that is nearest to 0"),
        (bounded & ~outside & (width > WIDEST * std), f"{policy} sees a small part of that"),
        (
            bounded & ~outside & (width > 0) & (width < NARROWEST * std),
            f"{policy} is so much wider that nearly every action is one of the two bounds",
        ),
    )
    return [
        f"{_entries(which)} of {what} {_go(low, high, which)}: {consequence}; {_remedy(space)}"
        for which, consequence in found
        if which.any()
    ]


def running_statistics(env: Any) -> list[str]:
    """Wrappers of an environment, or of a vector, that normalise by running statistics of their own."""
    inner = visible(env)[:1] if isinstance(env, gym.vector.VectorEnv) else []
    wrapped = [layer for one in (env, *inner) for layer in layers(one) if layer is not layer.unwrapped]
    names = dict.fromkeys(type(layer).__name__ for layer in wrapped if _has_statistics(layer))
    return [
        f"{name} keeps running statistics that are not saved with the model: evaluation and a resumed run "
        "start with other statistics, and logged returns may be scaled; leave the wrapper out, because "
        "training normalises observations and rewards itself"
        for name in names
    ]


def lost_precision(obs: np.ndarray, codec: ObservationCodec, offset: np.ndarray) -> list[str]:
    """Entries whose changes are lost in float32, since they lie so far from 0.

    obs     [T, N, size], encoded
    offset  [size], what `obs` is relative to
    """
    low, high = (bound(obs, axis=(0, 1)) for bound in (np.min, np.max))
    value = farthest(low, high)
    step = np.spacing(np.abs(value))
    with np.errstate(invalid="ignore", over="ignore"):
        spread = high - low
        few = (spread < COARSE * step) & ((spread > 0) | (step > CONSTANT))
    return precision_advice(codec.normalised & (np.abs(value) > FAR) & few, value, codec, offset)


def farthest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of the extremes those that are farther from 0."""
    return np.where(np.abs(low) > np.abs(high), low, high)


def precision_advice(
    lost: np.ndarray, value: np.ndarray, codec: ObservationCodec, offset: np.ndarray
) -> list[str]:
    """What to do about entries whose changes float32 loses, bool [size].

    value   [size], an encoded observation; `offset` [size], what it is relative to
    """
    if not lost.any():
        return []
    first = int(np.argmax(lost))
    verb = "lies" if lost.sum() == 1 else "lie"
    place, step = float(offset[first]) + float(value[first]), float(np.spacing(np.abs(value[first])))
    remedy = ", or declare and return float64 (training then subtracts the first observation)"
    if np.broadcast_to(codec.wide, lost.shape)[first]:
        remedy = " (training subtracts the first observation if it normalises observations)"
    return [
        f"{_entries(lost)} of the observation {verb} near {place:.3g}, where float32 numbers are {step:.3g} "
        f"apart and smaller changes are lost: subtract an offset in the environment{remedy}"
    ]


def pictures_as_numbers(space: Any) -> list[str]:
    """Boxes in an observation that look like pictures and are not declared as such."""
    return [f"{_called(path)}: {line}" for path, part in leaves(space) for line in undeclared_picture(part)]


def unclear_channels(space: Any) -> list[str]:
    """Images in an observation whose channels may be first or last."""
    return [f"{_called(path)}: {line}" for path, part in leaves(space) for line in unclear_order(part)]


def undeclared_picture(space: Any) -> list[str]:
    """What to do about a Box that looks like a picture and is read as numbers."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or kind_of(space) is not None:
        return []
    first, second, last = space.shape
    planes = ((first, second, last), (second, last, first))
    if not any(count <= MOST_CHANNELS and min(sides) >= SMALLEST_SIDE for *sides, count in planes):
        return []
    return [
        f"its shape {space.shape} looks like a picture's, but {space.dtype} from {space.low.min():g} to "
        f"{space.high.max():g} is read as {space.low.size:,} numbers; if it is a picture, declare a Box of "
        "np.float32 from 0 to 1 or from 0 to 255, or use np.uint8, from 0 to 255"
    ]


def unclear_order(space: Any) -> list[str]:
    """What was taken as the channels of an image whose shape does not tell, and what to do."""
    kind = kind_of(space)
    if not isinstance(kind, Picture) or kind.order_is_clear:
        return []
    last, first = (" x ".join(map(str, axes)) for axes in (kind.shape, (*kind.shape[1:], kind.shape[0])))
    return [
        f"its shape {kind.shape} does not tell where its channels are, and they are taken to be last "
        f"(height x width x channels: {last}); if they are first ({first}), return np.moveaxis(image, 0, -1) "
        "and declare that shape"
    ]


def _called(path: Path) -> str:
    return f"the observation's part {name_of(path)!r}" if path else "the observation"


def _entries(which: np.ndarray) -> str:
    """Such as "entry 3" or "3 of 8 entries (the first is entry 2)"."""
    first, count = int(np.argmax(which)), int(which.sum())
    return f"entry {first}" if count == 1 else f"{count} of {len(which)} entries (first: entry {first})"


def _go(low: np.ndarray, high: np.ndarray, which: np.ndarray) -> str:
    first, verb = int(np.argmax(which)), "goes" if which.sum() == 1 else "go"
    return f"{verb} from {low[first]:g} to {high[first]:g}"


def _remedy(space: spaces.Box) -> str:
    if space.dtype.kind in "iub":
        return "declare Discrete or MultiDiscrete, or map a policy from -1 to 1 to it with --scale-actions"
    if unscaled(space).any():
        return "take a Box from -1 to 1 and scale it in step()"
    return "map a policy from -1 to 1 to it with --scale-actions (scale_actions=True)"


def _has_statistics(layer: Any) -> bool:
    return any(type(value).__name__ == STATISTICS for value in vars(layer).values())
