"""A policy with what it needs to act: the observation statistics and the environment's two codecs."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from jaxtyping import Array

from proximo.control.acting import Actor, actor_of
from proximo.core.types import vector_of
from proximo.envs import EnvDescription, ObservationCodec, action_codec, is_single
from proximo.envs.parts import codec_for
from proximo.envs.scaling import scaled_codec
from proximo.envs.spaces import ActionCodec
from proximo.envs.vector.returned import one_line
from proximo.errors import UserError
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic
from proximo.runs.forks import refuse_after_fork


class Agent:
    """A trained policy: NumPy observations in, NumPy actions for the environment out.

    policy        the networks
    observations  the observation statistics, frozen
    spaces        the environment's observation and action space (Gymnasium's)
    environment   what it was trained on; a plain name means the registered environment with that id
    scale_actions whether the policy acts from -1 to 1, mapped to the action space's bounds (`envs.scaling`)

    It can be pickled and copied, as the bytes of its model files, if these can be written.
    """

    def __init__(
        self,
        policy: ActorCritic,
        observations: ObservationNormaliser,
        spaces: tuple[Space, Space],
        environment: EnvDescription | str,
        *,
        scale_actions: bool = False,
    ) -> None:
        self.policy = policy
        self.observations = observations
        self.spaces = spaces
        self.scale_actions = scale_actions
        self.action = self.action_in(spaces[1])
        if isinstance(environment, str):
            environment = EnvDescription(environment, only_name=True)
        self.environment: EnvDescription = environment
        self._key = jax.random.key(0)
        self._carry: Any = ()  # what a policy with a memory remembers of the calls of `act`

    def __repr__(self) -> str:
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(self.policy))
        return f"Agent({self.name!r}: {one_line(self.spaces[1])} actions, {numbers:,} parameters)"

    @property
    def name(self) -> str:
        """The name of the environment that it was trained on."""
        return self.environment.name

    def __reduce__(self) -> tuple[Any, ...]:
        """What `copy` and Python's serialisation ask for. Raises UserError where no model can be written."""
        from proximo.control.model import agent_from_bytes, bytes_of

        key, content = np.asarray(jax.random.key_data(self._key)), bytes_of(self)
        network = self.policy.options.network  # by reference, as Python hands on any class or function
        return agent_from_bytes, (content, key, None if network is None else network.function)

    def action_in(self, space: Space) -> ActionCodec:
        """The codec that turns the policy's actions into those of this action space.

        The bounds may differ from those in training: actions keep their units and are clipped.
        """
        return scaled_codec(self.spaces[1], space) if self.scale_actions else action_codec(space)

    @cached_property
    def observation(self) -> ObservationCodec:
        """What turns the environment's observations into those that the policy was trained on."""
        return codec_for(self.spaces[0], self.policy.in_parts).about(np.asarray(self.observations.offset))

    @cached_property
    def actor(self) -> Actor:
        """The policy, compiled; shared by the agents of one training run."""
        return actor_of(self.policy, self.observations)

    @cached_property
    def parameters(self) -> Array:
        """What the actor takes to act as this agent."""
        return self.actor.parameters(self.policy, self.observations)

    def choose(self, obs: Any, start: np.ndarray | None = None, carry: Any = ()) -> tuple[np.ndarray, Any]:
        """Encoded observations [N, features] -> the most likely policy actions [N, ...], and the memory.

        start, carry  [N] and [N, ...], of a policy with a memory (`policies.Policy`)
        """
        refuse_after_fork()
        action, carry = self.actor.mode(self.parameters, obs, start, carry)
        return np.asarray(action), carry

    def sample(
        self, obs: Any, key: Array, start: np.ndarray | None = None, carry: Any = ()
    ) -> tuple[np.ndarray, Any]:
        """Encoded observations [N, features] -> sampled policy actions [N, ...], and the memory."""
        refuse_after_fork()
        noise = self.policy.head.noise(key, vector_of(obs).shape[:1])
        action, carry = self.actor.sample(self.parameters, obs, noise, start, carry)
        return np.asarray(action), carry

    def act(self, observation: Any, *, deterministic: bool = True, start: Any = False) -> Any:
        """The action for one observation, or the actions for a batch (one more axis in front).

        deterministic  the most likely action; otherwise a sample from the agent's own random stream
        start          whether the observation is the first of an episode: one flag, or one per observation. A
                       policy with a memory forgets earlier calls there, and also if the number of
                       observations changes

        Raises UserError for an observation outside the environment's space.
        """
        obs, single = self._encoded(observation)
        memory = self._memory(len(vector_of(obs)), start)
        if deterministic:
            action, self._carry = self.choose(obs, *memory)
        else:
            refuse_after_fork()
            self._key, key = jax.random.split(self._key)
            action, self._carry = self.sample(obs, key, *memory)
        if single:
            return self.action.to_environment_one(action[0])
        return self.action.to_environment(action)

    def _memory(self, count: int, start: Any) -> tuple[np.ndarray | None, Any]:
        """Start and carry of the next call for so many observations."""
        leaves = jax.tree.leaves(self._carry)
        if not leaves or len(leaves[0]) != count:
            self._carry = self.policy.begin(count)
        if not jax.tree.leaves(self._carry):
            return None, ()
        return np.broadcast_to(np.asarray(start, bool), (count,)), self._carry

    def _encoded(self, observation: Any) -> tuple[Any, bool]:
        """Observations as the policy takes them, [N, features], and whether there was only one."""
        try:
            single = is_single(self.spaces[0], observation)
            batch = self.observation.batch_of_one(observation) if single else observation
            obs = self.observation.empty(len(jax.tree.leaves(batch)[0]))
            self.observation.write(batch, obs)
        except Exception as error:  # whatever the caller handed in
            space = one_line(self.spaces[0])
            raise UserError(
                f"the observation is not in the space {space}, nor a batch of such observations"
            ) from error
        return obs, single

    def value(self, observation: Any) -> np.ndarray:
        """The critic's expected return for one observation, or a batch, in units of the scaled reward.

        A policy with a memory treats it as the first observation of an episode.
        """
        refuse_after_fork()
        obs, single = self._encoded(observation)
        count = len(vector_of(obs))
        start, carry = jnp.ones(count, bool), self.policy.begin(count)
        value = np.asarray(
            self.policy(self.observations(jax.tree.map(jnp.asarray, obs)), start, carry)[0].value[..., 0]
        )
        return value[0] if single else value
