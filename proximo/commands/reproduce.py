"""`proximo reproduce GRID`: a table or figure of the paper, run again."""

from proximo.arguments import parse
from proximo.experiments.reproduce import Reproduce, command
from proximo.paths import whole


def read(words: list[str]) -> Reproduce:
    """The arguments that were typed."""
    return whole(parse(Reproduce, "reproduce", words))


def run(arguments: Reproduce) -> int:
    """Reproduce; returns the exit status."""
    return command(arguments)
