"""A run: training that leaves a folder behind."""

import contextlib
import functools
import hashlib
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import Config, own_code_of, preset, validate
from proximo.control.evaluate import Evaluation, evaluate
from proximo.control.files import control_files, load_agent, with_source
from proximo.control.learner import new_learner
from proximo.control.model import ARRAYS, load_model, model_files
from proximo.control.periodic_evaluation import NO_EVALUATION, EvalOptions, PeriodicEvaluation, evaluated
from proximo.control.resume import Work, resume_run
from proximo.control.sinks import SinkOptions
from proximo.control.streams import streams
from proximo.control.train import Iteration, training
from proximo.control.warm_start import warm_started
from proximo.envs import find_env, make_envs, own_num_envs
from proximo.envs.description import importable
from proximo.errors import CheckpointDamaged, OwnCodeMissing, UserError
from proximo.keywords import by_our_names
from proximo.options import with_options
from proximo.own import OPTIONS, tell_unnamed
from proximo.runs.checkpoints import STATE, finished, newest_valid
from proximo.runs.files import BEST, MODEL
from proximo.runs.folder import RunFolder
from proximo.runs.forks import refuse_after_fork
from proximo.runs.kinds import check_is_policy
from proximo.runs.process import prepare_process
from proximo.runs.record import CHECKPOINT_SECONDS, record
from proximo.runs.sealed import recover


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its trained agent.

    run.evaluate(), run.report(), run.metrics["rollout/ep_rew_mean"], run.episodes["returns"]
    """

    folder: Path
    agent: Agent
    env: Any  # what it was trained on; an id stands for the environment that the agent describes

    def __reduce__(self) -> tuple[Any, ...]:
        """An environment that another process cannot have is left out: the agent knows what it was."""
        return Run, (self.folder, self.agent, self.env if importable(self.env) else None)

    def __repr__(self) -> str:
        from proximo.control.notebook import summary

        told = summary(self.folder)
        name, folder = told.pop("environment"), told.pop("folder")
        return f"Run({folder!r}: {name}, {', '.join(f'{what} {text}' for what, text in told.items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a small table with the learning curve."""
        from proximo.control.notebook import as_html

        return as_html(self.folder)

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """`metrics.jsonl` as arrays of equal length: `steps`, and every metric by name (NaN if missing)."""
        from proximo.control.notebook import metrics_of

        return metrics_of(self.folder)

    @property
    def episodes(self) -> dict[str, np.ndarray]:
        """The training episodes as arrays: `steps` when each ended, `returns` (raw), `lengths`."""
        from proximo.control.notebook import episodes_of

        return episodes_of(self.folder)

    def report(self) -> Path:
        """Write the report, `report.html` in the run folder, and return its path."""
        from proximo.control.notebook import write_report

        return write_report(self.folder)

    def evaluate(self, episodes: int = 100, **options: Any) -> Evaluation:
        """Play full episodes with the final policy; options as in `proximo.evaluate`."""
        env = None if isinstance(self.env, str) else self.env
        return evaluate(self.agent, options.pop("env", env), episodes=episodes, **options)


def whole_env(config: Config) -> Any:
    """The environment of a configuration as one object, with its arguments."""
    if not config.env_kwargs or not callable(config.env):
        return config.env
    return functools.partial(config.env, **config.env_kwargs)


def train(
    env: Any,
    *,
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
) -> Run:
    """Train a policy, and save everything in a run folder.

        run = proximo.train("CartPole-v1", steps=100_000, seed=0)
        run.agent.act(observation)

    env          a Gymnasium id, an environment, its class, a function that makes one, or a vector
    preset_name  "default" (our recipe for this kind of environment), "paper", or a method that the paper
                 compares with, such as "trpo"
    out          the run folder; by default a new one under `runs/`
    progress     show a progress bar
    allow_import let an id `module:EnvId` import its module, which runs the module's code
    tensorboard, wandb, wandb_project, video_every  additional loggers, as in `SinkOptions`
    eval_every   evaluate every so many steps; the best model is then `proximo.load(folder, best=True)`
    eval_episodes  full episodes in each such evaluation; by default 20
    start_from   an agent, a run folder or a model folder: start from its policy and observation
                 statistics. The optimiser, the reward scale and all schedules start from scratch
    options      any option by its name, such as `learning_rate=1e-3`; `proximo train --help` lists them.
                 Names from Stable-Baselines3 and CleanRL, such as `total_timesteps`, work too

    Raises UserError (one line that says what to do) for invalid options and for environments that fail. What
    was learned before a failure, or before Ctrl-C, is saved.
    """
    config = make_config(env, preset_name, allow_import, options)
    sinks = SinkOptions(tensorboard, wandb, wandb_project, video_every)
    return train_config(
        config,
        out=out,
        progress=progress,
        sinks=sinks,
        more={"preset": preset_name},
        evaluation=EvalOptions(eval_every, eval_episodes),
        start_from=start_from,
        allow_import=allow_import,
    )


