"""Every random stream of a run, split from its one seed."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array

from proximo.envs.vector.parallel import fresh_seeds
from proximo.errors import UserError


@dataclass(frozen=True)
class Streams:
    """Independent streams: what one of them draws never moves another.

    initialisation, actions, shuffling  JAX keys
    environments, evaluation            NumPy seed sequences, one seed per environment is drawn from them
    """

    initialisation: Array
    actions: Array
    shuffling: Array
    environments: np.random.SeedSequence
    evaluation: np.random.SeedSequence


def streams(seed: int) -> Streams:
    """The streams of `seed`, the same on every machine. Raises UserError for a seed below 0."""
    if seed < 0:
        raise UserError(f"seed is {seed}: it must be at least 0")
    initialisation, actions, shuffling, environments, evaluation = np.random.SeedSequence(seed).spawn(5)

    def key(sequence: np.random.SeedSequence) -> Array:
        return jax.random.key(int(sequence.generate_state(1)[0]))

    return Streams(key(initialisation), key(actions), key(shuffling), environments, evaluation)


def later_seeds(sequence: np.random.SeedSequence, number: int, num_envs: int) -> list[int]:
    """Seeds of environments that are restarted at iteration `number`, all different from the first ones."""
    entropy = int(sequence.generate_state(1)[0])
    return environment_seeds(np.random.SeedSequence([entropy, number]), num_envs)


def environment_seeds(sequence: np.random.SeedSequence, num_envs: int) -> list[int]:
    """One seed per environment, below 2^31; the first ones do not depend on how many there are."""
    return fresh_seeds(sequence, num_envs)
