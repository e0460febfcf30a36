"""A search over options: trials of one training with other numbers, kept in a file to go on with.

The objective is the mean return of the last 100 training episodes, averaged over the seeds of a trial,
which run as one ensemble. Optuna proposes the numbers (TPE) and ends trials that lag (median rule).
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from proximo.control.config import Config, as_json, validated
from proximo.control.ensemble import ensemble, together
from proximo.control.iteration import Iteration
from proximo.control.members import member_configs
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault, UserError
from proximo.runs.extras import needed
from proximo.runs.folder import file_name

CHECKS = 20  # points at which a trial is held against the others: shares of its steps, equal for all shapes
FIRST_CHECK = 5  # a quarter: before, a return says how a policy begins, not how it learns
DIGITS = 4  # of a number that is tried: it can be typed again, and the last ones mean nothing


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`: whole ones or not, evenly or by their logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


Value = str | float | int
Search = Mapping[str, Span | tuple[str, ...]]
"""What is varied: an option's name -> a span of numbers, or choices as they are typed."""


class Progress(NamedTuple):
    """How far a sweep is: environment steps of all trials since it was started, and the trial under way."""

    steps: int
    mean_return: float
    finished: int


class Diverged(Exception):
    """An update left the finite numbers."""


def open_study(storage: Path, config: Config, search: Search, seeds: int) -> Any:
    """The study of this search in a sqlite file, new or with the trials it has. Raises UserError.

    Other searches may live in the same file: a study is named after all that decides what a trial is.
    One process at a time: a trial that is under way in the file is taken for one that was cut short.
    """
    optuna = needed("optuna", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plain = {name: asdict(kind) if isinstance(kind, Span) else list(kind) for name, kind in search.items()}
    options = {name: value for name, value in as_json(config).items() if name != "env_kwargs" or value}
    content = json.dumps(
        [options, plain, seeds], sort_keys=True
    )  # equal for searches begun before the option
    name = f"{file_name(config.name)}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    try:
        storage.parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{quote(str(storage.resolve()))}",
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=FIRST_CHECK),
        )
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    except Exception as error:  # its own errors and the database's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{storage} cannot be used as the file of a sweep: {reason}") from error
    return study


def finished_trials(study: Any) -> list[Any]:
    """The trials that count: those with a value, and those that were given up as lagging or impossible."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def sweeping(
    study: Any,
    configured: Callable[[Mapping[str, Value]], Config],
    search: Search,
    *,
    trials: int,
    seeds: int = 1,
    **make_options: Any,
) -> Generator[Progress, None, None]:
    """Try options until the study has `trials` finished trials; yields after every turn of every trial.

    configured    options -> the configuration with them
    make_options  as of `training`

    Left early, it loses the trial that is under way, and nothing else: the next one to go on makes the same
    trials in the same order. Raises UserError for a search that cannot be; a single combination that cannot
    be, or that diverges, is a trial given up.
    """
    base = configured({})
    check(base, configured, search, trials, seeds, make_options)
    optuna = needed("optuna", "sweep")
    begun = len(finished_trials(study))
    for done in range(begun, trials):
        # Proposals depend on the finished trials and their number alone, not on who was interrupted when.
        draws = np.random.SeedSequence([base.seed, done]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(draws[0]))
        trial = study.ask()
        told = {}
        try:
            options = {name: suggested(trial, name, kind) for name, kind in search.items()}
            trial.set_user_attr("options", options)
            rows = attempted(trial, configured, options, seeds, make_options)
            with contextlib.closing(rows):
                for share, value in rows:
                    steps = (done - begun + share) * base.steps * seeds
                    yield Progress(int(steps), value, done)
                    told = {"values": value}
        except optuna.TrialPruned as reason:
            trial.set_user_attr("why", str(reason))
            told = {"state": optuna.trial.TrialState.PRUNED}
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        study.tell(trial, **told)


def check(
    base: Config,
    configured: Callable[[Mapping[str, Value]], Config],
    search: Search,
    trials: int,
    seeds: int,
    make_options: Mapping[str, Any],
) -> None:
    """Raises UserError for what would fail in every trial, or at an end of a span."""
    if trials < 1:
        raise UserError(f"trials is {trials}: ask for at least 1")
    together(member_configs(base, seeds))
    make_envs(base.env, 1, **make_options).close()
    for name, kind in search.items():
        if isinstance(kind, Span):
            for end in (kind.low, kind.high):
                validated(configured({name: int(end) if kind.whole else end}))
        else:
            for choice in kind:
                configured({name: choice})


def suggested(trial: Any, name: str, kind: Span | tuple[str, ...]) -> Value:
    """The value of an option that Optuna proposes."""
    if not isinstance(kind, Span):
        return str(trial.suggest_categorical(name, kind))
    if kind.whole:
        return int(trial.suggest_int(name, int(kind.low), int(kind.high), log=kind.log))
    value = float(f"{trial.suggest_float(name, kind.low, kind.high, log=kind.log):.{DIGITS}g}")
    return min(max(value, kind.low), kind.high)


def attempted(
    trial: Any,
    configured: Callable[[Mapping[str, Value]], Config],
    options: Mapping[str, Value],
    seeds: int,
    make_options: Mapping[str, Any],
) -> Generator[tuple[float, float], None, None]:
    """One trial; yields the share of its steps that is done, and the mean return so far.

    Raises TrialPruned when it lags, cannot be, or diverges.
    """
    optuna = needed("optuna", "sweep")
    checked, value = 0, math.nan
    try:
        configs = member_configs(configured(options), seeds)
        for members in turns(configs, make_options):
            value = float(np.mean([member.mean_return for member in members]))
            share = min(min(member.steps for member in members) / configs[0].steps, 1.0)
            yield share, value
            if int(CHECKS * share) > checked and math.isfinite(value):
                checked = int(CHECKS * share)
                trial.report(value, checked)
                if share < 1.0 and trial.should_prune():
                    raise optuna.TrialPruned(f"lagged after {share:.0%} of its steps")
    except EnvironmentFault:
        raise
    except (UserError, Diverged) as error:
        raise optuna.TrialPruned(str(error)) from error
    if not math.isfinite(value):
        raise optuna.TrialPruned("no episode ended: ask for more steps")
    trial.set_user_attr("returns", [member.mean_return for member in members])


def turns(configs: list[Config], make_options: Mapping[str, Any]) -> Generator[list[Iteration], None, None]:
    """The latest iteration of each member, turn by turn. Raises Diverged for one that is not sound."""
    latest: dict[int, Iteration] = {}
    with contextlib.closing(ensemble(configs, **make_options)) as played:
        for turn in played:
            latest |= {index: member for index, member in enumerate(turn) if member is not None}
            if not all(member.sound for member in latest.values()):
                raise Diverged("an update left the finite numbers")
            yield [latest[index] for index in range(len(configs))]
