"""What came out of a sweep: its trials, how much each option mattered, and the command of the best one."""

import math
import shlex
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proximo.control.study import Search, Value, finished_trials
from proximo.runs.extras import require_package
from proximo.runs.sealed import write_file

REPORT = "sweep.md"
FEWEST = 8  # trials, before it is said which options mattered


def outcome(
    study: Any, search: Search, command: Callable[[Mapping[str, Value]], list[str]]
) -> dict[str, Any]:
    """Everything about a sweep as plain data, best trial first.

    command  options -> the words of the command that trains with them
    """
    trials = [described(trial, search) for trial in finished_trials(study)]
    trials.sort(key=lambda trial: -math.inf if trial["value"] is None else trial["value"], reverse=True)
    best = trials[0] if trials and trials[0]["value"] is not None else None
    return {
        "best": best and {**best, "command": shlex.join(command(best["options"]))},
        "trials": trials,
        "importance": importance(study, search),
        "study": study.study_name,
    }


def described(trial: Any, search: Search) -> dict[str, Any]:
    """A trial as plain data; the value of one that was given up is None."""
    options, kept = trial.user_attrs.get("options", {}), trial.user_attrs
    begun, ended = trial.datetime_start, trial.datetime_complete
    return {
        "number": trial.number,
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "options": {name: options[name] for name in search if name in options},
        "returns": kept.get("returns", []),
        "why": kept.get("why", ""),
        "seconds": (ended - begun).total_seconds() if begun and ended else 0.0,
    }


def importance(study: Any, search: Search) -> dict[str, float]:
    """How much of the difference between good and other trials each option makes; the shares add up to 1.

    PED-ANOVA (Watanabe 2023), which needs no further package: where the best quarter lies, against the whole
    search. Empty where nothing can be said yet.
    """
    trials = finished_trials(study)
    values = {trial.value for trial in trials if trial.state.name == "COMPLETE"}
    if len(trials) < FEWEST or len(values) < 2:
        return {}
    optuna = require_package("optuna", "sweep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental in some versions
        # The one option that matters was found in 8 of 8 sweeps of 10 trials, by its default tenth in 2.
        judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
        try:
            shares = optuna.importance.get_param_importances(ranked(trials), evaluator=judge)
        except (ValueError, RuntimeError):  # all alike
            return {}
    finite = {name: float(share) for name, share in shares.items() if math.isfinite(share)}
    return {name: share for name, share in finite.items() if name in search}


def ranked(trials: list[Any]) -> Any:
    """A study of the same trials in which one that was given up is worse than all that were not.

    Only the order of the values is read from it; left out, the bad half of the search would be missing.
    """
    optuna = require_package("optuna", "sweep")
    study = optuna.create_study(direction="maximize")
    worst = min(trial.value for trial in trials if trial.state.name == "COMPLETE") - 1.0
    for trial in trials:
        value = trial.value if trial.state.name == "COMPLETE" else worst
        parts = {"params": trial.params, "distributions": trial.distributions}
        study.add_trial(optuna.trial.create_trial(value=value, **parts))
    return study


def text(found: Mapping[str, Any], title: str) -> str:
    """The report as Markdown, to be read as it is too."""
    names = list(found["trials"][0]["options"]) if found["trials"] else []
    rows = [["trial", "mean return", *names, "seconds", "stopped because"]]
    for trial in found["trials"]:
        value = "" if trial["value"] is None else f"{trial['value']:,.2f}"
        numbers = [str(trial["options"].get(name, "")) for name in names]
        rows.append([str(trial["number"]), value, *numbers, f"{trial['seconds']:.0f}", trial["why"]])
    shares = [[name, f"{share:.0%}"] for name, share in found["importance"].items()]
    best = found["best"]
    parts = [
        f"# {title}",
        "No trial has finished yet." if best is None else f"Best:\n\n    {best['command']}",
    ]
    parts += ["## Trials", table(rows)] if len(rows) > 1 else []
    parts += ["## Importance of each option", table([["option", "share"], *shares])] if shares else []
    return "\n\n".join(parts) + "\n"


def table(rows: list[list[str]]) -> str:
    """Rows of cells as a Markdown table whose columns stand under each other; the first row is its head."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def write_report(folder: Path, content: str) -> Path:
    """Write the report into a folder, whole or not at all; returns its path. Raises UserError."""
    write_file(folder / REPORT, content.encode())
    return folder / REPORT
