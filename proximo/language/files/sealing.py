"""Folders of large files that are whole or not there; as `runs.sealed`, but nothing is held in memory."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from proximo.errors import UserError
from proximo.runs.sealed import MANIFEST, parsed, settle


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write files into, which takes its name only when all of them and a manifest are written.

    An older one of ours is replaced. Until then, and when writing fails, it stays as it was.

    Raises UserError if the folder that is there holds files that are not ours.
    """
    settle(path)
    _refuse_strangers(path)
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        write_bytes(partial / MANIFEST, _manifest(sums(partial)))
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        partial.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            if old.exists() and not path.exists():
                old.rename(path)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """A new file, on the disk when this returns."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def verify(folder: Path) -> None:
    """Check a folder against its manifest, if it has one of ours; a folder of the Hub's has none.

    Raises UserError if a file is missing, is not the one that was written, or if weights were added.
    """
    settle(folder)
    written = _written(folder)
    if written is None:
        return
    for name in {entry.name for entry in folder.iterdir()} - set(written):
        if name.endswith((".safetensors", ".safetensors.index.json")):
            raise UserError(
                f"{folder / name} was added since this was saved: remove it, or delete {MANIFEST}"
            )
    for name, there in written.items():
        try:
            same = _sum(folder / name) == there
        except OSError as error:
            raise UserError(
                f"{folder / name} cannot be read ({error.strerror}): save the model again"
            ) from error
        if not same:
            raise UserError(
                f"{folder / name} is not what was saved (its SHA-256 sum differs): restore it from a copy, "
                f"or delete {MANIFEST} if the change is meant"
            )


def sums(folder: Path) -> dict[str, str]:
    """File -> SHA-256, of all files but the manifest."""
    return {entry.name: _sum(entry) for entry in sorted(folder.iterdir()) if entry.name != MANIFEST}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(sums: dict[str, str]) -> bytes:
    """As `runs.sealed.manifest`."""
    return json.dumps({"sha256": sums, "manifest_sha256": _whole(sums)}, indent=1).encode()


def _whole(sums: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()


def _written(folder: Path) -> dict[str, str] | None:
    """What our manifest lists; None where there is none, or one of somebody else."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = parsed(path.read_bytes(), path)
    if not isinstance(content, dict) or not {"sha256", "manifest_sha256"} <= set(content):
        return None
    written = content["sha256"]
    names = isinstance(written, dict) and all(Path(name).name == name for name in written)
    if not names or _whole(written) != content["manifest_sha256"]:
        raise UserError(f"{path} is not what was saved: restore the folder from a copy, or delete {MANIFEST}")
    return dict(written)


def _refuse_strangers(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file: choose another folder")
    strangers = {entry.name for entry in path.iterdir()} - {MANIFEST, *(_written(path) or {})}
    if strangers:
        names = ", ".join(sorted(strangers)[:3])
        raise UserError(f"{path} holds files that are not ours ({names}): choose another folder")
