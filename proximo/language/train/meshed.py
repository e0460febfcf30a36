"""A trainer on several devices."""

from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from proximo.language.model.sharding import shard
from proximo.language.train.job import Outcome, Trainer
from proximo.learn.mesh import MeshOptions, mesh_of, on_mesh


class Meshed:
    """A trainer on a mesh (see `job.Trainer`): its state is laid out, and its iterations run there.

    notes  the trainer's, if it has any
    """

    def __init__(self, trainer: Trainer, mesh: Mesh) -> None:
        self.trainer, self.mesh = trainer, mesh
        self.notes: tuple[str, ...] = getattr(trainer, "notes", ())

    @property
    def total(self) -> int:
        """The trainer's."""
        return self.trainer.total

    def begin(self) -> Any:
        """The trainer's, laid out."""
        return shard(self.trainer.begin(), self.mesh)

    def iterate(self, state: Any, number: int) -> Outcome:
        """The trainer's. A state from a checkpoint is laid out first."""
        with on_mesh(self.mesh):
            return self.trainer.iterate(shard(state, self.mesh), number)

    def save(self, state: Any, folder: Path) -> None:
        """The trainer's."""
        self.trainer.save(state, folder)


def meshed(trainer: Trainer, options: MeshOptions) -> Trainer:
    """The trainer on the mesh of the options, or as it is where one device does all."""
    mesh = mesh_of(options)
    return trainer if mesh is None else Meshed(trainer, mesh)
