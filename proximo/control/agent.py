"""A policy with what it needs to act: the observation statistics and the environment's two codecs."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from jaxtyping import Array

from proximo.control.acting import Actor, actor_of
from proximo.envs import EnvDescription, ObservationCodec, action_codec, is_single, observation_codec
from proximo.envs.spaces import space_name
from proximo.errors import UserError
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic
from proximo.runs.forks import refuse_after_fork


class Agent:
    """A trained policy: observations in, actions for the environment out, NumPy on both sides.

    policy        the networks
    observations  the observation statistics, frozen
    spaces        the environment's observation and action space (Gymnasium's)
    environment   what it was trained on; a name alone stands for the registered environment of that id

    It can be pickled and copied, as the plain bytes of its model files, where these can be written.
    """

    def __init__(
        self,
        policy: ActorCritic,
        observations: ObservationNormaliser,
        spaces: tuple[Space, Space],
        environment: EnvDescription | str,
        actor: Actor | None = None,
    ) -> None:
        self.policy = policy
        self.observations = observations
        self.spaces = spaces
        self.action = action_codec(spaces[1])
        if isinstance(environment, str):
            environment = EnvDescription(environment, only_name=True)
        self.environment: EnvDescription = environment
        self._actor = actor
        self._key = jax.random.key(0)

    @property
    def name(self) -> str:
        """What the environment is called that it was trained on."""
        return self.environment.name

    def __reduce__(self) -> tuple[Any, ...]:
        """What `copy` and Python's serialisation ask for. Raises UserError where no model can be written."""
        from proximo.control.model import agent_from_bytes, bytes_of

        return agent_from_bytes, (bytes_of(self), np.asarray(jax.random.key_data(self._key)))

    @cached_property
    def observation(self) -> ObservationCodec:
        """What turns the environment's observations into those that the policy was trained on."""
        return observation_codec(self.spaces[0]).about(np.asarray(self.observations.offset))

    @cached_property
    def actor(self) -> Actor:
        """The policy, compiled; shared by the agents of one training run."""
        return self._actor or actor_of(self.policy, self.observations)

    @cached_property
    def parameters(self) -> Array:
        """What the actor takes to act as this agent."""
        return self.actor.parameters(self.policy, self.observations)

    def choose(self, obs: np.ndarray) -> np.ndarray:
        """Encoded observations [N, features] -> the most likely policy actions [N, ...]."""
        refuse_after_fork()
        return np.asarray(self.actor.mode(self.parameters, obs))

    def sample(self, obs: np.ndarray, key: Array) -> np.ndarray:
        """Encoded observations [N, features] -> sampled policy actions [N, ...]."""
        refuse_after_fork()
        return np.asarray(self.actor.sample(self.parameters, obs, self.policy.head.noise(key, obs.shape[:1])))

    def act(self, observation: Any, *, deterministic: bool = True) -> Any:
        """The action for one observation, or the actions for a batch (one more axis in front).

        deterministic  the most likely action; otherwise a sample from the agent's own random stream

        Raises UserError for an observation that is not of the environment's space.
        """
        obs, single = self._encoded(observation)
        if deterministic:
            action = self.choose(obs)
        else:
            refuse_after_fork()
            self._key, key = jax.random.split(self._key)
            action = self.sample(obs, key)
        if single:
            return self.action.to_environment_one(action[0])
        return self.action.to_environment(action)

    def _encoded(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Observations as the policy takes them, [N, features], and whether there was only one."""
        try:
            single = is_single(self.spaces[0], observation)
            batch = self.observation.batch_of_one(observation) if single else observation
            obs = np.empty((len(jax.tree.leaves(batch)[0]), *self.observation.shape), self.observation.dtype)
            self.observation.encode(batch, obs)
        except Exception as error:  # whatever the caller handed in
            space = space_name(self.spaces[0])
            raise UserError(f"the observation is not of the space {space}, nor a batch of such") from error
        return obs, single

    def value(self, observation: Any) -> np.ndarray:
        """The critic's expected return for one observation, or a batch, in units of the scaled reward."""
        refuse_after_fork()
        obs, single = self._encoded(observation)
        value = np.asarray(self.policy.value(self.observations(jnp.asarray(obs))))
        return value[0] if single else value
