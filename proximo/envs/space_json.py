"""Spaces as plain data, so that a saved model knows what it sees and does without its environment."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.envs.vector.trees import children
from proximo.errors import UserError

LARGEST = 2**26  # entries of a space: an image of 4700 x 4700 in colour; a file must not fill the memory


WRITERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    spaces.Box: lambda space: {
        "low": _bounds(space.low),
        "high": _bounds(space.high),
        "shape": list(space.shape),
        "dtype": str(space.dtype),
    },
    spaces.Discrete: lambda space: {
        "n": int(space.n),
        "start": int(space.start),
        "dtype": str(space.dtype),
    },
    spaces.MultiDiscrete: lambda space: {
        "nvec": space.nvec.tolist(),
        "start": space.start.tolist(),
        "dtype": str(space.dtype),
    },
    spaces.MultiBinary: lambda space: {"shape": list(space.shape)},
    spaces.Text: lambda space: {
        "min_length": space.min_length,
        "max_length": space.max_length,
        "charset": "".join(sorted(space.character_set)),
    },
    spaces.Dict: lambda space: {"spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]},
    spaces.Tuple: lambda space: {"spaces": [space_to_json(part) for part in space.spaces]},
}


def space_to_json(space: Any) -> dict[str, Any]:
    """A space as JSON-ready data. Raises UserError for a kind that cannot be written."""
    for kind, write in WRITERS.items():
        if isinstance(space, kind):
            return {"kind": kind.__name__, **write(space)}
    raise UserError(f"spaces of kind {type(space).__name__} cannot be saved")


def _bounds(bounds: np.ndarray) -> Any:
    """One number as text where all are equal (images), else all of them; text, for JSON has no infinity."""
    kind = int if bounds.dtype.kind in "iu" else float
    flat = [repr(kind(bound)) for bound in bounds.ravel()]
    return flat[0] if flat and len(set(flat)) == 1 else flat


def _read_box(data: dict[str, Any]) -> spaces.Box:
    shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
    if dtype.kind not in "biuf":  # a text's length is in its name, and may be anything
        raise ValueError(f"{dtype} is not a numeric type")
    low, high = (_read_bounds(data[name], shape, dtype) for name in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


def _read_bounds(bounds: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """What `_bounds` wrote. Whole numbers stay whole: a float does not hold 64 bits of them."""
    flat = bounds if isinstance(bounds, list) else [bounds]
    read = [_whole(bound, dtype) for bound in flat] if dtype.kind in "iu" else np.asarray(flat, np.float64)
    return np.array(np.broadcast_to(np.asarray(read, dtype), (math.prod(shape),))).reshape(shape)


def _read_discrete(data: dict[str, Any]) -> spaces.Discrete:
    return spaces.Discrete(data["n"], start=data["start"], dtype=_whole_kind(data))


def _read_multi_discrete(data: dict[str, Any]) -> spaces.MultiDiscrete:
    dtype = _whole_kind(data)
    return spaces.MultiDiscrete(np.asarray(data["nvec"]), dtype, start=np.asarray(data["start"]))


def _whole_kind(data: dict[str, Any]) -> Any:
    """The dtype of the actions that the environment gets; older files do not record it."""
    dtype = np.dtype(data.get("dtype", "int64"))
    if dtype.kind not in "iu":
        raise ValueError(f"{dtype} is not an integer type")
    return dtype.type


def _whole(bound: Any, dtype: np.dtype) -> int:
    try:
        return int(bound)
    except ValueError:  # older files have floats, "255.0"; the one for the last of 64 bits is one too high
        return min(max(int(float(bound)), int(np.iinfo(dtype).min)), int(np.iinfo(dtype).max))


READERS = {
    "Box": _read_box,
    "Discrete": _read_discrete,
    "MultiDiscrete": _read_multi_discrete,
    "MultiBinary": lambda data: spaces.MultiBinary(data["shape"]),
    "Text": lambda data: spaces.Text(
        data["max_length"], min_length=data["min_length"], charset=str(data["charset"])
    ),
    "Dict": lambda data: spaces.Dict([(key, space_from_json(part)) for key, part in data["spaces"]]),
    "Tuple": lambda data: spaces.Tuple([space_from_json(part) for part in data["spaces"]]),
}


def space_from_json(data: dict[str, Any]) -> spaces.Space:
    """The space that `space_to_json` wrote.

    Raises ValueError, KeyError, TypeError or OverflowError where it is not one, and for more than `LARGEST`
    entries, before there is memory for any.
    """
    if data["kind"] not in READERS:
        raise ValueError(f"unknown kind of space {data['kind']!r}")
    if not _entries(data) <= LARGEST:  # NaN is not
        raise ValueError(f"a space of more than {LARGEST} entries")
    return READERS[data["kind"]](data)


def _entries(data: dict[str, Any]) -> int:
    """How many numbers an encoded observation of the space has; 0 for kinds that joined later."""
    kind = data["kind"]
    if kind in ("Box", "MultiBinary"):
        return math.prod(data["shape"])
    if kind == "Discrete":
        return data["n"]
    if kind == "Text":
        return data["max_length"] * len(data["charset"])
    if kind == "MultiDiscrete":
        return sum(np.asarray(data["nvec"]).ravel().tolist())
    if kind == "Dict":
        return sum(_entries(part) for _, part in data["spaces"])
    return sum(_entries(part) for part in data["spaces"]) if kind == "Tuple" else 0


def is_single(space: Any, observation: Any) -> bool:
    """Whether this is one observation of the space, and not a batch of them."""
    space, observation = _first(space, observation)
    if isinstance(space, spaces.Text):  # as such, or as the numbers of its characters
        return isinstance(observation, str) or (np.ndim(observation) == 1 and _are_numbers(observation))
    return np.ndim(observation) == len(space.shape)


def count_of(space: Any, batch: Any) -> int:
    """How many observations of the space a batch has."""
    return len(_first(space, batch)[1])


def _first(space: Any, observation: Any) -> tuple[Any, Any]:
    """The first part of a space that has none itself, and what is there of an observation or a batch."""
    while inside := children(space):
        key, space = next(iter(inside.items()))
        observation = observation[key]
    return space, observation


def _are_numbers(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iu"
