"""Checkpoints: everything that a run needs to resume, in folders that are complete or absent.

RUN/checkpoints/000000061440/
    state.safetensors, state.json   arrays, and the rest as plain data
    manifest.json                   SHA-256 of each file, written last and checked first

The training code decides what is in them, and in other files beside them.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy

from proximo.errors import CheckpointDamaged, OwnCodeMissing, UserError
from proximo.runs.sealed import arrays_from, content_of, parsed, read_folder, write_folder

FORMAT = 1
STATE_ARRAYS, STATE = "state.safetensors", "state.json"
SCORE = "mean_return"  # in state.json, where a run has one: the best checkpoint stays
NAME = re.compile(r"\d{12}")  # steps; what is being written, or thrown away, has another kind of name

Content = TypeVar("Content")


class Checkpoints:
    """The checkpoints of a run folder; the newest ones and the best one are kept.

    path    RUN/checkpoints
    keep    how many of the newest, at least 2: one may turn out to be damaged
    """

    def __init__(self, path: Path, keep: int = 3) -> None:
        self.path, self.keep = path, max(keep, 2)
        self._scores: dict[str, float] = {}  # of the checkpoints that were looked at

    def save(self, steps: int, files: Mapping[str, bytes]) -> Path:
        """Write a checkpoint, and remove what is neither among the newest nor the best.

        Raises OSError if the disk fails; the earlier checkpoints are then still there.
        """
        path = self.path / f"{steps:012d}"
        write_folder(path, files)
        self._scores.pop(path.name, None)
        self._thin_out()
        return path

    def _thin_out(self) -> None:
        found = finished(self.path)
        best = max(found, key=lambda path: (self._score_of(path), path.name))
        for path in found[self.keep :]:
            if path != best:
                hide(path, "gone")  # no reader meets one that is half removed
        for path in self.path.glob(".*.gone"):  # an earlier kill may have left some too
            shutil.rmtree(path, ignore_errors=True)

    def _score_of(self, path: Path) -> float:
        """A checkpoint's score; the lowest where it has none, or cannot be read."""
        if path.name not in self._scores:
            try:
                value = parsed(content_of(path / STATE), path / STATE)[SCORE]
                self._scores[path.name] = float("-inf") if value is None else float(value)
            except (UserError, KeyError, TypeError, ValueError, OverflowError):
                self._scores[path.name] = float("-inf")
        return self._scores[path.name]


def state_files(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, bytes]:
    """A state as the content of two files."""
    return {
        STATE_ARRAYS: safetensors.numpy.save(dict(arrays)),
        STATE: json.dumps({"format": FORMAT, **description}, allow_nan=False).encode(),
    }


def require_finite(arrays: Mapping[str, np.ndarray], when: str) -> None:
    """Raises UserError if a number is not finite: such a state cannot be resumed from.

    when  the state was reached, such as "100 steps"
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite after {when}: no checkpoint was written")


def read_state(
    path: Path,
    build: Callable[[dict[str, Any], dict[str, np.ndarray], dict[str, bytes]], Content],
    others: Iterable[str] = (),
) -> Content:
    """What a checkpoint holds.

    build   makes it of the description, the arrays and the content of all files
    others  files that must be there besides those of `state_files`

    Raises UserError if it is not what was saved, of another format, or nothing that `build` takes.
    """
    files = read_folder(path, (STATE_ARRAYS, STATE, *others))
    place = path / STATE
    description = parsed(files[STATE], place)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{place} is not in checkpoint format {FORMAT}, which this version reads")
    arrays = arrays_from(files[STATE_ARRAYS], path / STATE_ARRAYS)
    try:
        return build(description, arrays, files)
    except UserError:
        raise
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(f"{place} does not describe a checkpoint ({reason}): the file was changed") from error


def finished(path: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; what is being written is not among them."""
    if not path.is_dir():
        return []
    return sorted((p for p in path.iterdir() if NAME.fullmatch(p.name)), reverse=True)


def newest_valid(run: Path, load: Callable[[Path], Content]) -> tuple[Path, Content]:
    """The newest checkpoint of a run that can be used, and what `load` makes of it.

    A checkpoint that cannot be used is reported in a warning, and the one before it is used. If there is
    none, raises UserError with the reason for the newest: a run never silently starts over. Raises
    OwnCodeMissing.
    """
    errors: list[UserError] = []
    for path in finished(run / "checkpoints"):
        try:
            content = load(path)
        except OwnCodeMissing:
            raise  # nothing is wrong with the checkpoint
        except UserError as error:
            errors.append(error)
            continue
        for unused in errors:
            warnings.warn(f"{unused}; an older checkpoint is used instead", CheckpointDamaged, stacklevel=2)
        return path, content
    if errors:
        count = "the only checkpoint" if len(errors) == 1 else f"none of {len(errors)} checkpoints"
        verb = "cannot" if len(errors) == 1 else "can"
        raise UserError(f"{count} of {run} {verb} be used; the newest: {errors[0]}")
    raise UserError(f"there is no checkpoint in {run / 'checkpoints'}: start a new run with another --out")


def newest_where(
    run: Path, load: Callable[[Path], Content], wanted: Callable[[Content], bool]
) -> Content | None:
    """What the newest intact checkpoint holds of which `wanted` is true; None if there is none.

    A damaged one is passed over: `newest_valid` reports it.
    """
    for path in finished(run / "checkpoints"):
        with contextlib.suppress(UserError):
            content = load(path)
            if wanted(content):
                return content
    return None


def quarantine(run: Path, taken: Path) -> None:
    """Hide the checkpoints newer than the one that is `taken`: damaged ones, which would outrank new ones."""
    for path in finished(run / "checkpoints"):
        if path.name > taken.name:
            hide(path, "damaged")


def hide(path: Path, why: str) -> None:
    """Give a checkpoint a name that no reader takes for one; one of as many steps may be hidden already."""
    names = itertools.chain([path.name], (f"{path.name}-{number}" for number in itertools.count(2)))
    places = (path.with_name(f".{name}.{why}") for name in names)
    path.rename(next(place for place in places if not os.path.lexists(place)))
