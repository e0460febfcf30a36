"""Spaces as plain data, so that a saved model knows what it sees and does without its environment."""

from functools import singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces

from proximo.errors import UserError


@singledispatch
def space_to_json(space: Any) -> dict[str, Any]:
    """A space as JSON-ready data; later kinds join with `space_to_json.register` and `READERS`.

    Raises UserError for a kind that cannot be written.
    """
    raise UserError(f"spaces of kind {type(space).__name__} cannot be saved")


@space_to_json.register
def _(space: spaces.Box) -> dict[str, Any]:
    return {
        "kind": "Box",
        "low": _bounds(space.low),
        "high": _bounds(space.high),
        "shape": list(space.shape),
        "dtype": str(space.dtype),
    }


@space_to_json.register
def _(space: spaces.Discrete) -> dict[str, Any]:
    return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}


@space_to_json.register
def _(space: spaces.MultiDiscrete) -> dict[str, Any]:
    return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}


@space_to_json.register
def _(space: spaces.MultiBinary) -> dict[str, Any]:
    return {"kind": "MultiBinary", "shape": list(space.shape)}


@space_to_json.register
def _(space: spaces.Dict) -> dict[str, Any]:
    return {"kind": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}


@space_to_json.register
def _(space: spaces.Tuple) -> dict[str, Any]:
    return {"kind": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}


def _bounds(bounds: np.ndarray) -> Any:
    """One number as text where all are equal (images), else all of them; text, for JSON has no infinity."""
    flat = [repr(float(bound)) for bound in bounds.ravel()]
    return flat[0] if flat and len(set(flat)) == 1 else flat


def _read_box(data: dict[str, Any]) -> spaces.Box:
    shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
    low, high = (
        np.broadcast_to(
            np.asarray(data[name], np.float64).reshape(-1 if isinstance(data[name], list) else ()), (n,)
        )
        for name, n in (("low", int(np.prod(shape))), ("high", int(np.prod(shape))))
    )
    return spaces.Box(low.reshape(shape).astype(dtype), high.reshape(shape).astype(dtype), shape, dtype.type)


READERS = {
    "Box": _read_box,
    "Discrete": lambda data: spaces.Discrete(data["n"], start=data["start"]),
    "MultiDiscrete": lambda data: spaces.MultiDiscrete(
        np.asarray(data["nvec"]), start=np.asarray(data["start"])
    ),
    "MultiBinary": lambda data: spaces.MultiBinary(data["shape"]),
    "Dict": lambda data: spaces.Dict([(key, space_from_json(part)) for key, part in data["spaces"]]),
    "Tuple": lambda data: spaces.Tuple([space_from_json(part) for part in data["spaces"]]),
}


def space_from_json(data: dict[str, Any]) -> spaces.Space:
    """The space that `space_to_json` wrote. Raises ValueError, KeyError or TypeError where it is not one."""
    if data["kind"] not in READERS:
        raise ValueError(f"unknown kind of space {data['kind']!r}")
    return READERS[data["kind"]](data)


@singledispatch
def is_single(space: Any, observation: Any) -> bool:
    """Whether this is one observation of the space, and not a batch of them."""
    return np.ndim(observation) == len(space.shape)


@is_single.register
def _(space: spaces.Dict, observation: Any) -> bool:
    key, part = next(iter(space.spaces.items()))
    return is_single(part, observation[key])


@is_single.register
def _(space: spaces.Tuple, observation: Any) -> bool:
    return is_single(space.spaces[0], observation[0])
