"""Folders that are complete or absent: a manifest of SHA-256 sums, written last and checked first."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from proximo.errors import UserError
from proximo.paths import short

MANIFEST = "manifest.json"
LARGEST_JSON = 64 * 2**20  # bytes; a description is a few kilobytes
DEEPEST = 100  # levels of JSON: Python's own limit is a crash of the interpreter's stack


@contextlib.contextmanager
def atomic_folder(path: Path, names: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to write files into, which takes its name only when they and a manifest are on the disk.

    path   its final name. Until then it is called `.NAME.partial`, which no reader takes for a folder of
           ours; a folder of ours that is there already is replaced, and stays as it was when writing fails
    names  files that may be replaced even where no manifest says that they are ours

    Raises OSError, such as a full disk's, and UserError if the folder that is there holds anything else.
    """
    recover(path)
    _refuse_strangers(path, names)
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    _forget(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        write_bytes(partial / MANIFEST, _manifest(sums(partial)))
        _flush(partial)
        if path.exists():
            _forget(old)
            path.rename(old)
        partial.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            if old.exists() and not path.exists():
                old.rename(path)
            _forget(partial)
        raise
    _flush(path.parent)
    _forget(old)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """`atomic_folder` of files that are in memory: name -> content."""
    with atomic_folder(path, files) as partial:
        for name, content in files.items():
            write_bytes(partial / name, content)


def write_bytes(path: Path, content: bytes) -> None:
    """A new file, on the disk when this returns."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def recover(path: Path) -> None:
    """Go back to the old folder if a replacement was interrupted between its two renames."""
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.exists():
        with contextlib.suppress(OSError):  # a reader may have no right to write here
            old.rename(path)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The sums of all files, and one over these sums, as canonical JSON."""
    return _manifest({name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())})


def sums(folder: Path) -> dict[str, str]:
    """File -> SHA-256, of all files but the manifest; none of them is held in memory."""
    return {entry.name: _sum(entry) for entry in sorted(folder.iterdir()) if entry.name != MANIFEST}


def verify(folder: Path) -> None:
    """Check a folder against its manifest, if it has one of ours; a folder of the Hub's has none.

    No file is held in memory. Raises UserError if one is missing or is not the one that was written, or if
    weights were added.
    """
    recover(folder)
    listed = _listed(folder)
    if listed is None:
        return
    for name in {entry.name for entry in folder.iterdir()} - set(listed):
        if name.endswith((".safetensors", ".safetensors.index.json")):
            raise UserError(
                f"{folder / name} was added after this was saved: remove it, or delete {MANIFEST}"
            )
    for name, there in listed.items():
        try:
            same = _sum(folder / name) == there
        except OSError as error:
            raise UserError(
                f"{folder / name} cannot be read ({error.strerror}): save the model again"
            ) from error
        if not same:
            raise UserError(
                f"{folder / name} has changed since it was saved (its SHA-256 sum differs): restore it "
                f"from a copy, or delete {MANIFEST} if the change is intended"
            )


def read_folder(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of a folder that `write_folder` wrote, checked against its manifest.

    names  the files it must have, no more and no less; a manifest cannot make us read any other

    Raises UserError, in one line, when a file is missing, cannot be read, or is not the one that was written.
    """
    recover(path)
    files = {name: content_of(path / name) for name in sorted(names)}
    if content_of(path / MANIFEST) != manifest(files):
        raise UserError(
            f"{path} has changed since it was saved (a SHA-256 sum differs): restore it from a copy"
        )
    return files


def content_of(path: Path) -> bytes:
    """Read an untrusted file; one that is too large is not read at all, since it may fill the memory.

    Raises UserError for JSON of an insane size, for what is no plain file, and where reading fails.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} cannot be read (it is not a regular file)")
        if path.suffix == ".json":
            _check_size(found.st_size, path)
        elif found.st_size > _memory():
            raise UserError(f"{path} has {found.st_size} bytes, more than this machine's memory")
        return path.read_bytes()
    except MemoryError:
        raise UserError(f"{path} is too large for the remaining memory") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Raises UserError where the system refuses to write a file: no such folder, a full disk."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}{advice}") from error


def write_file(path: Path, content: bytes, advice: str = "") -> None:
    """`replace_file`, with the folders above it. Raises UserError where that fails."""
    with writing(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")  # another process may write it too
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_target(path: Path) -> None:
    """Raises UserError if a file cannot be written, before the work whose result it will hold."""
    if path.is_dir() or not path.name:
        raise UserError(f"cannot write {short(path)}: it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {short(path)}: there is no folder {short(path.parent)}")


def parsed(content: bytes, place: Path) -> Any:
    """JSON from a file that anybody may have written. Raises UserError unless size and depth are sane."""
    _check_size(len(content), place)
    deepest = depth = 0
    for bracket in re.findall(rb"[][{}]", content):
        depth += 1 if bracket in (b"[", b"{") else -1
        deepest = max(deepest, depth)
    try:
        if deepest > DEEPEST:
            raise ValueError(f"{deepest} levels deep")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not readable JSON ({error}): restore it from a copy") from error


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError where it cannot be read, or is anything else."""
    found = parsed(content_of(path), path)
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object: restore it from a copy")
    return found


def arrays_from(content: bytes, place: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises UserError if it is none."""
    try:
        return safetensors.numpy.load(content)
    except Exception as error:  # the library raises several kinds for what anybody may have written
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place} is not a readable safetensors file ({reason})") from error


def _memory() -> float:
    """Bytes of memory of this machine, if known."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_size(size: int, place: Path) -> None:
    if size > LARGEST_JSON:
        raise UserError(f"{place} has {size} bytes, more than any description that Proximo writes")


def _flush(folder: Path) -> None:
    """Ask the disk to keep a folder's entries; where folders cannot be opened (Windows) there is no need."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _forget(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(sums: Mapping[str, str]) -> bytes:
    return json.dumps({"sha256": sums, "manifest_sha256": _whole(sums)}, indent=1).encode()


def _whole(sums: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()


def _listed(folder: Path) -> dict[str, str] | None:
    """What our manifest lists; None where there is none, or one of somebody else."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = parsed(content_of(path), path)
    if not isinstance(content, dict) or not {"sha256", "manifest_sha256"} <= set(content):
        return None
    listed = content["sha256"]
    names = isinstance(listed, dict) and all(Path(name).name == name for name in listed)
    if not names or _whole(listed) != content["manifest_sha256"]:
        raise UserError(
            f"{path} has changed since it was saved: restore the folder from a copy, or delete {MANIFEST}"
        )
    return dict(listed)


def _refuse_strangers(path: Path, names: Iterable[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file: choose another folder")
    strangers = {entry.name for entry in path.iterdir()} - {MANIFEST, *names}
    strangers -= set(_listed(path) or ()) if strangers else set()
    if strangers:
        found = ", ".join(sorted(strangers)[:3])
        raise UserError(f"{path} holds other files ({found}): choose another folder")
