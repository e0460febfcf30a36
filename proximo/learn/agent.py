"""A policy with what it needs to act: the observation statistics and the environment's two codecs."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from gymnasium import Space

from proximo.envs import action_codec, is_single, observation_codec
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic, Distribution

class Actor:
    """A policy as a cheap function: compiled once, called once per environment step.

    The parameters an action depends on travel as ONE flat vector, because every argument of a compiled
    call costs about a microsecond: 14 us a call against 19 us for the tree of arrays.
    """

    def __init__(self, policy: ActorCritic, observations: ObservationNormaliser) -> None:
        _, unravel = ravel_pytree((policy.without_critic(), observations))

        def distribution(flat: Array, obs: Array) -> Distribution:
            policy, observations = unravel(flat)
            return policy(observations(obs))[0]

        self._ravel = jax.jit(lambda policy, observations: ravel_pytree((policy.without_critic(), observations))[0])
        self._sample = jax.jit(lambda flat, obs, noise: distribution(flat, obs).sample(noise))
        self._mode = jax.jit(lambda flat, obs: distribution(flat, obs).mode())

    def sampler(self, policy: ActorCritic, observations: ObservationNormaliser) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """(observations [N, ...], noise [N, ...]) -> sampled actions of the policy as it is now."""
        flat = self._ravel(policy, observations)
        return lambda obs, noise: np.asarray(self._sample(flat, obs, noise))

    def chooser(self, policy: ActorCritic, observations: ObservationNormaliser) -> Callable[[np.ndarray], np.ndarray]:
        """Observations [N, ...] -> the most likely actions of the policy as it is now."""
        flat = self._ravel(policy, observations)
        return lambda obs: np.asarray(self._mode(flat, obs))


class Agent:
    """A trained policy: observations in, actions for the environment out, NumPy on both sides.

    policy        the networks
    observations  the observation statistics, frozen
    spaces        the environment's observation and action space (Gymnasium's)
    name          the environment it was trained on
    """

    def __init__(
        self,
        policy: ActorCritic,
        observations: ObservationNormaliser,
        spaces: tuple[Space, Space],
        name: str,
        actor: Actor | None = None,
    ) -> None:
        self.policy = policy
        self.observations = observations
        self.spaces = spaces
        self.observation, self.action = observation_codec(spaces[0]), action_codec(spaces[1])
        self.name = name
        self._actor = actor
        self._key = jax.random.key(0)

    @cached_property
    def actor(self) -> Actor:
        """The policy, compiled; shared by the agents of one training run."""
        return self._actor or Actor(self.policy, self.observations)

    @cached_property
    def choose(self) -> Callable[[np.ndarray], np.ndarray]:
        """Encoded observations [N, features] -> the most likely policy actions [N, ...]."""
        return self.actor.chooser(self.policy, self.observations)

    @cached_property
    def sample(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Encoded observations [N, features], noise [N, ...] -> sampled policy actions [N, ...]."""
        return self.actor.sampler(self.policy, self.observations)

    def act(self, observation: Any, *, deterministic: bool = True) -> Any:
        """The action for one observation, or the actions for a batch (one more axis in front).

        deterministic  the most likely action; otherwise a sample from the agent's own random stream

        Raises UserError for an observation that is not of the environment's space.
        """
        obs, single = self._encoded(observation)
        if deterministic:
            action = self.choose(obs)
        else:
            self._key, key = jax.random.split(self._key)
            action = self.sample(obs, np.asarray(self.policy.head.noise(key, obs.shape[:1])))
        if single:
            return self.action.to_environment_one(action[0])
        return self.action.to_environment(action)

    def _encoded(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Observations as the policy takes them, [N, features], and whether there was only one."""
        single = is_single(self.spaces[0], observation)
        batch = self.observation.batch_of_one(observation) if single else observation
        obs = np.empty((len(jax.tree.leaves(batch)[0]), *self.observation.shape), self.observation.dtype)
        self.observation.encode(batch, obs)
        return obs, single

    def value(self, observation: Any) -> np.ndarray:
        """The critic's expected return for one observation, or a batch, in units of the scaled reward."""
        obs, single = self._encoded(observation)
        value = np.asarray(self.policy.value(self.observations(obs)))
        return value[0] if single else value
