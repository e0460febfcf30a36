"""All results of a grid as one table's numbers, finished or not."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proximo.experiments import cells as files
from proximo.experiments.grid import Grid, Published, Setting, cells
from proximo.runs import statistics

DIGITS = 4
TRAINING, LAST = "training_score", "score"  # over all of training, over its last 100 episodes
TIE, OPEN = "tie", "open"
Finished = dict[str, dict[str, list[dict[str, Any]]]]  # setting -> environment -> its finished runs


def load_finished(grid: Grid, results: Path) -> Finished:
    """Every finished run of a grid, in the order of its seeds. Raises UserError for one that does not fit."""
    found: Finished = {s.name: {env: [] for env in grid.environments} for s in grid.settings}
    known: dict[str, list[str]] = {}
    for cell in cells(grid):
        if cell.grid not in known:
            known[cell.grid] = files.read_description(results, cell.grid)["options"]
        content = files.load(results, cell, known[cell.grid])
        if content is not None:
            found[cell.setting][cell.env].append(content)
    return found


def summary(grid: Grid, results: Path) -> dict[str, Any]:
    """What the table shows, as plain data.

    settings      a row each: its mean normalised score and the interquartile mean with their intervals, the
                  score at the best moment, how likely it beats the baseline, and what was published
    environments  the scale of each, and every run's raw score
    beside        what others published for each environment, where the grid has that
    wins          how many environments each setting won, where the grid has what others published of that;
                  with it `over_training`, the mean raw return over all of training

    On a partly finished grid it covers the runs that are there, and says how many. Raises UserError for
    a file that does not fit the grid.
    """
    runs = load_finished(grid, results)
    scales = {env: scale(grid, env, runs, results) for env in grid.environments}
    by_setting = {s.name: _normalised(runs[s.name], scales) for s in grid.settings}
    rows = [_row(grid, setting, runs[setting.name], by_setting) for setting in grid.settings]
    return {
        "format": files.FORMAT,
        "grid": grid.name,
        "title": grid.title,
        "steps": grid.steps,
        "baseline": grid.baseline,
        "runs": sum(row["runs"] for row in rows),
        "of": sum(row["of"] for row in rows),
        "settings": rows,
        "environments": {env: _environment(grid, env, scales[env], runs) for env in grid.environments},
        **_beside(grid),
        **_wins(grid, runs),
    }


def scale(grid: Grid, env: str, runs: Finished, results: Path) -> tuple[float, float] | None:
    """The raw scores that count as 0 and as 1 on an environment; None while there are none."""
    if grid.references:
        return 0.0, grid.references[env].value
    random = files.read(files.random_path(results, grid.name, env))
    scores = [score for by_env in runs.values() for score in _scores(by_env[env])]
    return None if random is None else statistics.scale_of(random["score"], scores)


def _scores(runs: list[dict[str, Any]], measure: str = LAST) -> list[float]:
    """The raw scores; a run that diverged before its first episode has none, nor one of an older file."""
    return [run[measure] for run in runs if run.get(measure) is not None]


def _normalised(
    runs: dict[str, list[dict[str, Any]]], scales: dict[str, tuple[float, float] | None]
) -> dict[str, np.ndarray]:
    """Per environment the normalised scores, without those environments that have none."""
    found = {}
    for env, scale in scales.items():
        scores = _scores(runs[env])
        if scale is not None and scores:
            found[env] = np.array([statistics.normalised(score, *scale) for score in scores])
    return found


def _row(
    grid: Grid,
    setting: Setting,
    runs: dict[str, list[dict[str, Any]]],
    scores: dict[str, dict[str, np.ndarray]],
) -> dict[str, Any]:
    ours, theirs = scores[setting.name], scores[grid.baseline]
    shared = [env for env in ours if env in theirs]
    pairs = ([ours[env] for env in shared], [theirs[env] for env in shared])
    is_compared = bool(shared) and setting.name != grid.baseline
    samples = list(ours.values())
    count = sum(map(len, runs.values()))
    return {
        "setting": setting.name,
        "label": setting.label,
        **_published(setting.published),
        "score": _plain(statistics.mean(samples)) if samples else None,
        "interquartile_mean": _plain(statistics.interquartile_mean(samples)) if samples else None,
        "best_moment": _best_moment(grid, runs),
        "better_than_baseline": _plain(statistics.improvement(*pairs)) if is_compared else None,
        "runs": count,
        "of": len(grid.environments) * len(grid.seeds),
        "diverged": sum("diverged" in run for of_env in runs.values() for run in of_env),
    }


def _best_moment(grid: Grid, runs: dict[str, list[dict[str, Any]]]) -> float | None:
    """The same score at the highest point of each run's curve, where others publish that."""
    means = []
    for env in grid.environments if grid.references else ():
        peaks = [max((x for x in run["curve"] if x is not None), default=None) for run in runs[env]]
        known = [peak for peak in peaks if peak is not None]
        means += [float(np.mean(known)) / grid.references[env].value] if known else []
    return files.round_mean(means, DIGITS)


