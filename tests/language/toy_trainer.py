"""A trainer that learns nothing, for what is done around trainers. As a program it waits to be killed."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp

from proximo.language.running import language_files, record_iterations, restore
from proximo.language.train.job import Outcome
from proximo.language.train.options import RunOptions
from proximo.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class ToyOptions:
    """What a command's options are made of."""

    size: int = 3
    run: RunOptions = field(default_factory=RunOptions)


@dataclass
class Toy:
    """A random walk; in iteration `worse` the metric is no number, in `infinite` the state is not finite."""

    notes: ClassVar[tuple[str, ...]] = ()
    total: int = 5
    size: int = 3
    worse: int = -1
    infinite: int = -1

    def begin(self):
        return {"walk": jnp.zeros(self.size), "taken": jnp.zeros((), jnp.int32)}

    def iterate(self, state, number):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(3), number), (self.size,))
        walk = 0.9 * state["walk"] + noise
        if number == self.infinite:
            walk = walk.at[1].set(jnp.inf)
        metrics = {"loss": float("nan") if number == self.worse else float(walk[0])}
        samples = ({"completion": f"number {number}"},)
        return Outcome({"walk": walk, "taken": state["taken"] + 1}, metrics, 7, samples)

    def save(self, state, folder):
        folder.mkdir(exist_ok=True)
        (folder / "walk.txt").write_text(repr(float(state["walk"][0])))


def files(trainer):
    """What its run's files hold."""
    return language_files("toy", ToyOptions(run=RunOptions(seed=4)), trainer)


def go_on_forever(path):
    """A checkpoint after every iteration, from wherever the run stood."""
    endless = Toy(total=10**6, size=10**6)
    run, state, number = (
        restore(path, files(endless), endless)
        if (path / "checkpoints").exists()
        else (RunFolder(path, files(endless)), None, 0)
    )
    for _ in record_iterations(endless, run, 0.0, state, number):
        pass


if __name__ == "__main__":
    go_on_forever(Path(sys.argv[1]))
