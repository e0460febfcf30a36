"""Trains the missing runs of a grid, and summarises all of them."""

import contextlib
from pathlib import Path
from typing import Any

from proximo.experiments import cells as files
from proximo.experiments.grid import Cell, Grid, RandomPolicy, Task, groups
from proximo.experiments.summary import summary
from proximo.experiments.worker import OutputFolders


def write_summary(grid: Grid, results: Path) -> dict[str, Any]:
    """The summary of what is there, also as `summary.json` beside it.

    That is written only where the one there is of other runs: another SciPy may round an interval otherwise,
    and to look at results changes none of their files. Delete it to have it written again.
    """
    numbers = summary(grid, results)
    path = results / grid.name / "summary.json"
    if numbers["runs"] and _scores(numbers) != _scores(files.read(path) or {}):
        files.write_json(path, numbers)
    return numbers


def _scores(numbers: dict[str, Any]) -> dict[str, Any]:
    """The raw score of every run in a summary, which may come from a file."""
    return {
        env: {name: row.get("scores") for name, row in content.get("settings", {}).items()}
        for env, content in numbers.get("environments", {}).items()
    }


def run_missing(
    grid: Grid,
    wanted: list[Cell],
    *,
    results: Path,
    episodes: Path,
    processes: int | None = None,
    members: int = 12,
    progress: bool = False,
    train: Any = None,
    ensemble_key: Any = None,
) -> int:
    """Run those of the wanted cells that have no file yet, and the random policy where it is needed.

    train         stands in for `control.ensemble.ensemble`; it must be importable by name
    ensemble_key  stands in for `control.ensemble.ensemble_key`

    Returns 0, or an exit status if somebody asked for the end before. Raises UserError for a file that does
    not fit the grid, while another command runs the same grid, and when a run fails; what finished before is
    kept.
    """
    if not any(_find_missing(grid, wanted, results)[:2]):
        return 0
    if train is None or ensemble_key is None:
        from proximo.control import ensemble as ensembles

        train, ensemble_key = train or ensembles.ensemble, ensemble_key or ensembles.ensemble_key
    from proximo.experiments.runner import run, shown, usable_cores

    with contextlib.ExitStack() as held:
        for name in sorted({grid.name, *(cell.grid for cell in wanted)}):
            held.callback(files.lock(results, name).release)
        missing, tasks, known = _find_missing(grid, wanted, results)  # another one may have ended just now
        for name in {grid.name, *(cell.grid for cell in missing)}:
            files.ensure_description(results, name)
        processes = processes or len(usable_cores())
        tasks += groups(missing, ensemble_key, members, processes)
        steps = sum(task.steps for task in tasks)
        with shown(grid.name, len(missing), steps, progress) as show:
            return run(tasks, OutputFolders(results, episodes, known), train, processes=processes, show=show)


def _find_missing(
    grid: Grid, wanted: list[Cell], results: Path
) -> tuple[list[Cell], list[Task], dict[str, list[str]]]:
    """The runs and the random policies that have no file yet; and per grid the names of its options."""
    known = {
        name: files.read_description(results, name)["options"] for name in {cell.grid for cell in wanted}
    }
    missing = [cell for cell in wanted if files.load(results, cell, known[cell.grid]) is None]
    tasks: list[Task] = []
    if not grid.references:
        environments = dict.fromkeys(cell.env for cell in wanted)
        paths = {env: files.random_path(results, grid.name, env) for env in environments}
        tasks += [RandomPolicy(grid.name, env) for env, path in paths.items() if files.read(path) is None]
    return missing, tasks, known
