"""`proximo reproduce GRID`: run what is missing of a grid, then print it beside the published numbers."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from proximo.errors import UserError, say
from proximo.experiments import cells as files
from proximo.experiments.grid import Cell, Grid, RandomPolicy, Task, cells, groups
from proximo.experiments.grids import find_grid
from proximo.experiments.summary import summary
from proximo.experiments.worker import OutputFolders
from proximo.paths import short


@dataclass(frozen=True)
class Reproduce:
    """Run a table or figure of the paper again, and print it beside the published numbers.

    Resumable: a finished run is a file and is never run again.
    """

    grid: tyro.conf.Positional[str]
    """`table1`, `figure3`, `table1-quick` (minutes), `recipe` or `recipe-confirmation`."""
    only: tuple[str, ...] = ()
    """Run these environments alone."""
    setting: tuple[str, ...] = ()
    """Run these settings alone, such as `clip-0.2`."""
    seeds: tuple[int, ...] = ()
    """Run these seeds alone."""
    processes: int | None = None
    """Worker processes; as many as there are cores unless said otherwise."""
    members: int = 12
    """Most runs that one process trains side by side."""
    results: Path = Path("results")
    """Where finished runs are kept."""
    episodes: Path = Path("runs/reproduce")
    """Where the returns of all episodes go."""
    plots: bool = False
    """Draw the figures too (needs matplotlib)."""
    figures: Path = Path("docs")
    """Where the figures go."""
    json: bool = False
    """Print one JSON object."""
    markdown: bool = False
    """Print the tables as Markdown."""
    quiet: bool = False
    """No progress."""
    debug: bool = False
    """Show the traceback of an error."""


def command(arguments: Reproduce) -> int:
    """What `proximo reproduce` does; returns the exit status. Raises UserError in one line."""
    grid = find_grid(arguments.grid)
    for name in ("processes", "members"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    wanted = cells(grid, arguments.only, arguments.setting, arguments.seeds)
    if arguments.plots:
        from proximo.experiments.plots import require_matplotlib

        require_matplotlib()  # said before the work, not after it
    status = run_missing(
        grid,
        wanted,
        results=arguments.results,
        episodes=arguments.episodes,
        processes=arguments.processes,
        members=arguments.members,
        progress=not arguments.quiet,
    )
    if status:
        say(f"proximo reproduce: interrupted; {files.KEPT}")
        return status
    numbers = write_summary(grid, arguments.results)
    if arguments.json:
        print(json.dumps(numbers))
    elif arguments.markdown:
        from proximo.experiments.table import markdown

        print(markdown(numbers))
    else:
        from proximo.experiments.table import show

        show(numbers)
    if arguments.plots:
        from proximo.experiments.plots import draw

        for path in draw(grid, arguments.results, numbers, arguments.figures):
            say(f"figure: {short(path)}")
    return 0


def write_summary(grid: Grid, results: Path) -> dict[str, Any]:
    """The summary of what is there, also as `summary.json` beside it, rewritten only where it differs."""
    numbers = summary(grid, results)
    path = results / grid.name / "summary.json"
    if numbers["runs"] and numbers != files.read(path):
        files.write_json(path, numbers)
    return numbers


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
    ensemble_key  stands in for `control.ensemble.kin`

    Returns 0, or an exit status if somebody asked for the end before. Raises UserError for a file that does
    not fit the grid, while another command runs the same grid, and when a run fails; what finished before is
    kept.
    """
    if not any(_find_missing(grid, wanted, results)[:2]):
        return 0
    if train is None or ensemble_key is None:
        from proximo.control.ensemble import ensemble, kin

        train, ensemble_key = train or ensemble, ensemble_key or kin
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
