"""What a grid of runs is: settings x environments x seeds, and the published numbers it stands beside."""

import dataclasses
import shlex
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proximo.control.config import Config, preset
from proximo.errors import UserError, nearest
from proximo.options import as_words, with_options


@dataclass(frozen=True)
class Published:
    """A number that others published, and where. Raises ValueError without a source."""

    value: float
    source: str

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError(f"the published number {self.value} has no source")


@dataclass(frozen=True)
class Setting:
    """One row of a table.

    name        what files and options call it
    label       what a table calls it
    preset      where its configuration starts from
    options     what it changes of the preset, by the options' flat names
    published   the number of the whole row
    scores      the raw score of each environment, where those were published
    home        the grid under whose name its runs are kept, if that is not this one: never run twice
    """

    name: str
    label: str
    preset: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None
    scores: Mapping[str, Published] = field(default_factory=dict)
    home: str | None = None


@dataclass(frozen=True)
class Grid:
    """Settings x environments x seeds, and what they are scored against.

    references  per environment the published score that counts as 1; without any, the best single run
                of the environment counts as 1 and the random policy as 0 (the paper's way)
    baseline    the setting that the others are compared with
    beside      what others published, by their name: environment -> score
    members     runs that share an ensemble, at most, unless asked for otherwise
    wins        how many environments each setting won as others published it, by its label, over all of
                training and over its last 100 episodes; a grid that has them counts its own
    """

    name: str
    title: str
    settings: Sequence[Setting]
    environments: Sequence[str]
    baseline: str
    seeds: Sequence[int] = (0, 1, 2)
    steps: int = 1_000_000
    references: Mapping[str, Published] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, Published]] = field(default_factory=dict)
    members: int = 12
    wins: Mapping[str, tuple[Published, Published]] = field(default_factory=dict)

    def of_steps(self, steps: int | None) -> "Grid":
        """The same with runs of another length, which are kept apart from those of its own length."""
        if steps in (None, self.steps):
            return self
        homes = [replace(one, home=one.home and f"{one.home}-{steps}") for one in self.settings]
        return replace(self, name=f"{self.name}-{steps}", steps=steps, settings=homes)


@dataclass(frozen=True)
class Cell:
    """One run of a grid: what decides it, and where its result belongs.

    grid     the grid under whose name it is kept
    config   the whole configuration, seed and steps included
    command  the command that makes this run alone
    """

    grid: str
    env: str
    setting: str
    seed: int
    config: Config
    command: str

    @property
    def name(self) -> str:
        """Its path in a results folder, without an ending."""
        return f"{self.grid}/{self.env}/{self.setting}-{self.seed}"


def cells(
    grid: Grid, environments: Iterable[str] = (), settings: Iterable[str] = (), seeds: Iterable[int] = ()
) -> list[Cell]:
    """Every run of a grid, or those of some environments, settings and seeds alone.

    Raises UserError, with the nearest names, for one that the grid does not have.
    """
    by_name = {setting.name: setting for setting in grid.settings}
    names = select(settings, list(by_name), f"setting of {grid.name}")
    envs = select(environments, grid.environments, f"environment in {grid.name}")
    numbers = select(seeds, grid.seeds, f"seed in {grid.name}")
    return [
        cell
        for name in names
        for env in envs
        for cell in _row(grid, by_name[name], env, [int(n) for n in numbers])
    ]


def _row(grid: Grid, setting: Setting, env: str, seeds: Sequence[int]) -> list[Cell]:
    """The runs of one setting on one environment; the preset is looked up once."""
    start = preset(setting.preset, env)
    config = with_options(start, **{**setting.options, "steps": grid.steps})
    steps = {} if start.steps == grid.steps else {"steps": grid.steps}
    words = ["proximo", "train", env, "--preset", setting.preset, *as_words({**setting.options, **steps})]
    return [
        Cell(
            grid=setting.home or grid.name,
            env=env,
            setting=setting.name,
            seed=seed,
            config=dataclasses.replace(config, seed=seed),
            command=shlex.join([*words, "--seed", str(seed)]),
        )
        for seed in seeds
    ]


def select(wanted: Iterable[Any], there: Sequence[Any], what: str) -> list[Any]:
    """Those of `there` that are wanted, all if none is named. Raises UserError for one that is not there.

    Names may be written in small letters.
    """
    by_small = {str(name).lower(): name for name in there}
    wanted = [by_small.get(str(name).lower(), name) for name in wanted]
    for name in wanted:
        if name not in there:
            raise UserError(f"there is no {what} called {name!r}: {nearest(name, there)}")
    return [name for name in there if name in wanted or not wanted]


# ---- which runs share an ensemble, and in what order they are begun


@dataclass(frozen=True)
class Group:
    """Runs that are trained together, as one ensemble."""

    cells: tuple[Cell, ...]

    @property
    def steps(self) -> int:
        """Of all of them."""
        return sum(cell.config.steps for cell in self.cells)

    @property
    def name(self) -> str:
        """For people: its first run, and how many more."""
        more = f" and {len(self.cells) - 1} more" if len(self.cells) > 1 else ""
        return f"{self.cells[0].name}{more}"


@dataclass(frozen=True)
class RandomPolicy:
    """The random policy on an environment, for the score that counts as 0."""

    grid: str
    env: str

    @property
    def steps(self) -> int:
        """None that anybody waits for."""
        return 0

    @property
    def name(self) -> str:
        """For people."""
        return f"the random policy on {self.env}"


Task = Group | RandomPolicy


def groups(
    cells: Sequence[Cell], ensemble_key: Callable[[Config], Hashable], members: int, processes: int
) -> list[Group]:
    """The runs in ensembles of at most `members`, longest first.

    Runs of one environment with equal `ensemble_key` may share one. There are at least as many ensembles as
    processes, if there are that many runs: an idle core costs more than a smaller ensemble.
    """
    together: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        together.setdefault((cell.env, ensemble_key(cell.config)), []).append(cell)
    found = [
        part for family in together.values() for part in split_evenly(family, -(-len(family) // members))
    ]
    while len(found) < processes:
        largest = max(found, key=len, default=[])
        if len(largest) < 2:
            break
        found.remove(largest)
        found += split_evenly(largest, 2)
    made = [Group(tuple(part)) for part in found]
    return sorted(made, key=lambda group: -group.steps)


def split_evenly(cells: list[Cell], count: int) -> list[list[Cell]]:
    """The runs in so many parts, of sizes that differ by one at most."""
    bounds = [len(cells) * index // count for index in range(count + 1)]
    return [cells[bounds[index] : bounds[index + 1]] for index in range(count)]
