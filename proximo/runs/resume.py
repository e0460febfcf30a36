"""Going on with a run that was cut short: from its newest checkpoint that is whole."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from proximo.control.agent import Agent
from proximo.control.config import Config, validated, with_options
from proximo.control.iteration import Snapshot
from proximo.envs import check_fits, chosen, make_envs, name_of, own_num_envs
from proximo.errors import UserError
from proximo.paths import absolute
from proximo.runs.checkpoints import load_checkpoint, newest_valid, set_aside
from proximo.runs.folder import EPISODES, METRICS, RunFolder, warn_of_another_machine
from proximo.runs.kinds import check_is_policy, language_command
from proximo.runs.lock import Lock
from proximo.runs.sealed import content_of, parsed, replace_file

MODEL, SUPERSEDED = "model", "superseded"  # the latter has what a crash, or going on, made old


class Resumed(NamedTuple):
    """A run that can go on: its configuration, where it was, and where it is kept."""

    config: Config
    start: Snapshot
    folder: RunFolder


def resume_run(run: str | Path, *, out: str | Path | None = None, env: Any = None, **changes: Any) -> Resumed:
    """Take up a run again.

    run      its folder
    out      go on in a new folder, which gets the logs so far; in the run's own unless said otherwise
    env      the environment, where its description in the run does not make it: `module:EnvId`, a class, a
             function, an instance. An id in a file never imports a module
    changes  `steps` and `until` alone: the rest decides what the steps so far were

    Raises UserError where there is no run, no checkpoint that is whole, nothing left to do, or where the
    environment is another one.
    """
    run, out = absolute(run), None if out is None else absolute(out)  # before an environment is made
    if not run.is_dir():
        raise UserError(f"{run} is not a run folder: `proximo train` makes one")
    command = language_command(run)
    if command is not None:
        raise UserError(
            f"{run} is a run of `proximo lm {command}`: `proximo lm {command} --resume {run}` goes on"
        )
    check_is_policy(run)
    for name in changes:
        if name not in ("steps", "until"):
            raise UserError(f"{name} cannot change in a run that is resumed: only steps and until can")
    taken, (config, start, agent) = newest_valid(run, load_checkpoint)
    config = validated(with_options(config, **changes))
    if start.steps >= config.steps:
        raise UserError(f"{run} has made its {config.steps:,} steps: ask for more with --steps")
    config = _where_it_was(run, config, agent, env)
    with contextlib.suppress(UserError, AttributeError):  # it is for a warning alone
        warn_of_another_machine(parsed(content_of(run / "config.json"), run / "config.json"))
    path = run if out is None else out
    try:
        if out is not None:
            copy_logs(run, path)
        lock = Lock(path)
        if out is None:
            set_aside(run, taken)
            supersede_model(run)
        for name, steps_of in ((METRICS, steps_of_metrics), (EPISODES, steps_of_episode)):
            keep_until(path, name, start.steps, steps_of)
    except OSError as error:
        raise UserError(f"cannot write in {path} ({error.strerror}): mend that, then resume again") from error
    return Resumed(config, start, RunFolder.again(path, config, lock))


def _where_it_was(run: Path, config: Config, agent: Agent, env: Any) -> Config:
    """The configuration with the environment that the run was begun in, made again or as it was given.

    Raises UserError where that is impossible, and where what was given is another environment.
    """
    recorded = agent.environment
    if isinstance(env, str):
        if name_of(env) != recorded.name:
            raise UserError(f"the run in {run} is of {recorded.name}, not of {name_of(env)}")
        place, kwargs = chosen(recorded, None if recorded.obstacle is None else env)
    else:
        place, kwargs = chosen(recorded, env)
    config = with_options(config, env=place, env_kwargs=kwargs)
    own = config.vectorization_mode == "vector_entry_point"
    mode = "vector_entry_point" if own else "sync"
    with make_envs(place, own_num_envs(place) or 1, vectorization_mode=mode, env_kwargs=kwargs) as envs:
        check_fits(recorded, agent.spaces, envs, exact=True)
    return config


def supersede_model(run: Path) -> None:
    """Move the model of a run that goes on out of the way: from now on its checkpoints know better."""
    if (run / MODEL).exists():
        (run / SUPERSEDED).mkdir(exist_ok=True)
        shutil.rmtree(run / SUPERSEDED / MODEL, ignore_errors=True)
        (run / MODEL).rename(run / SUPERSEDED / MODEL)


def copy_logs(run: Path, out: Path) -> None:
    """Make a new folder with the logs of a run. Raises UserError if it is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", METRICS, EPISODES):
        if (run / name).exists():
            shutil.copyfile(run / name, out / name)


def keep_until(path: Path, name: str, steps: int, steps_of: Callable[[str], int | None]) -> None:
    """Keep a log's lines up to `steps`; later and torn ones are moved to `superseded/`, not lost.

    What comes after the checkpoint is done again, and would stand there twice.
    """
    log = path / name
    if not log.exists():
        return
    *lines, torn = log.read_bytes().split(b"\n")  # as they are: other ends of lines would be other bytes
    found = [steps_of(line.decode(errors="replace")) for line in lines]
    kept = [line for line, at in zip(lines, found, strict=True) if at is not None and at <= steps]
    gone = [line for line, at in zip(lines, found, strict=True) if at is None or at > steps]
    gone += [torn] if torn else []
    if gone:
        (path / SUPERSEDED).mkdir(exist_ok=True)
        with (path / SUPERSEDED / name).open("ab") as file:
            file.writelines(line + b"\n" for line in gone)
        replace_file(log, b"".join(line + b"\n" for line in kept))


def steps_of_metrics(line: str) -> int | None:
    """The steps that a line of metrics.jsonl tells of; None if it is torn."""
    try:
        return int(json.loads(line)["time/total_timesteps"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def steps_of_episode(line: str) -> int | None:
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
