"""A search over options, and the file that stores its trials so that it can continue."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proximo.control.config import Config, as_json
from proximo.errors import UserError
from proximo.runs.extras import require_package
from proximo.runs.folder import file_name

FIRST_CHECK = 5  # a quarter of a trial: before, a return says how a policy begins, not how it learns
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


def open_study(storage: Path, config: Config, search: Search, seeds: int) -> Any:
    """The study of this search in a sqlite file, new or with the trials it has. Raises UserError.

    Other searches may live in the same file: a study is named after all that decides what a trial is.
    Only one process at a time: a trial that is under way in the file counts as interrupted.
    """
    optuna = require_package("optuna", "sweep")
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


def suggest(trial: Any, name: str, kind: Span | tuple[str, ...]) -> Value:
    """The value of an option that Optuna proposes."""
    if not isinstance(kind, Span):
        return str(trial.suggest_categorical(name, kind))
    if kind.whole:
        return int(trial.suggest_int(name, int(kind.low), int(kind.high), log=kind.log))
    value = float(f"{trial.suggest_float(name, kind.low, kind.high, log=kind.log):.{DIGITS}g}")
    return min(max(value, kind.low), kind.high)
