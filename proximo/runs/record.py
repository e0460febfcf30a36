"""What is saved of a run, and when: the same for control and language models, alone or in an ensemble."""

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from proximo.errors import UpdateDiverged
from proximo.runs.files import Entry
from proximo.runs.folder import RunFolder

CHECKPOINT_SECONDS = 30.0

Iteration = TypeVar("Iteration")


class Record:
    """What is saved during a run: its logs, its checkpoints, at the end its model.

    checkpoint_every, begun  as in `record`
    last                     the last iteration that was added
    diverged                 whether the next one diverged
    """

    def __init__(self, folder: RunFolder, checkpoint_every: float, begun: Any = None) -> None:
        self.folder, self.checkpoint_every = folder, checkpoint_every
        self.last: Any = begun
        self.diverged = False
        self._entry: Entry | None = None if begun is None else folder.files.entry(begun, folder.seconds)
        self._kept = True
        self._due: float | None = None
        self._begun = time.perf_counter()

    def add(self, iteration: Any) -> None:
        """Log an iteration; write a checkpoint when it is time for one, and of the last one."""
        entry = self.folder.files.entry(iteration, self.folder.seconds)
        self.last, self._entry, self._kept = (
            iteration,
            entry,
            not entry.sound,
        )  # a diverged iteration cannot be resumed from
        if self._due is None:  # what may be lost is kept at once: a run that fails early can be gone on with
            self._due = self._begun + self.checkpoint_every if entry.lasting else -math.inf
        self.folder.log(entry, iteration)
        if time.perf_counter() >= self._due or entry.last:
            self._keep()

    def close(self, at_rest: bool) -> None:
        """Write what the last iteration left: a checkpoint, if it is still to be had, and the model.

        at_rest  nothing has happened since the last iteration: its reader has had enough
        """
        with contextlib.ExitStack() as later:  # from the last to the first, also when one of them fails
            later.callback(self.folder.lock.release)
            if self.diverged or self._entry is not None:
                later.callback(self.folder.end, self._state())
            later.callback(self.folder.sinks.close)
            if self._entry is not None:
                later.callback(self.folder.save, self._entry)
                if at_rest or self._entry.lasting:
                    later.callback(self._keep)

    def _state(self) -> str:
        if self.diverged or (self._entry is not None and not self._entry.sound):
            return "diverged"
        return "finished" if self._entry is not None and self._entry.last else "stopped"

    def _keep(self) -> None:
        if self._kept or self._entry is None:
            return
        self.folder.checkpoint(self._entry)
        self._kept, self._due = True, time.perf_counter() + self.checkpoint_every


def record(
    iterations: Iterator[Iteration],
    folder: RunFolder,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    begun: Iteration | None = None,
) -> Generator[Iteration, None, None]:
    """The same iterations, each logged as it comes; however it ends, the last model is saved.

    checkpoint_every  seconds between checkpoints; 0 writes one in every iteration
    begun             the iteration to resume from, whose model is saved if no other follows
    """
    record, at_rest = Record(folder, checkpoint_every, begun), False
    try:
        for last in iterations:
            record.add(last)
            at_rest = True
            yield last
            at_rest = False
    except UpdateDiverged:
        record.diverged = True
        raise
    finally:
        record.close(at_rest)
