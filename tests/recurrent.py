"""The smallest policy with a memory, to be put in the place of the networks."""

import equinox as eqx
import jax
import jax.numpy as jnp

from proximo.policies import Dense, Output, make_head


class Recurrent(eqx.Module):
    """h' = tanh(x W + h U), which also counts: actor and critic see h' and how old the episode is.

    The memory is {"hidden": [N, H], "age": [N]}; both are 0 before the first observation of an episode.
    """

    in_parts = False
    head: object
    inputs: Dense
    recurrent: Dense
    actor_output: Dense
    critic_output: Dense

    def __init__(self, key, features, kind, options, private=0):
        keys = jax.random.split(key, 4)
        hidden = options.hidden[0]

        def dense(key, inputs, outputs):
            return Dense(key, inputs, outputs, 1.0, "orthogonal")

        self.head = make_head(kind, options.initial_log_std)
        self.inputs, self.recurrent = dense(keys[0], features, hidden), dense(keys[1], hidden, hidden)
        self.actor_output = dense(keys[2], hidden + 1, self.head.inputs)
        self.critic_output = dense(keys[3], hidden + 1, 1)

    def begin(self, count):
        hidden = self.recurrent.bias.shape[0]
        return {"hidden": jnp.zeros((count, hidden)), "age": jnp.zeros(count, jnp.int32)}

    def __call__(self, obs, start, carry):
        if start.ndim == 1:
            carry = self.after(carry, (obs, start))
            seen = carry
        else:
            carry, seen = jax.lax.scan(lambda carry, row: 2 * (self.after(carry, row),), carry, (obs, start))
        features = jnp.concatenate([seen["hidden"], jnp.sin(seen["age"])[..., None]], axis=-1)
        return Output(self.head(self.actor_output(features)), self.critic_output(features)), carry

    def after(self, carry, row):
        obs, start = row
        hidden = jnp.where(start[:, None], 0.0, carry["hidden"])
        hidden = jnp.tanh(self.inputs(obs) + self.recurrent(hidden))
        return {"hidden": hidden, "age": jnp.where(start, 0, carry["age"]) + 1}
