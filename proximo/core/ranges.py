"""Which numbers an option may be: an annotation beside its default.

    learning_rate: Annotated[float, above(0)] = 3e-4

Where an option is several numbers, it holds for each of them. `proximo.options` checks it.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers within bounds; NaN never is.

    least, most   bounds that are in the range themselves
    above, below  bounds that are not
    infinite      whether infinity is in it
    """

    least: int | float = -math.inf
    most: int | float = math.inf
    above: int | float = -math.inf
    below: int | float = math.inf
    infinite: bool = False

    def __contains__(self, number: int | float) -> bool:
        if number == math.inf:
            return self.infinite
        return self.least <= number <= self.most and self.above < number < self.below

    def __str__(self) -> str:
        """Such as `above 0`, `between 0 and 1`, `at least 0 and below 1`; `finite` without bounds."""
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"between {self.least} and {self.most}"
        bounds = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        given = [f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound)]
        return " and ".join(given) or "finite"


def above(bound: int | float, infinite: bool = False) -> Range:
    """Numbers greater than `bound`."""
    return Range(above=bound, infinite=infinite)


def at_least(bound: int | float, infinite: bool = False) -> Range:
    """`bound`, and numbers greater than it."""
    return Range(least=bound, infinite=infinite)


def between(least: int | float, most: int | float) -> Range:
    """Numbers from `least` to `most`, both included."""
    return Range(least=least, most=most)