def make_config(env: Any, preset_name: str, allow_import: bool, options: dict[str, Any]) -> Config:
    """The configuration of a preset with some options changed; raises UserError for invalid ones."""
    if allow_import and isinstance(env, str):
        find_env(env, allow_import=True)  # the preset asks what it is
    if "vf_coef" in options:
        raise UserError(
            "vf_coef: use value_coefficient: 2 * vf_coef of Stable-Baselines3, or the same number as in "
            "CleanRL"
        )
    return with_options(preset(preset_name, env), **by_our_names(Config, options))


def begin(
    config: Config,
    sinks: SinkOptions,
    out: str | Path | None = None,
    evaluation: EvalOptions = NO_EVALUATION,
    start_from: Agent | str | Path | None = None,
    *,
    allow_import: bool = False,
    **more: Any,
) -> Work:
    """A new run, in its own folder. Raises UserError for invalid options, before the folder is made.

    evaluation  while it trains
    start_from  as in `train`
    more        what else `config.json` records, as in `control_files`
    """
    config = validate(config)
    sinks.check(config.env, config.env_kwargs)
    tell_unnamed(own_code_of(config))
    evaluation.check(config)
    agent, where = first_agent(config, start_from, allow_import=allow_import)
    folder = RunFolder.create(control_files(config, **more, **evaluation.recorded(), **where), out)
    folder.sinks = sinks.open(folder.path, config)
    return Work(config, folder, start_from=agent, evaluation=evaluation)


def first_agent(
    config: Config, start_from: Agent | str | Path | None, **make_options: Any
) -> tuple[Agent | None, dict[str, Any]]:
    """The agent that a new run starts from, and what `config.json` records of it.

    Raises UserError, before the run starts, if it does not fit the configuration.
    """
    if start_from is None:
        return None, {}
    own = own_code_of(config).get("network")
    agent = start_from if isinstance(start_from, Agent) else load(start_from, network=own)
    _check_start(config, agent, **make_options)
    place = None if isinstance(start_from, Agent) else str(start_from)
    digest = hashlib.sha256(model_files(agent)[ARRAYS]).hexdigest()
    return agent, {"start_from": {"path": place, "env": agent.name, "sha256": digest}}


def _check_start(config: Config, agent: Agent, **make_options: Any) -> None:
    own = config.vectorization_mode == "vector_entry_point"
    mode = "vector_entry_point" if own else "sync"
    count = own_num_envs(config.env) or 1
    make_options = {"env_kwargs": config.env_kwargs, **make_options}
    with make_envs(config.env, count, vectorization_mode=mode, **make_options) as envs:
        warm_started(new_learner(config, envs, streams(config.seed)), agent, config, envs)


def go_on(
    run: str | Path, sinks: SinkOptions, *, allow_import: bool, env: Any = None, **options: Any
) -> Work:
    """An interrupted run. Options and errors as in `resume_run`."""
    if allow_import and isinstance(env, str):
        find_env(env, allow_import=True)
    sinks.check_reports()  # before anything in the folder is moved
    own = {name: options.pop(name) for name in OPTIONS if name in options}
    work = resume_run(run, env=env, own=own, **options)
    sinks.check(work.config.env, work.config.env_kwargs)
    work.folder.sinks = sinks.open(work.folder.path, work.config)
    return work


def iterations(
    work: Work, progress: bool, checkpoint_every: float = CHECKPOINT_SECONDS, **make_options: Any
) -> Generator[Iteration, None, None]:
    """The training of a run, recorded and, with `progress`, shown."""
    from proximo.control.progress import shown

    turns = training(work.config, work.start, start_from=work.start_from, **make_options)
    if work.evaluation.eval_every is None:
        return shown(record(turns, work.folder, checkpoint_every), work.config, progress)
    steps = work.start.steps if work.start else 0
    evaluation = PeriodicEvaluation(work.evaluation, [work.config], [work.folder], steps, **make_options)
    turns = evaluated(turns, evaluation)
    return shown(
        record(turns, work.folder, checkpoint_every),
        work.config,
        progress,
        evaluating=lambda: evaluation.seconds_here,
    )


