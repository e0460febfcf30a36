"""Checkpoints: all that a run needs to go on, in folders that are whole or not there.

RUN/checkpoints/000000061440/
    model.safetensors, model.json   the policy, as in RUN/model
    state.safetensors, state.json   everything else: optimiser, normalisers, random streams, counters,
                                    episodes under way, the environments' own state, the configuration
    manifest.json                   SHA-256 of each, written last and checked first
"""

import itertools
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from proximo.control.agent import Agent
from proximo.control.config import Config, as_json, from_json
from proximo.control.iteration import Iteration, Snapshot
from proximo.control.model import ARRAYS, DESCRIPTION, agent_of, model_files
from proximo.envs import Episode, observation_codec
from proximo.errors import CheckpointDamaged, UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.runs.sealed import arrays_from, content_of, parsed, read_folder, write_folder

FORMAT = 1
STATE_ARRAYS, STATE = "state.safetensors", "state.json"
FILES = (ARRAYS, DESCRIPTION, STATE_ARRAYS, STATE)
NAME = re.compile(r"\d{12}")  # steps; what is being written, or thrown away, has another kind of name
ARRAY = "__array__"  # stands in the JSON where an array lies in the safetensors file


class Checkpoints:
    """The checkpoints of a run folder; the newest ones and the best one are kept.

    path    RUN/checkpoints
    config  of the run
    keep    how many of the newest, at least 2: one may turn out to be damaged
    """

    def __init__(self, path: Path, config: Config, keep: int = 3) -> None:
        self.path, self.config, self.keep = path, config, max(keep, 2)
        self._returns: dict[str, float] = {}  # of the checkpoints that were looked at

    def save(self, iteration: Iteration) -> Path:
        """Write a checkpoint, and remove what is neither among the newest nor the best.

        Raises UserError if a number in it is not finite, OSError where the disk fails; what was there
        before is then still there.
        """
        path = self.path / f"{iteration.steps:012d}"
        write_folder(path, checkpoint_files(iteration, self.config))
        self._returns.pop(path.name, None)
        self._thin_out()
        return path

    def _thin_out(self) -> None:
        found = finished(self.path)
        best = max(found, key=lambda path: (self._return_of(path), path.name))
        for path in found[self.keep :]:
            if path != best:
                hide(path, "gone")  # no reader meets one that is half removed
        for path in self.path.glob(".*.gone"):  # an earlier kill may have left some too
            shutil.rmtree(path, ignore_errors=True)

    def _return_of(self, path: Path) -> float:
        """A checkpoint's mean return; the lowest where it has none, or cannot be read."""
        if path.name not in self._returns:
            try:
                value = parsed(content_of(path / STATE), path / STATE)["mean_return"]
                self._returns[path.name] = float("-inf") if value is None else float(value)
            except (UserError, KeyError, TypeError, ValueError, OverflowError):
                self._returns[path.name] = float("-inf")
        return self._returns[path.name]


