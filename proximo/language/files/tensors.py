"""Safetensors files, one or several: read and written tensor by tensor."""

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from proximo.errors import UserError
from proximo.runs.sealed import json_object, write_bytes

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16"}


class Tensor(NamedTuple):
    """An array that is on disk, or will be: its shape and type are known, its values load on demand.

    kind   "F32", "F16", "BF16", or what else a file says
    array  makes it
    """

    shape: tuple[int, ...]
    kind: str
    array: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * (4 if self.kind == "F32" else 2)


@contextlib.contextmanager
def open_tensors(folder: Path) -> Iterator[dict[str, Tensor]]:
    """The tensors of a model folder, memory-mapped, from one file or from those that an index names.

    Raises UserError if a file is missing, unreadable, or contradicts the index.
    """
    with contextlib.ExitStack() as stack:
        if (folder / SINGLE).exists() or not (folder / INDEX).exists():
            yield open_file(folder / SINGLE, stack)[0]
            return
        places = _index(folder / INDEX)
        tensors: dict[str, Tensor] = {}
        for file in sorted(set(places.values())):
            found, _ = open_file(folder / file, stack)
            if strays := [name for name in found if places.get(name) != file]:
                raise UserError(f"{folder / file} holds {strays[0]}, but {INDEX} does not list it there")
            tensors |= found
        if missing := sorted(set(places) - set(tensors)):
            raise UserError(f"{folder / places[missing[0]]} lacks {missing[0]}, but {INDEX} lists it there")
        yield tensors


def open_file(path: Path, stack: contextlib.ExitStack) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file, which stays open as long as the stack, and its metadata.

    Raises UserError if it is no such file.
    """
    if not path.is_file():
        weights = [entry.name for entry in path.parent.glob("*.bin")]
        hint = f": {weights[0]} can hold code and is not read: convert it to safetensors" if weights else ""
        raise UserError(f"there is no {path}{hint}")
    try:
        file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
        tensors = {name: _tensor(file, name, path) for name in file.keys()}  # noqa: SIM118, it is no dict
        return tensors, dict(file.metadata() or {})
    except Exception as error:  # the library raises several kinds for what anybody may have written
        raise _unreadable(path, error) from error


def _tensor(file: Any, name: str, path: Path) -> Tensor:
    part = file.get_slice(name)
    kind = str(part.get_dtype())

    def array() -> np.ndarray:
        if kind not in TYPES.values():
            raise UserError(
                f"{path}: {name} is {kind}, but only F32, BF16 and F16 are supported (no quantised models)"
            )
        try:
            found: np.ndarray = file.get_tensor(name)
        except Exception as error:  # as above
            raise _unreadable(path, error) from error
        return found

    return Tensor(tuple(part.get_shape()), kind, array)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path} is not a readable safetensors file ({reason}): download or save it again")


def _index(path: Path) -> dict[str, str]:
    """Tensor -> file. Names of files with a path in them could reach outside the folder: refused."""
    places = json_object(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{path} has no weight_map: download or save it again")
    for name, file in places.items():
        if not isinstance(file, str) or set(file) & set('/\\:"\0') or not file.endswith(".safetensors"):
            raise UserError(f"{path} places {name} in {file!r}, which is not a file of this folder: refused")
    return dict(places)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int) -> None:
    """Write a model's tensors into one file, or into several and an index, as the Hub names them.

    max_shard_bytes  of one file; a tensor that is larger has a file of its own

    One tensor at a time is in memory, so that a model is never held twice.

    Raises UserError if a tensor is not finite.
    """
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        write_file(folder / SINGLE, tensors, {"format": "pt"})
        return
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(folder / file, {name: tensors[name] for name in names}, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(one.bytes for one in tensors.values())}, "weight_map": places}
    write_bytes(folder / INDEX, json.dumps(index, indent=1).encode())


def write_file(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """One safetensors file: the header's length, the header in JSON, and the tensors' bytes in its order.

    notes  metadata of the file

    Raises UserError if a tensor is not finite.
    """
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.bytes
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors begin aligned
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            file.write(_bytes(name, tensor))
        file.flush()
        os.fsync(file.fileno())


def _bytes(name: str, tensor: Tensor) -> bytes | memoryview:
    array = np.ascontiguousarray(tensor.array())
    if not np.isfinite(array).all():
        raise UserError(f"{name} is not finite, so the model is not saved")
    if (TYPES.get(array.dtype), array.shape) != (tensor.kind, tensor.shape):
        raise ValueError(f"{name} was announced as {tensor.kind}{list(tensor.shape)}")
    return array.reshape(-1).view(np.uint8).data


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    shards: list[list[str]] = []
    size = limit + 1  # the first tensor begins a file
    for name, tensor in tensors.items():
        if size + tensor.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.bytes
    return shards
