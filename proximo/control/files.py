"""What the files of a run of `proximo train` hold.

RUN/config.json, metrics.jsonl   the configuration; a line per iteration
RUN/episodes.csv                 every training episode
RUN/checkpoints/STEPS/
    model.safetensors, model.json   the policy, as in RUN/model
    state.safetensors, state.json   all else: optimiser, normalisers, random streams, counters, episodes
                                    under way, the environments' own state, the configuration
RUN/model/                       as in `control.model`
RUN/best/, best.json             the best model, where the run is evaluated (`control.periodic_evaluation`)
"""

import contextlib
import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import Config, as_json, from_json
from proximo.control.iteration import EVALUATING, Iteration, Snapshot
from proximo.control.model import ARRAYS, DESCRIPTION, agent_of, model_files, run_of, save_model
from proximo.control.seen import codec_of
from proximo.core.types import LEGAL, VECTOR
from proximo.envs import Episode
from proximo.own import described_in, require_given
from proximo.runs.checkpoints import SCORE, STATE, STATE_ARRAYS, read_state, require_finite, state_files
from proximo.runs.files import CONFIG, METRICS, Entry, RunFiles
from proximo.runs.folder import file_name
from proximo.runs.logs import step_under
from proximo.runs.sealed import read_folder

EPISODES = "episodes.csv"
FILES = (ARRAYS, DESCRIPTION, STATE_ARRAYS, STATE)  # of a checkpoint
SOURCE = "env_source"  # in config.json: the environment as it is named on the command line
ARRAY = "__array__"  # stands in the JSON where an array lies in the safetensors file


def control_files(config: Config, **more: Any) -> RunFiles:
    """The files of a run.

    more  what else `config.json` says of it, as plain data: `preset`, its name; `command`, the words that
          were typed after `proximo`
    """
    return RunFiles(
        name=f"{file_name(config.name)}-{config.seed}",
        resume="proximo train --resume",
        described={**as_json(config), **more},
        entry=partial(entry, config),
        logs={METRICS: step_under("time/total_timesteps"), EPISODES: step_of_episode},
        heads={EPISODES: "step,env,return,length,terminated\r\n"},
        keep=3,
    )


def entry(config: Config, iteration: Iteration, seconds: float) -> Entry:
    """What is written of an iteration of `training`, or of a member of an ensemble."""
    metrics = {
        "rollout/ep_rew_mean": iteration.mean_return,
        "rollout/ep_len_mean": iteration.mean_length,
        "time/iterations": iteration.number,
        "time/total_timesteps": iteration.steps,
        "time/time_elapsed": seconds,
        "time/fps": iteration.steps / (seconds - iteration.metrics.get(EVALUATING, 0.0)),
        **iteration.metrics,
    }
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return Entry(
        steps=iteration.steps,
        metrics=metrics,
        logs={METRICS: json.dumps(metrics) + "\n", EPISODES: _episodes(iteration)},
        checkpoint=partial(checkpoint_files, iteration, config),
        save=partial(save_model, iteration.agent),
        last=iteration.last,
        sound=iteration.sound,
        described=partial(_environment, iteration.agent),
    )


def step_of_episode(line: str) -> int | None:
    """The steps that a line of episodes.csv tells of, -1 for its head; None if it is torn."""
    try:
        row = next(csv.reader(io.StringIO(line)), [])
    except csv.Error:
        return None
    if row[:1] == ["step"]:
        return -1
    try:
        return int(row[0]) if len(row) == 5 else None
    except ValueError:
        return None


def _episodes(iteration: Iteration) -> str:
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows(
        [iteration.steps, episode.env, episode.episode_return, episode.length, int(episode.terminated)]
        for episode in iteration.episodes
    )
    return lines.getvalue()


def _environment(agent: Agent) -> dict[str, Any]:
    """What it is, which is known once it has been made: by a function, say."""
    known = agent.environment
    source = {} if known.source is None else {SOURCE: known.source}
    return {"env": known.name, **source, "env_description": known.as_json()}


def with_source(agent: Agent, folder: Path) -> Agent:
    """The agent of a run, with the text that names its environment on the command line.

    folder  of the run, or one within it

    It is read for messages alone: nothing imports what it names.
    """
    place = next(
        (path for path in (folder, *folder.resolve().parents[:2]) if (path / CONFIG).is_file()), None
    )
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):  # anything may be in it
        source = None if place is None else json.loads((place / CONFIG).read_text()).get(SOURCE)
        if isinstance(source, str) and source.isprintable():
            agent.environment = replace(agent.environment, source=source)
    return agent


def checkpoint_files(iteration: Iteration, config: Config) -> dict[str, bytes]:
    """A checkpoint as the content of four files. Raises UserError if the learner is not finite."""
    snapshot, arrays = iteration.snapshot(), dict[str, np.ndarray]()
    require_finite(snapshot.learner, f"{snapshot.steps} steps")
    description = {
        "config": as_json(config),
        SCORE: iteration.mean_return if np.isfinite(iteration.mean_return) else None,
        "snapshot": flatten_state(snapshot._asdict(), "", arrays),
    }
    return {**model_files(iteration.agent), **state_files(arrays, description)}