def train_config(
    config: Config,
    *,
    out: str | Path | None = None,
    progress: bool = False,
    sinks: SinkOptions | None = None,
    more: Mapping[str, Any] | None = None,
    evaluation: EvalOptions = NO_EVALUATION,
    start_from: Agent | str | Path | None = None,
    **make_options: Any,
) -> Run:
    """`train` for a complete configuration; `more` and the options after it as in `begin`."""
    prepare_process()
    allow_import = make_options.get("allow_import", False)
    sinks, more = sinks or SinkOptions(), more or {}
    work = begin(config, sinks, out, evaluation, start_from, allow_import=allow_import, **more)
    return _carried_out(work, progress, make_options)


def resume(
    run: str | Path,
    *,
    out: str | Path | None = None,
    env: Any = None,
    progress: bool = False,
    allow_import: bool = False,
    sinks: SinkOptions | None = None,
    eval_every: int | None = None,
    eval_episodes: int | None = None,
    **changes: Any,
) -> Run:
    """Resume an interrupted run from its newest intact checkpoint.

        proximo.resume("runs/HalfCheetah-v5-0-...")

    run      its folder
    out      continue in this new folder; by default in the run's own
    env      the environment, if it is not a registered id
    allow_import let an `env` that is typed `module:EnvId` import its module
    sinks    additional loggers
    eval_every, eval_episodes  as in `train`; by default those of the run
    changes  `steps` and `until`: how far to train; and the run's code of your own, passed again: `network`,
             `objective`, `value_loss`, `actor_step`

    If the environments can save their state (`envs.state`), the result is bit for bit that of an
    uninterrupted run. Otherwise the episodes that were under way are restarted, and a warning says so. Raises
    UserError if there is no checkpoint to resume from, or nothing left to train.
    """
    prepare_process()
    changes |= {"out": out, "evaluation": EvalOptions(eval_every, eval_episodes)}
    work = go_on(run, sinks or SinkOptions(), allow_import=allow_import, env=env, **changes)
    return _carried_out(work, progress, {"allow_import": allow_import})


def _carried_out(work: Work, progress: bool, make_options: dict[str, Any]) -> Run:
    last, path = None, work.folder.path
    with contextlib.closing(iterations(work, progress, **make_options)) as turns:
        for last in turns:  # noqa: B007 (read after the loop)
            pass
    if last is None:
        raise UserError(f"nothing was learned: training ended before the first update; see {path}")
    return Run(path, last.agent, whole_env(work.config))


def load(folder: str | Path, best: bool = False, *, network: Any = None) -> Agent:
    """The agent of a run folder, or of a model folder.

        agent = proximo.load("runs/CartPole-v1-0-...", network=MyNetwork)

    best     the model with the best evaluation during training (`eval_every`), instead of the last one
    network  the class or function of the network, if it is your own

    A run that was interrupted or is still running has no model: its newest checkpoint is loaded. So is the
    newest checkpoint of a run whose model is damaged, with a warning. `folder` may also be a checkpoint. No
    code in the folder is executed. Raises UserError if the model is missing, unreadable or was changed, and
    if your own network is not passed.
    """
    refuse_after_fork()
    return with_source(_agent_in(Path(folder), best, network), Path(folder))


def _agent_in(folder: Path, best: bool, network: Any) -> Agent:
    check_is_policy(folder)
    if best:
        return _load_best(folder, network)
    recover(folder / MODEL)
    if (folder / MODEL).is_dir():
        try:
            return load_model(folder / MODEL, network)
        except OwnCodeMissing:
            raise
        except UserError as error:
            if not finished(folder / "checkpoints"):
                raise
            warnings.warn(f"{error}; the newest checkpoint is used instead", CheckpointDamaged, stacklevel=2)
    if finished(folder / "checkpoints"):
        return newest_valid(folder, functools.partial(load_agent, network=network))[1]
    if (folder / STATE).exists():
        return load_agent(folder, network)
    if not (folder / "model.json").exists():
        raise UserError(f"there is no model in {folder}: no run folder, or a run that has not saved one yet")
    return load_model(folder, network)


def _load_best(run: Path, network: Any) -> Agent:
    recover(run / BEST)
    if not (run / BEST).is_dir():
        raise UserError(
            f"there is no best model in {run}: a run saves one if it is trained with --eval-every STEPS"
        )
    return load_model(run / BEST, network)
