"""What an environment's spaces hold, in one plain line: what a policy sees, and what it may do."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.envs.parts import is_image
from proximo.envs.scaling import scaling_of, unscaled
from proximo.envs.vector.masks import places_in_words
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.trees import children, leaves, name_of

MOST_PARTS = 6  # of an observation, or of an action with several bounds, that are told one by one


def in_words(observation: Any, action: Any, *, scaled: bool, private: Any = None) -> str:
    """Such as "observation: 5 numbers; action: 1 number in [0, 2000], scaled from [-1, 1]".

    scaled   whether a policy acts from -1 to 1, mapped to the bounds (`envs.scaling`)
    private  the space of what the critic alone sees; None for nothing
    """
    seen = _joined([*_seen(observation)])
    alone = "" if private is None else f"; the critic alone: {_joined([*_seen(private)])}"
    return f"observation: {seen}{alone}; action: {_joined(_acted(action, scaled))}"


def masks_in_words(source: str, flags: int) -> str:
    """What is told of legal actions, such as "action mask: 3 flags (its info has an 'action_mask')"."""
    return (
        f"action mask: {_count(flags, 'flag')} ({places_in_words(source)}); illegal actions are never taken"
    )


def _joined(parts: list[str]) -> str:
    told, more = parts[:MOST_PARTS], len(parts) - MOST_PARTS
    if more > 0:
        told.append(_count(more, "more part"))
    return " + ".join(told) or "nothing"


def _count(count: int, what: str, several: str = "") -> str:
    """Such as "1 number", "3 numbers"."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def _seen(space: Any, path: tuple[Any, ...] = ()) -> Iterator[str]:
    """Every part of an observation, with its name where it has one."""
    inside = children(space)
    for key, child in (inside or {}).items():
        yield from _seen(child, (*path, key))
    if inside is None:
        named = any(isinstance(key, str) for key in path)
        yield _part(space) + (f" as {name_of(path)!r}" if named else "")


def _part(space: Any) -> str:
    """A part of an observation."""
    if is_image(space):
        return f"1 image of {' x '.join(map(str, space.shape))}"
    if isinstance(space, spaces.Box):
        return _count(int(np.prod(space.shape)), "number")
    if isinstance(space, spaces.MultiBinary):
        return _count(int(np.prod(space.shape)), "switch", "switches")
    if isinstance(space, spaces.Discrete):
        return f"1 category ({space.n:,})"
    if isinstance(space, spaces.MultiDiscrete):
        return f"{_count(space.nvec.size, 'category', 'categories')} ({_sizes(space)})"
    if isinstance(space, spaces.Text):
        count = _count(space.max_length, "character")
        return f"1 text of up to {count} ({len(space.character_set):,} different)"
    return one_line(space)  # of a kind that was registered


def _acted(space: Any, scaled: bool) -> list[str]:
    """Every part of an action."""
    if children(space) is not None:
        return [
            f"{told} as {name_of(path)!r}" for path, part in leaves(space) for told in _acted(part, scaled)
        ]
    if isinstance(space, spaces.Discrete):
        return [f"1 of {_count(int(space.n), 'choice')}"]
    if isinstance(space, spaces.MultiDiscrete):
        return [f"{_count(space.nvec.size, 'choice')} ({_sizes(space)})"]
    if isinstance(space, spaces.Box):
        return _bounded(space, scaled)
    return [_part(space)]


def _sizes(space: spaces.MultiDiscrete) -> str:
    """Of how many values each of several choices is."""
    sizes = space.nvec.reshape(-1).tolist()
    if len(sizes) > MOST_PARTS:
        return f"{min(sizes)} to {max(sizes)} each" if min(sizes) < max(sizes) else f"{sizes[0]} each"
    return ", ".join(map(str, sizes))


def _bounded(space: spaces.Box, scaled: bool) -> list[str]:
    """The numbers of an action, those of the same bounds together."""
    low, high = (bound.reshape(-1).astype(float) for bound in (space.low, space.high))
    scaling, endless = scaling_of(space), unscaled(space)
    mapped = np.zeros(low.shape, bool) if scaling is None or not scaled else scaling.mapped
    together: dict[tuple[Any, ...], int] = {}
    for entry in zip(low.tolist(), high.tolist(), mapped.tolist(), endless.tolist(), strict=True):
        together[entry] = together.get(entry, 0) + 1
    what = "whole number" if space.dtype.kind in "iu" else "number"
    return [f"{_count(count, what)} {_range(*entry)}" for entry, count in together.items()]


def _range(low: float, high: float, mapped: bool, endless: bool) -> str:
    if endless and not (np.isfinite(low) or np.isfinite(high)):
        return "without bounds, not scaled"
    ends = (
        f"{'[' if np.isfinite(low) else '('}{low + 0.0:g}, {high + 0.0:g}{']' if np.isfinite(high) else ')'}"
    )
    if mapped:
        return f"in {ends}, scaled from [-1, 1]"
    return f"in {ends}" if (low, high) == (-1.0, 1.0) else f"in {ends}, not scaled"