def finished(path: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; what is being written is not among them."""
    if not path.is_dir():
        return []
    return sorted((p for p in path.iterdir() if NAME.fullmatch(p.name)), reverse=True)


def checkpoint_files(iteration: Iteration, config: Config) -> dict[str, bytes]:
    """A checkpoint as the content of four files. Raises UserError if the learner is not finite."""
    snapshot, arrays = iteration.snapshot(), dict[str, np.ndarray]()
    for name, array in snapshot.learner.items():
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite after {snapshot.steps} steps: no checkpoint is written")
    description = {
        "format": FORMAT,
        "config": as_json(config),
        "mean_return": iteration.mean_return if np.isfinite(iteration.mean_return) else None,
        "snapshot": taken_apart(snapshot._asdict(), "", arrays),
    }
    return {
        **model_files(iteration.agent),
        STATE_ARRAYS: safetensors.numpy.save(arrays),
        STATE: json.dumps(description, allow_nan=False).encode(),
    }


def load_checkpoint(path: Path) -> tuple[Config, Snapshot, Agent]:
    """What a checkpoint holds. Raises UserError if it is not what was saved, or of another format."""
    files = read_folder(path, FILES)
    description = parsed(files[STATE], path / STATE)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{path / STATE} is not of checkpoint format {FORMAT}, the one this version reads")
    arrays = arrays_from(files[STATE_ARRAYS], path / STATE_ARRAYS)
    try:
        config = from_json(description["config"])
        snapshot, agent = Snapshot(**put_together(description["snapshot"], arrays)), agent_of(files, path)
        _check(snapshot, config, agent)
    except UserError:
        raise
    except Exception as error:  # plain data from a file: anything may be wrong with it
        reason = " ".join(repr(error).split())[:200]
        raise UserError(
            f"{path / STATE} does not describe a checkpoint ({reason}): it was changed"
        ) from error
    return config, snapshot, agent


def load_agent(path: Path) -> Agent:
    """The agent of a checkpoint, whatever else is in it: a run that cannot be resumed here can be played.

    Raises UserError if it is not what was saved.
    """
    return agent_of(read_folder(path, FILES), path)


def _check(snapshot: Snapshot, config: Config, agent: Agent) -> None:
    """Raise ValueError, KeyError or TypeError where a snapshot is not what a run of `config` would write.

    Whoever goes on compares the learner's arrays with a new learner's, the environments' state with theirs.
    """
    (number, steps, learner, statistics, stream), envs = snapshot, (config.num_envs,)
    recent, codec = statistics["recent"], observation_codec(agent.spaces[0])
    sound = {
        "number": _is_count(number) and number < 2**32,  # random streams count in 32 bits
        "steps": _is_count(steps),
        "learner": isinstance(learner, dict) and all(isinstance(x, np.ndarray) for x in learner.values()),
        "return_so_far": _is_array(statistics["return_so_far"], np.float64, envs),
        "length_so_far": _is_array(statistics["length_so_far"], np.int64, envs),
        "recent": _is_array(recent, np.float64, (len(recent), len(Episode._fields)))
        and np.isfinite(np.delete(recent, Episode._fields.index("episode_return"), axis=1)).all(),
        "stream": (stream is None) == isinstance(config.update.actor_step, CrossEntropy),
    }
    if stream is not None:
        sound |= {
            "obs": _is_array(stream["obs"], codec.dtype, (*envs, *codec.shape)),
            "seam": _is_array(stream["seam"], bool, envs),
            "rows": _is_count(stream["rows"]),
            "envs": stream["envs"] is None or isinstance(stream["envs"], dict),
        }
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        raise ValueError(f"not as its configuration asks for: {', '.join(wrong)}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_array(value: Any, dtype: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape


def newest_valid(run: Path, load: Callable[[Path], Any] = load_checkpoint) -> tuple[Path, Any]:
    """The newest checkpoint of a run that can be used, and what `load` makes of it.

    One that cannot be used is named in a warning, and the one before it is taken. Raises UserError, with the
    reason of the newest, where there is none: a run never starts over in silence.
    """
    errors: list[UserError] = []
    for path in finished(run / "checkpoints"):
        try:
            content = load(path)
        except UserError as error:
            errors.append(error)
            continue
        for unused in errors:
            warnings.warn(f"{unused}; an older checkpoint is taken", CheckpointDamaged, stacklevel=2)
        return path, content
    if errors:
        count = "the only checkpoint" if len(errors) == 1 else f"none of {len(errors)} checkpoints"
        verb = "cannot" if len(errors) == 1 else "can"
        raise UserError(f"{count} of {run} {verb} be used; the newest: {errors[0]}")
    raise UserError(f"there is no checkpoint in {run / 'checkpoints'}: start again with a new --out")


def set_aside(run: Path, taken: Path) -> None:
    """Hide the checkpoints newer than the one that is `taken`: damaged ones, which would outrank new ones."""
    for path in finished(run / "checkpoints"):
        if path.name > taken.name:
            hide(path, "damaged")


def hide(path: Path, why: str) -> None:
    """Give a checkpoint a name that no reader takes for one; one of as many steps may be hidden already."""
    names = itertools.chain([path.name], (f"{path.name}-{number}" for number in itertools.count(2)))
    places = (path.with_name(f".{name}.{why}") for name in names)
    path.rename(next(place for place in places if not os.path.lexists(place)))


def taken_apart(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Plain data as JSON holds it; arrays go into `arrays`, under the path they had."""
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value) if value.ndim else value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        return {str(key): taken_apart(part, f"{name}/{key}", arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [taken_apart(part, f"{name}/{index}", arrays) for index, part in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def put_together(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `taken_apart`; tuples have become lists. Raises KeyError if an array is missing."""
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: put_together(part, arrays) for key, part in value.items()}
    return [put_together(part, arrays) for part in value] if isinstance(value, list) else value
