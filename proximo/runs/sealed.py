"""Folders that are whole or not there: a manifest of SHA-256 sums, written last and checked first."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from proximo.errors import UserError
from proximo.paths import short

MANIFEST = "manifest.json"
LARGEST_JSON = 64 * 2**20  # bytes; a description is a few kilobytes
DEEPEST = 100  # levels of JSON: Python's own limit is a crash of the interpreter's stack


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder whole or not at all; one that is there already is replaced.

    path   its final name. Until every byte is on the disk it is called `.NAME.partial`, which no reader
           takes for a folder of ours
    files  name -> content; the manifest is added

    Raises OSError, such as a full disk's (what was there before is then still there), and UserError if the
    folder that is there holds anything else.
    """
    settle(path)
    strangers = {entry.name for entry in path.iterdir()} - {*files, MANIFEST} if path.exists() else set()
    if strangers:
        raise UserError(
            f"{path} holds other files ({', '.join(sorted(strangers)[:3])}): choose another folder"
        )
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    _forget(partial)
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            _write(partial / name, content)
        _write(partial / MANIFEST, manifest(files))
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


def settle(path: Path) -> None:
    """Go back to the old folder where a replacement was cut short between its two renames."""
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.exists():
        with contextlib.suppress(OSError):  # a reader may have no right to write here
            old.rename(path)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The sums of all files, and one over these sums, as canonical JSON."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    whole = hashlib.sha256(json.dumps(sums).encode()).hexdigest()
    return json.dumps({"sha256": sums, "manifest_sha256": whole}, indent=1).encode()


def read_folder(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of a folder that `write_folder` wrote, checked against its manifest.

    names  the files it must have, no more and no less; a manifest cannot make us read any other

    Raises UserError, in one line, when a file is missing, cannot be read, or is not the one that was written.
    """
    settle(path)
    wanted, files = sorted(names), {}
    for name in [*wanted, MANIFEST]:
        files[name] = content_of(path / name)
    if files.pop(MANIFEST) != manifest(files):
        raise UserError(f"{path} is not what was saved (a SHA-256 sum differs): restore it from a copy")
    return files


def content_of(path: Path) -> bytes:
    """A file that anybody may have written; what is too large is not read at all, for it may fill the memory.

    Raises UserError for JSON of an insane size, for what is no plain file, and where reading fails.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} cannot be read (it is not a plain file)")
        if path.suffix == ".json":
            _check_size(found.st_size, path)
        elif found.st_size > _memory():
            raise UserError(f"{path} has {found.st_size} bytes, more than this machine's memory")
        return path.read_bytes()
    except MemoryError:
        raise UserError(f"{path} is too large for the memory that is left") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")  # another process may write it too
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_target(path: Path) -> None:
    """Raises UserError where no file can be written, before the work that is to be written there."""
    if path.is_dir() or not path.name:
        raise UserError(f"cannot write {short(path)}: it is a folder, so name a file in it")
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


def arrays_from(content: bytes, place: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises UserError if it is none."""
    try:
        return safetensors.numpy.load(content)
    except Exception as error:  # the library raises several kinds for what anybody may have written
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place} is not a readable safetensors file ({reason})") from error


def _memory() -> float:
    """Bytes of this machine, where it says."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_size(size: int, place: Path) -> None:
    if size > LARGEST_JSON:
        raise UserError(f"{place} has {size} bytes, more than any description of ours")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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
