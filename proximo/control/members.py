"""Several seeds of one configuration as one ensemble, each with a run folder of its own."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proximo.control.agent import Agent
from proximo.control.config import Config, own_code_of
from proximo.control.ensemble import (
    EnsembleSummary,
    MemberIterations,
    check_compatible,
    ensemble,
    member_configs,
    summarise,
)
from proximo.control.files import control_files
from proximo.control.periodic_evaluation import (
    NO_EVALUATION,
    EvalOptions,
    PeriodicEvaluation,
    evaluated_members,
)
from proximo.control.progress import shown
from proximo.control.run import Run, first_agent, make_config, whole_env
from proximo.control.sinks import SinkOptions
from proximo.errors import UserError
from proximo.own import tell_unnamed
from proximo.paths import absolute
from proximo.runs.folder import RunFolder, ensemble_folder
from proximo.runs.process import prepare_process
from proximo.runs.record import CHECKPOINT_SECONDS, Record


def member_folders(
    configs: Sequence[Config], out: str | Path | None, more: Mapping[str, Any] | None = None
) -> list[RunFolder]:
    """A run folder per member, `OUT/seed-N`; OUT is by default a new folder under `runs/`.

    more  as in `control_files`
    """
    whole = ensemble_folder(configs[0].name, len(configs)) if out is None else absolute(out)
    places = [whole / f"seed-{config.seed}" for config in configs]
    files = [control_files(config, **(more or {})) for config in configs]
    return [RunFolder.create(own, place) for own, place in zip(files, places, strict=True)]


def recorded_members(
    iterations: Iterator[MemberIterations], folders: Sequence[RunFolder], checkpoint_every: float
) -> Generator[EnsembleSummary, None, None]:
    """The iterations summed up, each member recorded as a run of its own; see `record`."""
    records = [Record(folder, checkpoint_every) for folder in folders]
    under_way: list[Record] = []  # and at rest, while the reader has the summary
    try:
        for latest in iterations:
            for record, iteration in zip(records, latest, strict=True):
                if iteration is not None:
                    record.add(iteration)
                    under_way.append(record)
            yield summarise([record.last for record in records if record.last is not None])
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
    evaluation: EvalOptions = NO_EVALUATION,
    start_from: Agent | str | Path | None = None,
    **make_options: Any,
) -> Generator[tuple[list[RunFolder], EnsembleSummary], None, None]:
    """Train `seeds` members; yields their folders and a summary after each iteration.

    more              what else each `config.json` says, as in `control_files`
    checkpoint_every  as in `record`; each member's folder can be resumed by itself
    evaluation, start_from  as in `begin`
    """
    prepare_process()
    sinks = sinks or SinkOptions()
    configs = member_configs(config, seeds)
    check_compatible(configs)  # before there are folders
    sinks.check(config.env, config.env_kwargs)
    tell_unnamed(own_code_of(config))
    evaluation.check(config)
    agent, where = first_agent(config, start_from, **make_options)
    folders = member_folders(configs, out, {**(more or {}), **evaluation.recorded(), **where})
    for folder, member in zip(folders, configs, strict=True):
        folder.sinks = sinks.open(folder.path, member)
    turns = ensemble(configs, start_from=agent, **make_options)
    periodic = None
    if evaluation.eval_every is not None:
        periodic = PeriodicEvaluation(evaluation, configs, folders, **make_options)
        turns = evaluated_members(turns, periodic)

    def evaluating() -> float:
        return periodic.seconds_here if periodic else 0.0

    summaries = recorded_members(turns, folders, checkpoint_every)
    steps = seeds * config.steps
    with contextlib.closing(shown(summaries, config, progress, steps, evaluating)) as rows:
        for summary in rows:
            yield folders, summary


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
    eval_every: int | None = None,
    eval_episodes: int | None = None,
    start_from: Agent | str | Path | None = None,
    **options: Any,
) -> list[Run]:
    """Train one configuration with several seeds together; each is the run it would be alone, up to rounding.

        runs = proximo.train_ensemble("Hopper-v5", seeds=5)
        [run.evaluate().mean for run in runs]

    seeds    how many; they count up from the option `seed`
    out      a folder that gets `seed-N` for each member; by default a new one under `runs/`

    Everything else is as in `proximo.train`. A member whose update diverges ends early, with the policy from
    before; the others continue.
    """
    config = make_config(env, preset_name, allow_import, options)
    sinks = SinkOptions(tensorboard, wandb, wandb_project, video_every)
    summaries = train_members(
        config,
        seeds,
        out=out,
        progress=progress,
        sinks=sinks,
        more={"preset": preset_name},
        evaluation=EvalOptions(eval_every, eval_episodes),
        start_from=start_from,
        allow_import=allow_import,
    )
    last = None
    for last in summaries:  # noqa: B007 (read after the loop)
        pass
    if last is None:
        raise UserError("nothing was learned: training ended before its first update")
    folders, summary = last
    pairs = zip(folders, summary.members, strict=True)
    return [Run(folder.path, member.agent, whole_env(config)) for folder, member in pairs]
