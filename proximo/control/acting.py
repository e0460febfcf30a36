"""A policy as a cheap function, called once per environment step."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic, Distribution

Act = Callable[[Any, np.ndarray, np.ndarray | None, Any], tuple[np.ndarray, Any]]
"""(observations [N, ...], noise [N, ...], start [N], carry) -> actions [N, ...], carry.

`start` says whose memory is forgotten before the observation is read; None where there is no memory.
"""

ALIGNMENT = 64  # bytes; what XLA asks of memory that it reads in place


class SharedInput:
    """Memory that NumPy writes and a compiled call reads in place, without a conversion.

    Handing a NumPy array to a compiled call makes a new device array of it, which costs more than the
    networks of a small policy. Each call must have returned its result before the next write, and
    `Actor` waits for every action. Where the device cannot read host memory, the array itself is handed
    over, as always.
    """

    def __init__(self, like: np.ndarray) -> None:
        memory = np.empty(like.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._host = memory[start : start + like.nbytes].view(like.dtype).reshape(like.shape)
        self._device: Array | np.ndarray = self._host
        if jax.default_backend() == "cpu":
            device = jax.dlpack.from_dlpack(self._host)
            if device.unsafe_buffer_pointer() == self._host.ctypes.data:
                self._device = device

    def __call__(self, value: np.ndarray) -> Array | np.ndarray:
        """What to hand to the compiled call in place of `value`."""
        self._host[...] = value
        return self._device


def shared(obs: Any) -> Callable[[Any], Any]:
    """`SharedInput` for observations, of which each part has its own."""
    if not isinstance(obs, dict):
        return SharedInput(obs)
    inputs = {name: SharedInput(part) for name, part in obs.items()}
    return lambda obs: {name: inputs[name](part) for name, part in obs.items()}


class Actor:
    """A policy, compiled once for all the parameters it will ever have.

    Parameters travel as ONE flat vector, because every argument of a compiled call costs about a microsecond.
    What an action does not depend on, the critic, is compiled away.

    head        of the policy
    noise       (key, shape) -> the noise of so many actions, [*shape, ...]
    parameters  (policy, observations) -> that vector
    sample      (vector, observations [N, ...], noise [N, ...], start, carry) -> actions [N, ...], carry
    mode        (vector, observations [N, ...], start, carry) -> the most likely ones, carry

    `start` [N] and `carry` are of a policy with a memory.
    """

    def __init__(self, policy: ActorCritic, observations: ObservationNormaliser) -> None:
        self.head = policy.head
        self.noise = jax.jit(lambda key, shape: policy.head.noise(key, shape), static_argnames="shape")
        _, unravel = ravel_pytree((policy, observations))

        def distribution(flat: Array, obs: Array, start: Any, carry: Any) -> tuple[Distribution, Any]:
            policy, observations = unravel(flat)
            output, carry = policy(observations(obs), start, carry)
            return output.distribution, carry

        def sample(flat: Array, obs: Array, noise: Array, start: Any = None, carry: Any = ()) -> Any:
            chosen, carry = distribution(flat, obs, start, carry)
            return chosen.sample(noise), carry

        def mode(flat: Array, obs: Array, start: Any = None, carry: Any = ()) -> Any:
            chosen, carry = distribution(flat, obs, start, carry)
            return chosen.mode(), carry

        self.parameters = jax.jit(lambda policy, observations: ravel_pytree((policy, observations))[0])
        self.sample, self.mode = jax.jit(sample), jax.jit(mode)

    def stepper(self, flat: Array, obs: Any, noise: np.ndarray) -> Act:
        """What samples actions, for thousands of calls with the same parameters.

        flat        what `parameters` gave
        obs, noise  arrays of the shape and dtype of all that will come, [N, ...]
        """
        sample, shared_obs, shared_noise = self.sample, shared(obs), SharedInput(noise)

        def act(obs: Any, noise: np.ndarray, start: Any, carry: Any) -> tuple[np.ndarray, Any]:
            actions, carry = sample(flat, shared_obs(obs), shared_noise(noise), start, carry)
            return np.asarray(actions), carry

        return act


def actor_of(policy: ActorCritic, observations: ObservationNormaliser) -> Actor:
    """The actor of a policy; one that was compiled for another policy of the same shape serves again."""
    leaves, structure = jax.tree.flatten((policy, observations))
    return _actor(structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))


@lru_cache(maxsize=64)
def _actor(structure: Any, shapes: tuple[tuple[tuple[int, ...], Any], ...]) -> Actor:
    like = [jnp.zeros(shape, dtype) for shape, dtype in shapes]
    return Actor(*jax.tree.unflatten(structure, like))
