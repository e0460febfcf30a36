"""`proximo reproduce GRID`: train the missing runs of a grid, then print it beside the published numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from proximo.arguments import Watched, parse_words
from proximo.core.ranges import at_least
from proximo.errors import say
from proximo.options import also
from proximo.paths import short


@dataclass(frozen=True)
class Reproduce(Watched):
    """Reproduce a table or figure of the paper: train the missing runs, print published numbers and ours.

    Each finished run is a file, so you can interrupt the command and continue later. If no run is missing, no
    file changes.
    """

    grid: tyro.conf.Positional[str]
    """`table1`, `figure3`, `atari` (tables 2 and 6), `minatar`, `table1-quick` (minutes), `recipe` or
    `recipe-confirmation`."""
    only: Annotated[tuple[str, ...], also("--games")] = ()
    """Only these environments, such as `pong,breakout`."""
    steps: Annotated[int | None, at_least(1)] = None
    """Length of each run, if not the grid's own. Such runs are kept apart."""
    setting: tuple[str, ...] = ()
    """Only these settings, such as `clip-0.2`."""
    seeds: tuple[int, ...] = ()
    """Only these seeds."""
    processes: Annotated[int | None, at_least(1)] = None
    """Number of worker processes. By default the number of cores."""
    members: Annotated[int | None, at_least(1)] = None
    """Maximum number of runs that one process trains together. By default 12, of images 1."""
    results: Path = Path("results")
    """The folder of finished runs."""
    episodes: Path = Path("runs/reproduce")
    """The folder for the returns of all episodes."""
    plots: bool = False
    """Draw the figures too (needs matplotlib)."""
    figures: Path = Path("runs/figures")
    """The folder for the figures. `docs` updates those of the documentation."""
    markdown: bool = False
    """Print the tables as Markdown."""


def read(words: list[str]) -> Reproduce:
    """The arguments that were typed."""
    return parse_words(Reproduce, "reproduce", words)


def run(arguments: Reproduce) -> int:
    """Reproduce; returns the exit status."""
    from proximo.experiments import cells as files
    from proximo.experiments import table
    from proximo.experiments.grid import cells
    from proximo.experiments.grids import find_grid
    from proximo.experiments.reproduce import run_missing, write_summary

    grid = find_grid(arguments.grid).of_steps(arguments.steps)
    only = [name for word in arguments.only for name in word.split(",") if name]
    wanted = cells(grid, only, arguments.setting, arguments.seeds)
    if arguments.plots:
        from proximo.experiments.plots import require_matplotlib

        require_matplotlib()  # report it before the work, not after it
    status = run_missing(
        grid,
        wanted,
        results=arguments.results,
        episodes=arguments.episodes,
        processes=arguments.processes,
        members=arguments.members or grid.members,
        progress=not arguments.quiet,
    )
    if status:
        say(f"proximo reproduce: interrupted; {files.KEPT}")
        return status
    numbers = write_summary(grid, arguments.results)
    if arguments.json:
        print(json.dumps(numbers))
    elif arguments.markdown:
        print(table.markdown(numbers))
    else:
        table.show(numbers)
    if arguments.plots:
        from proximo.experiments.plots import draw

        for path in draw(grid, arguments.results, numbers, arguments.figures):
            say(f"figure: {short(path)}")
    return 0