def load_checkpoint(path: Path, own: Mapping[str, Any] | None = None) -> tuple[Config, Snapshot, Agent]:
    """What a checkpoint holds.

    own  the code of the user's own that its configuration asks for, by the options' names

    Raises UserError if it is not what was saved, or of another format; OwnCodeMissing where `own` is not what
    it asks for.
    """
    given = own or {}

    def build(description: Any, arrays: Any, files: Any) -> tuple[Config, Snapshot, Agent]:
        needed = described_in(description["config"])
        require_given(needed, given, "proximo train --resume", "proximo.resume", run_of(path))
        config = from_json(description["config"], given)
        snapshot = Snapshot(**unflatten_state(description["snapshot"], arrays))
        agent = agent_of(files, path, given.get("network"))
        _check(snapshot, config, agent)
        return config, snapshot, agent

    return read_state(path, build, (ARRAYS, DESCRIPTION))


def load_agent(path: Path, network: Any = None) -> Agent:
    """The agent of a checkpoint, whatever else is in it: a run that cannot be resumed here can still play.

    network  as in `load_model`

    Raises UserError if it is not what was saved, OwnCodeMissing as `load_model`.
    """
    return agent_of(read_folder(path, FILES), path, network)


def _check(snapshot: Snapshot, config: Config, agent: Agent) -> None:
    """Raise ValueError, KeyError or TypeError where a snapshot is not what a run of `config` would write.

    A resumed run compares the learner's arrays with a new learner's, the environments' state with theirs.
    """
    (number, steps, learner, statistics, stream), envs = snapshot, (config.num_envs,)
    recent, codec = statistics["recent"], codec_of(agent.policy, agent.spaces)
    sound = {
        "number": _is_count(number) and number < 2**32,  # random streams count in 32 bits
        "steps": _is_count(steps),
        "learner": isinstance(learner, dict) and all(isinstance(x, np.ndarray) for x in learner.values()),
        "return_so_far": _is_array(statistics["return_so_far"], np.float64, envs),
        "length_so_far": _is_array(statistics["length_so_far"], np.int64, envs),
        "recent": _is_array(recent, np.float64, (len(recent), len(Episode._fields)))
        and np.isfinite(np.delete(recent, Episode._fields.index("episode_return"), axis=1)).all(),
        "stream": (stream is None) == (config.population is not None),
        "scale_actions": agent.scale_actions == config.scale_actions,
    }
    if stream is not None:
        sound |= {
            "obs": _is_like(*_without_flags(stream["obs"], codec.empty(*envs), *envs)),
            "seam": _is_array(stream["seam"], bool, envs),
            "rows": _is_count(stream["rows"]),
            "envs": stream["envs"] is None or isinstance(stream["envs"], dict),
        }
        if "start" in stream:  # versions without memory wrote neither of these
            carry = jax.tree.leaves(agent.policy.begin(config.num_envs))
            sound |= {
                "start": _is_array(stream["start"], bool, envs),
                "costly": isinstance(stream["costly"], bool),
                "carry": isinstance(stream["carry"], list) and len(stream["carry"]) == len(carry),
            }
            if sound["carry"]:
                pairs = zip(stream["carry"], carry, strict=True)
                sound["carry"] = all(_is_array(x, like.dtype, like.shape) for x, like in pairs)
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        raise ValueError(f"not as its configuration asks for: {', '.join(wrong)}")


def _without_flags(obs: Any, like: Any, num_envs: int) -> tuple[Any, Any]:
    """Observations and what they should be like, without flags of legal actions, which tell their number.

    Raises ValueError where these are not flags.
    """
    if not isinstance(obs, dict) or LEGAL not in obs:
        return obs, like
    flags = obs[LEGAL]
    if not isinstance(flags, np.ndarray) or not _is_array(flags, bool, (num_envs, flags.size // num_envs)):
        raise ValueError("the legal actions are not flags of each environment")
    rest = {name: part for name, part in obs.items() if name != LEGAL}
    return rest, like if isinstance(like, dict) else {VECTOR: like}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_like(value: Any, like: Any) -> bool:
    """Whether it is an array as another one, or a dictionary of such."""
    if isinstance(like, dict):
        return (
            isinstance(value, dict)
            and value.keys() == like.keys()
            and all(_is_like(value[k], like[k]) for k in like)
        )
    return _is_array(value, like.dtype, like.shape)


def _is_array(value: Any, dtype: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape


def flatten_state(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Plain data as JSON holds it; arrays go into `arrays`, under the path they had."""
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value) if value.ndim else value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        return {str(key): flatten_state(part, f"{name}/{key}", arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [flatten_state(part, f"{name}/{index}", arrays) for index, part in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def unflatten_state(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `flatten_state`; tuples have become lists. Raises KeyError if an array is missing."""
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: unflatten_state(part, arrays) for key, part in value.items()}
    return [unflatten_state(part, arrays) for part in value] if isinstance(value, list) else value
