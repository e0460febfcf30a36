"""Arrays in the form of a space: one array, or dicts and tuples of what its parts hold."""

import string
from collections.abc import Callable, Iterator
from typing import Any

from gymnasium import spaces

Path = tuple[Any, ...]  # the keys of a part
ANY_TEXT = spaces.Text(256, min_length=0, charset=string.printable)


def with_texts(space: Any) -> Any:
    """The same space, where strings of a kind that tells neither length nor characters are `ANY_TEXT`.

    Such are the missions of MiniGrid.
    """
    if not any(_is_strange(part) for _, part in leaves(space)):
        return space
    inside = children(space)
    if inside is None:
        return ANY_TEXT
    texts = {key: with_texts(part) for key, part in inside.items()}
    return spaces.Dict([*texts.items()]) if isinstance(space, spaces.Dict) else spaces.Tuple(texts.values())


def _is_strange(space: Any) -> bool:
    text = isinstance(space, spaces.Space) and getattr(space.dtype, "kind", "") == "U"
    return text and not isinstance(space, spaces.Text)


def children(space: Any) -> dict[Any, Any] | None:
    """Key -> space, of a Dict or a Tuple; None for any other."""
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def leaves(space: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The spaces inside a Dict or a Tuple, each with its keys; the space itself if it is neither."""
    inside = children(space)
    if inside is None:
        yield path, space
    for key, child in (inside or {}).items():
        yield from leaves(child, (*path, key))


def tree_of(space: Any, function: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """What `function` makes of each space inside and its keys, in the form of the space."""
    inside = children(space)
    if inside is None:
        return function(path, space)
    found = {key: tree_of(child, function, (*path, key)) for key, child in inside.items()}
    return found if isinstance(space, spaces.Dict) else tuple(found.values())


def name_of(path: Path) -> str:
    """The name of a part: its keys, such as "camera" or "left/camera"."""
    return "/".join(str(key) for key in path)


def each(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same dicts and tuples, with what `function` makes of everything in them."""
    if isinstance(tree, dict):
        return {key: each(function, part) for key, part in tree.items()}
    return tuple(each(function, part) for part in tree) if isinstance(tree, tuple) else function(tree)


def put(arrays: Any, index: Any, value: Any) -> None:
    """Write a tree into row `index` of arrays of all environments, or into all rows with `...`."""
    if isinstance(arrays, dict):
        for key, part in arrays.items():
            put(part, index, value[key])
    elif isinstance(arrays, tuple):
        for part, one in zip(arrays, value, strict=True):
            put(part, index, one)
    else:
        arrays[index] = value
