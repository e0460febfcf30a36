"""A network of your own instead of Proximo's: python -m examples.own_network.

The same on the command line: proximo train CartPole-v1 --network examples/own_network.py:Residual:width=32
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import proximo


class Residual(eqx.Module):
    """One trunk for actor and critic, with skip connections."""

    first: eqx.nn.Linear
    layers: list
    last: eqx.nn.Linear

    def __init__(self, key, sizes, width=64, depth=2):
        """Create it from a random key and the sizes of its inputs and outputs (`proximo.policies.Sizes`)."""
        keys = jax.random.split(key, depth + 2)
        self.first = eqx.nn.Linear(sizes.features, width, key=keys[0])
        self.layers = [eqx.nn.Linear(width, width, key=k) for k in keys[1:-1]]
        self.last = eqx.nn.Linear(width, sizes.outputs + 1, key=keys[-1])

    def __call__(self, obs):
        """One observation [features] -> the action distribution's parameters [outputs], and the value."""
        seen = self.first(obs)
        for layer in self.layers:
            seen = seen + jnp.tanh(layer(seen))
        said = self.last(seen)
        return said[:-1], said[-1]


if __name__ == "__main__":
    run = proximo.train("CartPole-v1", network=Residual, steps=50_000, seed=0, progress=True)
    print(run.evaluate(episodes=20))

    agent = proximo.load(run.folder, network=Residual)  # files hold its name and its weights, not its code
    print(proximo.evaluate(agent, episodes=20))
