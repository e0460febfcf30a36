"""What a person sees while a grid runs."""

import contextlib
from collections.abc import Callable, Generator

from proximo.runs.progress import Rate, display

LINE_SECONDS = 30.0

Show = Callable[[int, int], None]  # runs finished, steps done


@contextlib.contextmanager
def shown(title: str, runs: int, steps: int, enabled: bool) -> Generator[Show, None, None]:
    """A function that is told how far the grid is, and shows it on standard error if `enabled`.

    runs, steps  what is still to be done, all together
    """
    rate = Rate()
    with display(title, steps, enabled, LINE_SECONDS) as told:

        def show(runs_done: int, steps_done: int) -> None:
            speed = rate(steps_done)
            told(steps_done, f"{runs_done}/{runs} runs" + (f"  {speed:,.0f} steps/s" if speed else ""))

        yield show
