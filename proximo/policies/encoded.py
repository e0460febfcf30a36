"""An actor-critic that sees parts of an observation, or remembers, or both."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core.types import ActionKind, Seen, vector_of
from proximo.policies.actor_critic import ActorCritic, Output, legal_alone
from proximo.policies.attention import GatedTransformer
from proximo.policies.distributions import Head
from proximo.policies.encoders import Encoders
from proximo.policies.memory import GRU, LSTM
from proximo.policies.options import NetworkOptions

Memory = LSTM | GRU | GatedTransformer
OLDER_NETWORKS: dict[str, Any] = {"flatten": True}  # of files that do not say how images are read


class Perception(eqx.Module):
    """Encoders for what is seen of an observation, then a memory.

    It gives what was encoded beside what is remembered: what needs no memory need not go through it.

    memory  None for none
    """

    encoders: Encoders
    memory: Memory | None

    def __init__(
        self, key: tuple[Array, Array], seen: Seen, options: NetworkOptions, *, first: int, remembers: bool
    ) -> None:
        self.encoders, self.memory = Encoders(key[0], seen, options, first), None
        if remembers and options.memory is not None:
            self.memory = options.memory.made(key[1], self.encoders.size, options.initialiser)

    @property
    def size(self) -> int:
        return self.encoders.size + (0 if self.memory is None else self.memory.size)

    def begin(self, count: int) -> Any:
        return () if self.memory is None else self.memory.begin(count)

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None, carry: Any
    ) -> tuple[Float[Array, "*batch F"], Any]:
        seen = self.encoders(obs)
        if self.memory is None:
            return seen, carry
        remembered, carry = self.memory(seen, start, carry)
        return jnp.concatenate([seen, remembered], axis=-1), carry


class Memories(NamedTuple):
    """What actor and critic remember, where each remembers for itself."""

    actor: Any
    critic: Any


class EncodedActorCritic(eqx.Module):
    """An `ActorCritic` on what encoders and a memory make of an observation.

    sight   of the actor, and of the critic unless it has its own (`separate_critic`)
    critic  what the critic alone has: all that it sees where it is separate, else what the actor does not
            see; None for nothing
    """

    sight: Perception
    critic: Perception | None
    actor_critic: ActorCritic
    in_parts: ClassVar[bool] = True

    def __init__(
        self, key: Array, seen: Seen, kind: ActionKind, options: NetworkOptions, private: Seen
    ) -> None:
        *keys, key = jax.random.split(key, 3)
        self.sight = Perception((keys[0], keys[1]), seen, options, first=0, remembers=True)
        own_keys = (jax.random.fold_in(keys[0], 1), jax.random.fold_in(keys[1], 1))
        self.critic, features = None, self.sight.size
        known = None if options.shared else features
        if options.separate_critic:
            whole = Seen(seen.numbers + private.numbers, {**seen.parts, **private.parts})
            self.critic = Perception(own_keys, whole, options, first=0, remembers=True)
            known = self.critic.size
        elif private != Seen():
            self.critic = Perception(own_keys, private, options, first=seen.numbers, remembers=False)
            known = features + self.critic.size
        self.actor_critic = ActorCritic(key, features, kind, options, known)

    @property
    def head(self) -> Head:
        return self.actor_critic.head

    @property
    def options(self) -> NetworkOptions:
        return self.actor_critic.options

    @property
    def acting(self) -> tuple[Any, ...]:
        """What an action depends on."""
        return self.sight, *self.actor_critic.acting

    def begin(self, count: int) -> Any:
        carry = self.sight.begin(count)
        if self.critic is None or self.critic.memory is None:
            return carry
        return Memories(carry, self.critic.begin(count))

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]:
        """The distribution over actions after `obs` and its value; see `Policy`."""
        apart = isinstance(carry, Memories)
        remembered, critics = carry if apart else (carry, ())
        seen, remembered = self.sight(obs, start, remembered)
        known = seen
        if self.critic is not None:
            known, critics = self.critic(obs, start, critics)
            if not self.options.separate_critic:
                known = jnp.concatenate([seen, known], axis=-1)
        output = legal_alone(self.actor_critic.output(seen, known), obs)
        return output, Memories(remembered, critics) if apart else remembered


class ActorAlone(eqx.Module):
    """A policy that acts and does not learn: without the critic's own memory, so its values mean nothing."""

    policy: EncodedActorCritic

    @property
    def in_parts(self) -> bool:
        return self.policy.in_parts

    @property
    def head(self) -> Head:
        return self.policy.head

    def begin(self, count: int) -> Any:
        return self.policy.sight.begin(count)

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]:
        count = vector_of(obs).shape[-2]
        whole: Any = self.policy.begin(count)
        output, after = self.policy(obs, start, whole._replace(actor=carry))
        return output, after.actor


def acting_alone(policy: Any) -> Any:
    """The policy as it acts where nothing is learned: without the critic's own memory."""
    if not isinstance(policy, EncodedActorCritic) or policy.critic is None or policy.critic.memory is None:
        return policy
    return ActorAlone(policy)
