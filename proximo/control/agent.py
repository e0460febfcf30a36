"""A policy with what it needs to act: the observation statistics and the environment's two codecs."""

from functools import cached_property
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from jaxtyping import Array

from proximo.control.acting import Actor, actor_of, on_host
from proximo.control.seen import acting_codec_of, codec_of, critic_only
from proximo.core.types import vector_of
from proximo.envs import EnvDescription, HostEnvs, ObservationCodec, count_of, is_single
from proximo.envs.actions import ActionCodec
from proximo.envs.parts import without, without_masks
from proximo.envs.scaling import scaled_codec
from proximo.envs.vector.masks import MASK, Masks
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.trees import each
from proximo.errors import Misfit, UserError
from proximo.learn.normalise import ObservationNormaliser
from proximo.policies import ActorCritic, acting_alone, dependent_names
from proximo.runs.forks import refuse_after_fork


class Agent:
    """A trained policy: NumPy observations in, NumPy actions for the environment out.

    policy        the networks
    observations  the observation statistics, frozen
    spaces        the environment's observation and action space (Gymnasium's)
    environment   what it was trained on; a plain name means the registered environment with that id
    scale_actions whether the policy acts from -1 to 1, mapped to the action space's bounds (`envs.scaling`)
    masked        whether the environment tells which actions are legal

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
        masked: bool = False,
    ) -> None:
        self.policy = policy
        self.observations = observations
        self.spaces = spaces
        self.scale_actions, self.masked = scale_actions, masked
        self.action = self.action_in(spaces[1])
        if isinstance(environment, str):
            environment = EnvDescription(environment, only_name=True)
        self.environment: EnvDescription = environment
        self._key = jax.random.key(0)

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
        network = self.policy.options.own_network  # by reference, as Python hands on any class or function
        return agent_from_bytes, (content, key, None if network is None else network.function)

    def action_in(self, space: Space) -> ActionCodec:
        """The codec that turns the policy's actions into those of this action space.

        The bounds may differ from those in training: actions keep their units and are clipped.
        """
        options = getattr(self.policy, "options", None)
        inside = None if options is None else options.distribution.inside
        return scaled_codec(self.spaces[1], space, scaled=self.scale_actions, inside=inside)

    @cached_property
    def observation(self) -> ObservationCodec:
        """What turns the environment's observations into those that the policy acts on."""
        return acting_codec_of(self.policy, self.spaces).about(np.asarray(self.observations.offset))

    @cached_property
    def acting(self) -> Any:
        """The policy without what only learning needs."""
        return acting_alone(self.policy)

    @cached_property
    def actor(self) -> Actor:
        """The policy, compiled; shared by the agents of one training run."""
        return actor_of(self.acting, self.observations)

    @cached_property
    def parameters(self) -> Array:
        """What the actor takes to act as this agent."""
        return self.actor.parameters(self.acting, self.observations)

    def choose(self, obs: Any, start: np.ndarray | None = None, carry: Any = ()) -> tuple[Any, Any]:
        """Encoded observations [N, features] -> the most likely policy actions [N, ...], and the memory.

        start, carry  [N] and [N, ...], of a policy with a memory (`policies.Policy`)
        """
        refuse_after_fork()
        action, carry = self.actor.mode(self.parameters, obs, start, carry)
        return on_host(action), carry

    def sample(
        self, obs: Any, key: Array, start: np.ndarray | None = None, carry: Any = ()
    ) -> tuple[Any, Any]:
        """Encoded observations [N, features] -> sampled policy actions [N, ...], and the memory."""
        refuse_after_fork()
        noise = jax.tree.map(lambda x: x[0], self.policy.head.noise(key, (1, *vector_of(obs).shape[:1])))
        action, carry = self.actor.sample(self.parameters, obs, noise, start, carry)
        return on_host(action), carry

    @property
    def remembers(self) -> bool:
        """Whether the policy has a memory."""
        return bool(jax.tree.leaves(jax.eval_shape(lambda: self.acting.begin(1))))

    def act(self, observation: Any, *, deterministic: bool = True, legal: Any = None) -> Any:
        """The action for one observation, or the actions for a batch (one more axis in front).

        deterministic  the most likely action; otherwise a sample from the agent's own random stream
        legal          which actions may be taken: a mask as the environment's info has it (`HostEnvs.legal`),
                       for a batch with one more axis in front. By default the observation's part
                       `action_mask`; all, where it has none

        Raises UserError for an observation that is not of the environment's space, for a mask that does not
        fit its actions, and for a policy with a memory, which acts through a `player`, or with its `state`.
        """
        if self.remembers:
            raise UserError(
                "this policy remembers what it saw, and act() does not say which episode an observation is "
                "of: take player = agent.player(), then player.act(observation, start=...), where start is "
                "True for the first observation of an episode"
            )
        return self.act_with_state(observation, deterministic=deterministic, legal=legal)[0]

    def player(self) -> "Player":
        """The agent in episodes of its own, which it remembers from call to call."""
        return Player(self)

    def act_with_state(
        self,
        observation: Any,
        state: Any = None,
        start: Any = None,
        *,
        deterministic: bool = True,
        legal: Any = None,
    ) -> tuple[Any, Any]:
        """The action for an observation, or a batch, and what the policy remembers after it.

        state  what it remembers of the episode so far: what the call before gave; None before the first one.
               Without a memory it is handed back as it came
        start  whether the observation is the first of an episode, one flag or one for each: there the state
               is forgotten before it is read. By default nowhere
        legal  as of `act`

        Raises UserError as `act`, and for a state of another number of observations.
        """
        obs, single = self._encoded(observation, legal)
        memory = self._memory(len(vector_of(obs)), state, start)
        if deterministic:
            action, after = self.choose(obs, *memory)
        else:
            refuse_after_fork()
            self._key, key = jax.random.split(self._key)
            action, after = self.sample(obs, key, *memory)
        if single:
            applied = self.action.to_environment_one(each(itemgetter(0), action))
        else:
            applied = self.action.to_environment(action)
        return applied, after if self.remembers else state

    def _memory(self, count: int, state: Any, start: Any) -> tuple[np.ndarray | None, Any]:
        """Start and carry of the next call for so many observations."""
        if not self.remembers:
            return None, ()
        begun = self.acting.begin(count)
        if state is None:
            return np.ones(count, bool), begun
        shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (state, begun)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the state is not what this policy remembers of {count} observations: pass the state that "
                "the call before returned for as many of them, or None before the first one"
            )
        flags = np.asarray(False if start is None else start, bool)
        if flags.shape not in ((), (count,)):
            raise UserError(f"start has shape {flags.shape}: it must be one flag, or {count} of them")
        state = jax.tree.unflatten(jax.tree.structure(begun), jax.tree.leaves(state))
        return np.broadcast_to(flags, (count,)), state

    def _encoded(
        self, observation: Any, legal: Any = None, codec: ObservationCodec | None = None
    ) -> tuple[Any, bool]:
        """Observations as the policy takes them, [N, features], and whether there was only one.

        codec  by default the one to act with
        """
        codec = codec or self.observation
        try:
            single = is_single(self.seen, observation)
            batch = codec.batch_of_one(observation) if single else observation
            count = count_of(self.seen, batch)
        except Exception as error:  # whatever the caller handed in
            raise self._not_of_space(error) from error
        if legal is None and isinstance(observation, dict):
            legal = observation.get(MASK)
        flags = self._flags(legal, single, count)
        codec = codec.beside(flags)
        try:
            obs = codec.empty(count)
            codec.write(batch, obs, flags)
        except Exception as error:
            raise self._not_of_space(error) from error
        return obs, single

    @cached_property
    def seen(self) -> Space:
        """What the policy sees of an observation when it acts, which has to be given."""
        options = getattr(self.policy, "options", None)
        flat = options is not None and options.flatten
        seen = self.spaces[0] if flat else without_masks(*self.spaces)
        return without(seen, critic_only(self.policy))

    def _not_of_space(self, error: Exception) -> UserError:
        why = f": {error}" if isinstance(error, Misfit) else ""
        space = one_line(self.spaces[0])
        return UserError(
            f"the observation is not in the space {space}, nor a batch of such observations{why}"
        )

    def _flags(self, legal: Any, single: bool, count: int) -> np.ndarray | None:
        """A mask of one observation, or of `count`, as bool [N, M]; None where all actions are legal."""
        if legal is None or not self.masks.parts:
            return None
        rows = [legal] if single else [each(itemgetter(index), legal) for index in range(count)]
        try:
            return np.stack([self.masks.legal(row, False, self.mask_code) for row in rows])
        except Misfit as misfit:
            raise UserError(f"{misfit}".replace("its action mask", "the action mask", 1)) from misfit

    @cached_property
    def masks(self) -> Masks:
        """Reads masks of the environment's actions."""
        return Masks(self.spaces[1])

    @cached_property
    def mask_code(self) -> int:
        """How the policy takes masks (`Masks.code_of`)."""
        return self.masks.code_for(dependent_names(self.policy.head))

    def require_masks_of(self, envs: HostEnvs) -> None:
        """Raises UserError where environments tell what is legal in another way than in training."""
        if envs.mask_code not in (0, self.mask_code):
            each, all_of_them = "each value of each choice", "each combination of choices"
            here, there = (all_of_them, each) if self.mask_code < envs.mask_code else (each, all_of_them)
            raise UserError(
                f"the action masks of {envs.name} have a flag for {here}, those of {self.name}, on which the "
                f"agent was trained, one for {there}: return such"
            )

    def value(self, observation: Any) -> np.ndarray:
        """The critic's expected return for one observation, or a batch, in units of the scaled reward.

        A policy with a memory treats it as the first observation of an episode. Parts that the critic alone
        sees have to be there.
        """
        refuse_after_fork()
        codec = codec_of(self.policy, self.spaces).about(np.asarray(self.observations.offset))
        obs, single = self._encoded(observation, codec=codec)
        count = len(vector_of(obs))
        start, carry = jnp.ones(count, bool), self.policy.begin(count)
        value = np.asarray(
            self.policy(self.observations(jax.tree.map(jnp.asarray, obs)), start, carry)[0].value[..., 0]
        )
        return value[0] if single else value


class Player:
    """An agent in episodes of its own, one or several side by side, which it remembers from call to call.

        player = agent.player()
        action = player.act(observation, start=True)
        action = player.act(next_observation)

    Without a memory it acts as the agent.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.state = agent, None

    def act(
        self, observation: Any, *, start: Any = False, deterministic: bool = True, legal: Any = None
    ) -> Any:
        """The action for the next observation, or for the next of each of several episodes.

        start  whether it is the first of an episode, one flag or one for each. The first call is one
        legal  as of `Agent.act`

        Raises UserError as `Agent.act_with_state`.
        """
        everywhere = np.asarray(start, bool).all()
        state = None if everywhere else self.state
        action, self.state = self.agent.act_with_state(
            observation, state, start, deterministic=deterministic, legal=legal
        )
        return action
