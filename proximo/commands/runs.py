"""`proximo runs [FOLDER]`: a list of runs and their state."""

import argparse
import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import tyro

from proximo.errors import UserError
from proximo.paths import absolute, short


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder, newest first: environment, preset, seed, steps, the mean return of the last
    100 training episodes (or a language model's reward or loss), whether it is running, finished, stopped or
    diverged, and when it was last written. The runs of an ensemble are listed together."""

    folder: tyro.conf.Positional[Path | None] = None
    """The folder to list. By default runs."""
    json: bool = False
    """Print a JSON list of the runs instead."""
    debug: bool = False
    """Show the traceback of an error."""


class Parser(argparse.ArgumentParser):
    """The standard library's parser: that of the other commands loads JAX."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def read(words: list[str]) -> Runs:
    """The arguments that were typed."""
    parser = Parser(prog="proximo runs", description=Runs.__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="the folder; by default runs")
    parser.add_argument("--json", action="store_true", help="print a JSON list of the runs instead")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return Runs(**vars(parser.parse_args(words)))


def run(arguments: Runs) -> int:
    """List; returns the exit status."""
    from proximo.runs.overview import Ensemble, overview, table

    place = absolute(arguments.folder or "runs")
    if arguments.folder is None and not place.exists():
        raise UserError("there is no folder runs here yet: `proximo train CartPole-v1` creates it")
    entries = overview(place)
    if arguments.json:
        rows = []
        for entry in entries:
            members = entry.runs if isinstance(entry, Ensemble) else [entry]
            group = str(short(entry.path)) if isinstance(entry, Ensemble) else None
            rows += [{**one.as_json(), "path": str(short(one.path)), "ensemble": group} for one in members]
        print(json_format.dumps(rows))
        return 0
    if not entries:
        print(f"there are no runs in {short(place)}")
        return 0
    print("\n".join(table(entries, place)))
    return 0