def _environment(grid: Grid, env: str, scale: tuple[float, float] | None, runs: Finished) -> dict[str, Any]:
    rows = {}
    for setting in grid.settings:
        scores = _scores(runs[setting.name][env])
        rows[setting.name] = {
            "mean": files.round_mean(scores, DIGITS),
            "scores": {str(run["seed"]): run["score"] for run in runs[setting.name][env]},
            **_published(setting.scores.get(env)),
        }
    ends = {"zero": scale[0], "one": scale[1]} if scale else {"zero": None, "one": None}
    return {**ends, "scale": scale_in_words(grid, env), "settings": rows}


def _beside(grid: Grid) -> dict[str, Any]:
    """What others published for these environments; nothing where a grid has none."""
    found = {
        name: {env: _published(scores.get(env)) for env in grid.environments}
        for name, scores in grid.beside.items()
    }
    return {"beside": found} if found else {}


def count_wins(means: Iterable[Mapping[str, float | None]]) -> Counter[str]:
    """How many environments each setting won alone, how many are tied, and how many are open.

    means  per environment the score of each setting; None for one that has none yet: the environment is open
    """
    won = Counter[str]()
    for scores in means:
        known = [score for score in scores.values() if score is not None]
        best = [name for name, score in scores.items() if known and score == max(known)]
        won[OPEN if len(known) < len(scores) else TIE if len(best) > 1 else best[0]] += 1
    return won


def _wins(grid: Grid, runs: Finished) -> dict[str, Any]:
    """Who won how many environments, beside what others published; nothing where a grid has none of that."""
    if not grid.wins:
        return {}
    ours = [*(setting.label for setting in grid.settings), TIE, OPEN]
    means, wins = {}, {}
    for place, measure in enumerate((TRAINING, LAST)):
        means[measure] = {
            env: {one.label: _mean(_scores(runs[one.name][env], measure)) for one in grid.settings}
            for env in grid.environments
        }
        won = count_wins(means[measure].values())
        wins[measure] = {
            label: {
                "won": won[label] if label in ours else None,
                **_published(grid.wins[label][place] if label in grid.wins else None),
            }
            for label in dict.fromkeys([*grid.wins, *ours])
        }
    return {"over_training": means[TRAINING], "wins": wins}


def _mean(scores: list[float]) -> float | None:
    return float(np.mean(scores)) if scores else None


def scale_in_words(grid: Grid, env: str) -> str:
    """What counts as 0 and as 1."""
    if not grid.references:
        return "0 is the random policy, 1 the best single run of the environment"
    return f"0 is a return of 0, 1 the published score; {grid.references[env].source}"


def _published(number: Published | None) -> dict[str, Any]:
    if number is None:
        return {"published": None, "source": None}
    return {"published": number.value, "source": number.source}


def _plain(estimate: statistics.Estimate) -> list[float | None]:
    """[value, low, high]."""
    return [None if number is None else files.round_significant(number, DIGITS) for number in estimate[:3]]
