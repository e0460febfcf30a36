"""`proximo reproduce GRID`: run what is missing of a grid, then print it beside the published numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from proximo.arguments import Watched, parse_words
from proximo.core.ranges import at_least
from proximo.errors import say
from proximo.paths import short


@dataclass(frozen=True)
class Reproduce(Watched):
    """Print a table or figure of the paper beside the published numbers, and train only what is missing.

    A finished run is a file, so it can be interrupted. Where nothing is missing, no file is changed.
    """

    grid: tyro.conf.Positional[str]
    """`table1`, `figure3`, `table1-quick` (minutes), `recipe` or `recipe-confirmation`."""
    only: tuple[str, ...] = ()
    """Only these environments."""
    setting: tuple[str, ...] = ()
    """Only these settings, such as `clip-0.2`."""
    seeds: tuple[int, ...] = ()
    """Only these seeds."""
    processes: Annotated[int | None, at_least(1)] = None
    """Worker processes; by default as many as there are cores."""
    members: Annotated[int, at_least(1)] = 12
    """Runs that one process trains side by side, at most."""
    results: Path = Path("results")
    """Where finished runs are kept."""
    episodes: Path = Path("runs/reproduce")
    """Where the returns of all episodes go."""
    plots: bool = False
    """Draw the figures too (needs matplotlib)."""
    figures: Path = Path("runs/figures")
    """Where the figures go; `docs` draws those of the documents again."""
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

    grid = find_grid(arguments.grid)
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
        print(table.markdown(numbers))
    else:
        table.show(numbers)
    if arguments.plots:
        from proximo.experiments.plots import draw

        for path in draw(grid, arguments.results, numbers, arguments.figures):
            say(f"figure: {short(path)}")
    return 0
