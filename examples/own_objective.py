"""An objective of your own, compared with the clipped one: python -m examples.own_objective.

The same on the command line: proximo train CartPole-v1 --objective examples/own_objective.py:SmoothClip:k=5
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

import proximo
from proximo.core.arrays import traceable


@traceable  # JAX sees its numbers: they can be changed, or differ between members, without compiling anew
@dataclass(frozen=True)
class SmoothClip:
    """A tanh(k (r - 1)) / k: the policy gradient at r = 1, with a slope that falls as r moves away from 1.

    k  how fast it falls: at |r - 1| = 1 / k the slope is 0.42 of that at r = 1
    """

    k: float = 5.0

    def __call__(self, log_ratio, advantage, kl=None):
        """The objective of each transition, which is maximised. Shapes as in `proximo.core.surrogates`."""
        return advantage * jnp.tanh(self.k * jnp.expm1(log_ratio)) / self.k


def learned(objective, seed, steps=50_000):
    """Train on CartPole-v1; returns the mean return of the last 100 episodes."""
    config = proximo.preset("default", "CartPole-v1")
    config = proximo.with_options(config, objective=objective, seed=seed, steps=steps)
    for iteration in proximo.training(config):
        last = iteration.mean_return
    return last


if __name__ == "__main__":
    for objective in (proximo.core.Clip(0.2), SmoothClip()):
        returns = [learned(objective, seed) for seed in range(3)]
        print(f"{objective}: {np.mean(returns):.0f}, of three seeds {np.round(returns)}")
