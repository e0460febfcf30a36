"""A search over options: trials of one training with other numbers.

The objective is the mean return of the last 100 training episodes, averaged over the seeds of a trial,
which run as one ensemble. Optuna proposes the numbers (TPE) and ends trials that lag (median rule).
"""

import contextlib
import math
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from proximo.control.config import Config, validate
from proximo.control.ensemble import check_compatible, ensemble, member_configs, summarise
from proximo.control.study import Search, Span, Value, finished_trials, suggest
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault, UserError
from proximo.runs.extras import require_package

CHECKS = 20  # points at which a trial is held against the others: shares of its steps, equal for all shapes


class SweepProgress(NamedTuple):
    """How far a sweep is: environment steps of all trials since it was started, and the trial under way."""

    steps: int
    mean_return: float
    finished: int


def sweeping(
    study: Any,
    configured: Callable[[Mapping[str, Value]], Config],
    search: Search,
    *,
    trials: int,
    seeds: int = 1,
    **make_options: Any,
) -> Generator[SweepProgress, None, None]:
    """Try options until the study has `trials` finished trials; yields after every iteration of every trial.

    configured    options -> the configuration with them
    make_options  as in `training`

    If it stops early, only the trial that is under way is lost; the next sweep makes the same trials in the
    same order. Raises UserError for an impossible search. A single combination that is invalid or diverges is
    a stopped trial.
    """
    base = configured({})
    check(base, configured, search, trials, seeds, make_options)
    optuna = require_package("optuna", "sweep")
    begun = len(finished_trials(study))
    for done in range(begun, trials):
        # Proposals depend on the finished trials and their number alone, not on who was interrupted when.
        draws = np.random.SeedSequence([base.seed, done]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(draws[0]))
        trial = study.ask()
        told = {}
        try:
            options = {name: suggest(trial, name, kind) for name, kind in search.items()}
            trial.set_user_attr("options", options)
            rows = run_trial(trial, configured, options, seeds, make_options)
            with contextlib.closing(rows):
                for share, value in rows:
                    steps = (done - begun + share) * base.steps * seeds
                    yield SweepProgress(int(steps), value, done)
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
        raise UserError(f"trials is {trials}: it must be at least 1")
    check_compatible(member_configs(base, seeds))
    make_envs(base.env, 1, **make_options).close()
    for name, kind in search.items():
        if isinstance(kind, Span):
            for end in (kind.low, kind.high):
                validate(configured({name: int(end) if kind.whole else end}))
        else:
            for choice in kind:
                configured({name: choice})


def run_trial(
    trial: Any,
    configured: Callable[[Mapping[str, Value]], Config],
    options: Mapping[str, Value],
    seeds: int,
    make_options: Mapping[str, Any],
) -> Generator[tuple[float, float], None, None]:
    """One trial; yields the share of its steps that is done, and the mean return so far.

    Raises TrialPruned when it lags, cannot be, or diverges.
    """
    optuna = require_package("optuna", "sweep")
    checked, value = 0, math.nan
    try:
        configs = member_configs(configured(options), seeds)
        members: list[Any] = [None] * seeds
        with contextlib.closing(ensemble(configs, **make_options)) as trained:
            for iterations in trained:
                members = [new or old for new, old in zip(iterations, members, strict=True)]
                if not all(member.sound for member in members):
                    raise optuna.TrialPruned("an update diverged (NaN or infinity)")
                value = summarise(members).mean_return
                share = min(min(member.steps for member in members) / configs[0].steps, 1.0)
                yield share, value
                if int(CHECKS * share) > checked and math.isfinite(value):
                    checked = int(CHECKS * share)
                    trial.report(value, checked)
                    if share < 1.0 and trial.should_prune():
                        raise optuna.TrialPruned(f"lagged after {share:.0%} of its steps")
    except EnvironmentFault:
        raise
    except UserError as error:
        raise optuna.TrialPruned(str(error)) from error
    if not math.isfinite(value):
        raise optuna.TrialPruned("no episode ended: use more steps")
    trial.set_user_attr("returns", [member.mean_return for member in members])
