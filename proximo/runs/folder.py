"""The run folder: what stays of a run, readable by a person and by any program."""

import contextlib
import csv
import itertools
import json
import math
import os
import platform
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import jax

from proximo.control.agent import Agent
from proximo.control.config import Config, as_json
from proximo.control.model import save_model
from proximo.control.train import Iteration
from proximo.envs import EnvDescription
from proximo.errors import MachineChanged, UserError
from proximo.paths import absolute
from proximo.runs.lock import Lock
from proximo.runs.sealed import replace_file
from proximo.runs.sinks import Sinks

METRICS, EPISODES = "metrics.jsonl", "episodes.csv"
VERSIONS = ("proximo", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")


class RunFolder:
    """One folder per run: `config.json`, `metrics.jsonl`, `episodes.csv`, `model/`.

    path    where it lies
    config  what it was made with
    sinks   who else is told of every iteration; nobody unless somebody is put there
    lock    nobody else writes there before it is released
    """

    def __init__(self, path: Path, config: Config, lock: Lock | None = None) -> None:
        self.path, self.config = absolute(path), config
        self.lock = Lock(path) if lock is None else lock
        self.sinks = Sinks()
        self._environment_known = False
        self._started = time.perf_counter()

    @classmethod
    def create(cls, config: Config, out: str | Path | None = None) -> "RunFolder":
        """Make the folder `out`, or one under `runs/`; raises UserError if a run lies there already.

        One that ended before its first iteration, by a mistake in its options say, has left nothing to keep.
        """
        try:
            path = new_folder(_default_path(config)) if out is None else absolute(out)
        except OSError as error:
            raise UserError(f"cannot make a run folder under {absolute('runs')}: {error.strerror}") from error
        found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        begun = EPISODES in found and found <= {"config.json", EPISODES}
        if begun and len((path / EPISODES).read_bytes().splitlines()) == 1:
            folder = cls(path, config)  # its lock first: a run that has just begun looks the same
            folder._describe()
            return folder
        if (path / "config.json").exists():
            raise UserError(f"{path} holds a run already: choose another --out, or move that one away")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists and is not an empty folder: choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path, config)
        folder._begin_episodes("x")  # where no lock can be held, this file says who was first
        folder._describe()
        return folder

    @classmethod
    def again(cls, path: Path, config: Config, lock: Lock) -> "RunFolder":
        """A folder to go on in; its clock goes on too."""
        folder = cls(path, config, lock)
        folder._describe()  # it may have been asked for more steps
        if not (path / EPISODES).exists() or not (path / EPISODES).stat().st_size:
            folder._begin_episodes()
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
            last = json.loads((path / METRICS).read_text().splitlines()[-1])
            folder._started -= last["time/time_elapsed"]
        return folder

    def _begin_episodes(self, mode: str = "w") -> None:
        with self.writing(), self._opened(mode) as file:
            csv.writer(file).writerow(["step", "env", "return", "length", "terminated"])

    def _opened(self, mode: str) -> IO[str]:
        try:
            return (self.path / EPISODES).open(mode, newline="")
        except FileExistsError:
            raise UserError(
                f"{self.path} was taken by another run a moment ago: choose another --out"
            ) from None

    def _describe(self, env: EnvDescription | None = None) -> None:
        """Write `config.json`; `env` is what the environment is, known once it is made."""
        made_on = {**fingerprint(), **precision()}
        description = {**as_json(self.config), "versions": versions(), "fingerprint": made_on}
        if env is not None:  # by now it is known what a function made, say
            description |= {"env": env.name, "env_description": env.as_json()}
        with self.writing():
            replace_file(self.path / "config.json", (json.dumps(description, indent=1) + "\n").encode())

    def log(self, iteration: Iteration) -> dict[str, Any]:
        """Append an iteration's metrics and episodes; returns the metrics as they were written."""
        if not self._environment_known:
            self._describe(iteration.agent.environment)
            self._environment_known = True
        elapsed = time.perf_counter() - self._started
        metrics = {
            "rollout/ep_rew_mean": iteration.mean_return,
            "rollout/ep_len_mean": iteration.mean_length,
            "time/iterations": iteration.number,
            "time/total_timesteps": iteration.steps,
            "time/time_elapsed": elapsed,
            "time/fps": iteration.steps / elapsed,
            **iteration.metrics,
        }
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        rows = [
            [iteration.steps, episode.env, episode.episode_return, episode.length, int(episode.terminated)]
            for episode in iteration.episodes
        ]
        with self.writing(), (self.path / METRICS).open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        with self.writing(), (self.path / EPISODES).open("a", newline="") as file:
            csv.writer(file).writerows(rows)
        self.sinks.log(metrics, iteration)
        return metrics

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that fails is the user's to mend: what is on it stays, and the run can go on from there."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}): mend that, then `proximo train --resume "
                f"{self.path}` goes on from the last checkpoint"
            ) from error

    def save(self, agent: Agent) -> Path:
        """Write the model; returns its folder."""
        with self.writing():
            save_model(agent, self.path / "model")
        return self.path / "model"


def file_name(name: str) -> str:
    """The name of an environment as part of a file's: what no system or shell reads in a way of its own."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "environment"


def _default_path(config: Config) -> Path:
    name = file_name(config.name)
    date = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return absolute("runs") / f"{name}-{config.seed}-{date}"


def new_folder(path: Path) -> Path:
    """Make a folder that nobody else has, also where several ask for it at once: `path`, `path-2`, ...

    Raises OSError where none can be made.
    """
    for number in itertools.count(1):
        place = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        return place
    raise AssertionError


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONS}


def _cpu() -> str:
    """The processor's name, where the system tells; its instructions decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def warn_of_another_machine(began_with: Mapping[str, Any]) -> None:
    """Warn, once, where a run began with other versions or on other hardware.

    began_with  the content of its `config.json`
    """
    here = {**versions(), **fingerprint(), **precision()}
    said = [began_with.get(name) for name in ("versions", "fingerprint")]  # from a file: it may be anything
    there = {name: value for part in said if isinstance(part, dict) for name, value in part.items()}
    names = [name for name in here if there.get(name, here[name]) != here[name]]
    if names:
        changed = ", ".join(f"{name} {there[name]} -> {here[name]}" for name in names)
        warnings.warn(
            f"the run began elsewhere ({changed}): it goes on, but perhaps not bit for bit",
            MachineChanged,
            stacklevel=3,
        )


def precision() -> dict[str, bool]:
    """Whether JAX computes in 64 bits."""
    return {"x64": bool(jax.config.read("jax_enable_x64"))}


def fingerprint() -> dict[str, Any]:
    """What else the last bits depend on: bit-for-bit promises hold where this is equal."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }
