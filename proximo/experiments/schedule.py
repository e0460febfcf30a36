"""Which runs share an ensemble, and in what order they are begun."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from proximo.control.config import Config
from proximo.experiments.grid import Cell


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
    cells: Sequence[Cell], kin: Callable[[Config], Hashable], members: int, processes: int
) -> list[Group]:
    """The runs in ensembles of at most `members`, longest first.

    Runs of one environment with equal `kin` may share one. There are at least as many ensembles as
    processes, if there are that many runs: an idle core costs more than a smaller ensemble.
    """
    together: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        together.setdefault((cell.env, kin(cell.config)), []).append(cell)
    found = [part for family in together.values() for part in shares(family, -(-len(family) // members))]
    while len(found) < processes:
        largest = max(found, key=len, default=[])
        if len(largest) < 2:
            break
        found.remove(largest)
        found += shares(largest, 2)
    made = [Group(tuple(part)) for part in found]
    return sorted(made, key=lambda group: -group.steps)


def shares(cells: list[Cell], count: int) -> list[list[Cell]]:
    """The runs in so many parts, of sizes that differ by one at most."""
    bounds = [len(cells) * index // count for index in range(count + 1)]
    return [cells[bounds[index] : bounds[index + 1]] for index in range(count)]
