"""Resuming an interrupted training run from its newest intact checkpoint."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from proximo.control.agent import Agent
from proximo.control.config import Config, validate
from proximo.control.files import control_files, load_checkpoint, with_source
from proximo.control.iteration import Snapshot
from proximo.control.periodic_evaluation import NO_EVALUATION, EvalOptions, copy_best
from proximo.envs import check_fits, make_envs, name_of, own_num_envs, select_environment
from proximo.errors import UserError
from proximo.options import with_options
from proximo.paths import absolute
from proximo.runs.checkpoints import newest_valid
from proximo.runs.files import MODEL
from proximo.runs.folder import RunFolder
from proximo.runs.kinds import check_is_policy, language_command
from proximo.runs.logs import SUPERSEDED


class Work(NamedTuple):
    """A run to carry out: its configuration, its folder, and where it stopped if it is resumed."""

    config: Config
    folder: RunFolder
    start: Snapshot | None = None
    start_from: Agent | None = None
    evaluation: EvalOptions = NO_EVALUATION


def resume_run(
    run: str | Path,
    *,
    out: str | Path | None = None,
    env: Any = None,
    own: Mapping[str, Any] | None = None,
    typed: Sequence[str] = (),
    evaluation: EvalOptions | None = None,
    **changes: Any,
) -> Work:
    """Resume a run.

    run      its folder
    out      continue in this new folder, which gets the logs so far; by default in the run's own
    env      the environment, if the run's description of it cannot make it: `module:EnvId`, a class, a
             function, an instance. An id in a file never imports a module
    own      the user's own code that the run was started with: `network`, `objective`, `value_loss`,
             `actor_step`. A class or function alone is enough: its numbers are in the run
    typed    the words after `proximo`, if a command resumes it
    evaluation  during training; by default that of the run
    changes  only `steps` and `until`: all other options have shaped the steps so far

    Raises UserError if there is no run, no intact checkpoint, nothing left to do, or if the environment is a
    different one; OwnCodeMissing if `own` is not what the run needs.
    """
    run, out = absolute(run), None if out is None else absolute(out)  # before an environment is made
    if not run.is_dir():
        raise UserError(f"{run} is not a run folder, such as `proximo train` writes")
    command = language_command(run)
    if command is not None:
        raise UserError(
            f"{run} is a run of `proximo lm {command}`: resume it with `proximo lm {command} --resume {run}`"
        )
    check_is_policy(run)
    for name in changes:
        if name not in ("steps", "until"):
            raise UserError(f"{name} cannot change in a run that is resumed: only steps and until can")
    taken, (config, start, agent) = newest_valid(run, partial(load_checkpoint, own=own))
    config = validate(with_options(config, **changes))
    if start.steps >= config.steps:
        raise UserError(f"{run} has finished its {config.steps:,} steps: ask for more with --steps")
    config = where_it_was(run, config, with_source(agent, run), env)
    evaluation = (evaluation or NO_EVALUATION).after(run)
    evaluation.check(config)
    files = control_files(config, **evaluation.recorded())
    folder = RunFolder.reopen(run, taken, start.steps, files, out, typed)
    with folder.writing():
        if out is None:
            supersede_model(run)
        else:
            copy_best(run, out)
    return Work(config, folder, start, evaluation=evaluation)


def where_it_was(run: Path, config: Config, agent: Agent, env: Any) -> Config:
    """The configuration with the environment that the run was begun in, made again or as it was given.

    Raises UserError where that is impossible, and where what was given is another environment.
    """
    recorded = agent.environment
    if isinstance(env, str):
        if name_of(env) != recorded.name:
            raise UserError(f"the run in {run} is of {recorded.name}, not of {name_of(env)}")
        place, kwargs = select_environment(recorded, None if recorded.obstacle is None else env)
    else:
        place, kwargs = select_environment(recorded, env)
    config = with_options(config, env=place, env_kwargs=kwargs)
    own = config.vectorization_mode == "vector_entry_point"
    mode = "vector_entry_point" if own else "sync"
    with make_envs(place, own_num_envs(place) or 1, vectorization_mode=mode, env_kwargs=kwargs) as envs:
        check_fits(recorded, agent.spaces, envs, exact=True)
    return config


def supersede_model(run: Path) -> None:
    """Move the model of a resumed run out of the way: its checkpoints are newer from now on."""
    if (run / MODEL).exists():
        (run / SUPERSEDED).mkdir(exist_ok=True)
        shutil.rmtree(run / SUPERSEDED / MODEL, ignore_errors=True)
        (run / MODEL).rename(run / SUPERSEDED / MODEL)
