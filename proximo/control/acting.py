"""Policies as one cheap function, called once per environment step, and which of them acts where."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from proximo.core.types import vector_of
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic, Distribution

Act = Callable[[Any, Any, np.ndarray | None, Any], tuple[Any, Any]]
"""(observations [N, ...], noise [N, ...], start [N], carry) -> actions [N, ...], carry.

`start` says whose memory is forgotten before the observation is read; None where there is no memory.
"""


@dataclass(frozen=True)
class Columns:
    """Which policy acts in which of a vector's N columns.

    policies  how many there are: each acts in N / policies neighbouring columns. None: one acts in all of
              them, and what is its own (parameters, keys, a rollout) has no axis of policies
    """

    policies: int | None = None

    def of(self, index: int, each: int) -> slice:
        """The columns of a policy, where each has so many."""
        return slice(index * each, (index + 1) * each)

    def mapped(self, function: Callable[..., Any], **axes: Any) -> Callable[..., Any]:
        """A function of one policy as a function of all; `axes` as in `jax.vmap`."""
        return function if self.policies is None else jax.vmap(function, **axes)

    def split(self, tree: Any, axis: int = 0) -> Any:
        """Arrays [..., N, ...], N at `axis`, as [..., policies, N / policies, ...]; no copy."""
        if self.policies is None:
            return tree

        def apart(x: Any) -> Any:  # without -1, for an array may have no entries
            each = x.shape[axis] // self.policies
            return x.reshape(*x.shape[:axis], self.policies, each, *x.shape[axis + 1 :])

        return jax.tree.map(apart, tree)

    def join(self, tree: Any, axis: int = 0) -> Any:
        """The inverse of `split`."""
        if self.policies is None:
            return tree
        return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]), tree)


ONE_POLICY = Columns()
ALIGNMENT = 64  # bytes; what XLA asks of memory that it reads in place


class SharedInput:
    """Memory that NumPy writes and a compiled call reads in place, split by policy, without a conversion.

    Handing a NumPy array to a compiled call makes a new device array of it, which costs more than the
    networks of a small policy. Each call must have returned its result before the next write, and
    `Actor` waits for every action. Where the device cannot read host memory, the array itself is handed
    over, as always.
    """

    def __init__(self, like: np.ndarray, columns: Columns) -> None:
        memory = np.empty(like.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._host = memory[start : start + like.nbytes].view(like.dtype).reshape(like.shape)
        self._device: Array | np.ndarray = columns.split(self._host)
        if jax.default_backend() == "cpu":
            device = jax.dlpack.from_dlpack(self._device)
            if device.unsafe_buffer_pointer() == self._host.ctypes.data:
                self._device = device

    def __call__(self, value: np.ndarray) -> Array | np.ndarray:
        """What to hand to the compiled call in place of `value`."""
        self._host[...] = value
        return self._device


def shared(tree: Any, columns: Columns) -> Callable[[Any], Any]:
    """`SharedInput` for observations, or noise, of which each part has its own."""
    if not isinstance(tree, dict):
        return SharedInput(tree, columns)
    inputs = {name: shared(part, columns) for name, part in tree.items()}
    return lambda tree: {name: inputs[name](part) for name, part in tree.items()}


def on_host(actions: Any) -> Any:
    """Actions as NumPy arrays, once they are there."""
    if isinstance(actions, dict):
        return {name: on_host(part) for name, part in actions.items()}
    return np.asarray(actions)


def as_calls_leave(carry: Any) -> Any:
    """Memory on the device that `SharedInput` ties a call to, as the call before left it.

    Elsewhere, as `begin` makes it, it would have the same computation compiled once more.
    """
    return jax.device_put(carry, jax.devices()[0]) if jax.default_backend() == "cpu" else carry


class Actor:
    """The policies of a vector's columns, compiled once for all the parameters they will ever have.

    Parameters travel as ONE flat vector, because every argument of a compiled call costs about a microsecond.
    What an action does not depend on, the critic, is compiled away.

    parameters  (policy, observations) -> that vector
    noise       (key, number, shape) -> the noise of so many actions, [*shape, ...], of iteration `number`
    sample      (vector, observations [N, ...], noise [N, ...], start, carry) -> actions [N, ...], carry
    mode        (vector, observations [N, ...], start, carry) -> the most likely ones, carry

    `start` [N] and `carry` are of a policy with a memory.

    With several policies each of these takes and gives an axis of policies in front, noise after its first:
    [T, policies, N / policies, ...]. What a policy draws is, bit for bit, what it would draw alone.
    """

    def __init__(
        self, policy: ActorCritic, observations: ObservationNormaliser, columns: Columns = ONE_POLICY
    ) -> None:
        self.columns = columns
        leaves, structure = jax.tree.flatten((policy, observations))
        cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]

        def unravel(flat: Array) -> Any:  # `ravel_pytree` gives one too, but compiles programs for it
            parts = zip(jnp.split(flat, cuts), leaves, strict=True)
            return jax.tree.unflatten(
                structure, [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in parts]
            )

        def noise(key: Array, number: Any, shape: tuple[int, ...]) -> Array:
            draw = columns.mapped(
                lambda key: policy.head.noise(jax.random.fold_in(key, number), shape), out_axes=1
            )
            return draw(key)

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

        self.noise = jax.jit(noise, static_argnames="shape")
        self.parameters = jax.jit(columns.mapped(lambda *tree: ravel_pytree(tree)[0]))
        self.sample, self.mode = jax.jit(columns.mapped(sample)), jax.jit(columns.mapped(mode))

    def stepper(self, flat: Array, obs: Any, noise: Any = None) -> Act:
        """What acts in all columns, for thousands of calls with the same parameters.

        It takes `start` as [N], and the carry as `Columns.split` has it.

        flat   what `parameters` gave
        obs    an array of the shape and dtype of all that will come, [N, ...]
        noise  likewise; without it the actions are the most likely ones, and noise is not read
        """
        join, shared_obs = self.columns.join, shared(obs, self.columns)
        flags = SharedInput(np.zeros(len(vector_of(obs)), bool), self.columns)

        def starting(start: np.ndarray | None) -> Any:
            return None if start is None else flags(start)

        if noise is None:
            mode = self.mode

            def act(obs: Any, noise: Any, start: Any, carry: Any) -> tuple[Any, Any]:
                actions, carry = mode(flat, shared_obs(obs), starting(start), carry)
                return join(on_host(actions)), carry

            return act
        sample, shared_noise = self.sample, shared(noise, self.columns)

        def act_at_random(obs: Any, noise: Any, start: Any, carry: Any) -> tuple[Any, Any]:
            actions, carry = sample(flat, shared_obs(obs), shared_noise(noise), starting(start), carry)
            return join(on_host(actions)), carry

        return act_at_random


def actor_of(
    policy: ActorCritic, observations: ObservationNormaliser, columns: Columns = ONE_POLICY
) -> Actor:
    """The actor of a policy, or of several like it.

    One that was compiled for another policy of the same shape serves again.
    """
    leaves, structure = jax.tree.flatten((policy, observations))
    return _actor(structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves), columns)


@lru_cache(maxsize=64)
def _actor(structure: Any, shapes: tuple[tuple[tuple[int, ...], Any], ...], columns: Columns) -> Actor:
    like = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    policy, observations = jax.tree.unflatten(structure, like)
    return Actor(policy, observations, columns)
