"""Several seeds of one configuration as one ensemble, each with a run folder of its own."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proximo.control.config import Config, validated
from proximo.control.ensemble import Turn, ensemble, together
from proximo.control.files import control_files
from proximo.control.iteration import Iteration
from proximo.control.progress import shown
from proximo.control.run import Run, configured, whole_env
from proximo.control.sinks import SinkOptions
from proximo.errors import UserError
from proximo.options import with_options
from proximo.paths import absolute
from proximo.runs.folder import RunFolder
from proximo.runs.process import prepare_process
from proximo.runs.record import CHECKPOINT_SECONDS, Record


class Overview(NamedTuple):
    """How far an ensemble is: the latest iteration of each member, and what sums them up."""

    steps: int
    mean_return: float
    members: list[Iteration]


def member_configs(config: Config, seeds: int) -> list[Config]:
    """The configuration with `seeds` seeds, from its own one upwards. Raises UserError for less than one."""
    if seeds < 1:
        raise UserError(f"seeds is {seeds}: ask for at least 1")
    return [validated(with_options(config, seed=config.seed + index)) for index in range(seeds)]


def member_folders(
    configs: Sequence[Config], out: str | Path | None, more: Mapping[str, Any] | None = None
) -> list[RunFolder]:
    """A run folder per member: `OUT/seed-N`, or one under `runs/` each.

    more  as of `control_files`
    """
    places = [None if out is None else absolute(out) / f"seed-{config.seed}" for config in configs]
    files = [control_files(config, **(more or {})) for config in configs]
    return [RunFolder.create(own, place) for own, place in zip(files, places, strict=True)]


def recorded_members(
    turns: Iterator[Turn], folders: Sequence[RunFolder], checkpoint_every: float
) -> Generator[Overview, None, None]:
    """The turns summed up, each member recorded as a run of its own; see `recorded`."""
    records = [Record(folder, checkpoint_every) for folder in folders]
    under_way: list[Record] = []  # and at rest, while the reader has the turn
    try:
        for turn in turns:
            for record, iteration in zip(records, turn, strict=True):
                if iteration is not None:
                    record.add(iteration)
                    under_way.append(record)
            members = [record.last for record in records if record.last is not None]
            yield Overview(
                sum(member.steps for member in members),
                float(np.mean([member.mean_return for member in members])),
                members,
            )
            under_way = []
    finally:
        with contextlib.ExitStack() as later:  # each member, also when another one's disk fails
            for record in records:
                later.callback(record.close, at_rest=record in under_way)


def train_members(
    config: Config,
    seeds: int,
    *,
    out: str | Path | None = None,
    progress: bool = False,
    sinks: SinkOptions | None = None,
    more: Mapping[str, Any] | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    **make_options: Any,
) -> Generator[tuple[list[RunFolder], Overview], None, None]:
    """Train `seeds` members; yields their folders and an overview after each turn.

    more              what else each `config.json` says, as of `control_files`
    checkpoint_every  as of `recorded`; each member's folder can be resumed by itself
    """
    prepare_process()
    sinks = sinks or SinkOptions()
    configs = together(member_configs(config, seeds))  # before there are folders
    sinks.check(config.env, config.env_kwargs)
    folders = member_folders(configs, out, more)
    for folder, member in zip(folders, configs, strict=True):
        folder.sinks = sinks.open(folder.path, member)
    turns = recorded_members(ensemble(configs, **make_options), folders, checkpoint_every)
    with contextlib.closing(shown(turns, config, progress, seeds * config.steps)) as rows:
        for overview in rows:
            yield folders, overview


def train_ensemble(
    env: Any,
    *,
    seeds: int = 5,
    preset_name: str = "default",
    out: str | Path | None = None,
    progress: bool = False,
    allow_import: bool = False,
    tensorboard: bool = False,
    wandb: bool = False,
    wandb_project: str = SinkOptions.wandb_project,
    video_every: int | None = None,
    **options: Any,
) -> list[Run]:
    """Train the same configuration with several seeds, side by side; each is the run it would be alone.

        runs = proximo.train_ensemble("Hopper-v5", seeds=5)
        [run.evaluate().mean for run in runs]

    seeds    how many; they count up from the option `seed`
    out      a folder that gets `seed-N` for each member; folders under `runs/` unless said otherwise

    All else as of `proximo.train`. A member whose update leaves the finite numbers ends early, with the
    policy from before; the others go on.
    """
    config = configured(env, preset_name, allow_import, options)
    sinks = SinkOptions(tensorboard, wandb, wandb_project, video_every)
    more = {"preset": preset_name}
    turns = train_members(
        config, seeds, out=out, progress=progress, sinks=sinks, more=more, allow_import=allow_import
    )
    last = None
    for last in turns:  # noqa: B007 (read after the loop)
        pass
    if last is None:
        raise UserError("nothing was learned: training ended before its first update")
    folders, overview = last
    pairs = zip(folders, overview.members, strict=True)
    return [Run(folder.path, member.agent, whole_env(config)) for folder, member in pairs]
