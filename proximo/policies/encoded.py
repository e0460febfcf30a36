"""An actor-critic that sees parts of an observation, or remembers, or both."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from proximo.core.types import ActionKind, Seen
from proximo.policies.actor_critic import ActorCritic, Output, legal_alone
from proximo.policies.attention import GatedTransformer
from proximo.policies.distributions import Head
from proximo.policies.encoders import Encoders
from proximo.policies.memory import GRU, LSTM
from proximo.policies.options import NetworkOptions

Memory = LSTM | GRU | GatedTransformer
OLDER_NETWORKS: dict[str, Any] = {"flatten": True}  # of files that do not say how images are read


class EncodedActorCritic(eqx.Module):
    """Encoders for the parts, then a memory, then an `ActorCritic` on what both made.

    Actor and critic share encoders and memory, so these are computed once a step. The actor-critic reads what
    was encoded beside what is remembered: what needs no memory need not go through it.

    encoders  of what actor and critic see
    memory    None for none
    private   of what the critic alone sees; None where that is nothing
    """

    encoders: Encoders
    memory: Memory | None
    private: Encoders | None
    actor_critic: ActorCritic
    in_parts: ClassVar[bool] = True

    def __init__(
        self, key: Array, seen: Seen, kind: ActionKind, options: NetworkOptions, private: Seen
    ) -> None:
        encoder_key, memory_key, key = jax.random.split(key, 3)
        self.encoders = Encoders(encoder_key, seen, options)
        self.memory = self.private = None
        features = self.encoders.size
        if options.memory is not None:
            self.memory = options.memory.made(memory_key, features, options.initialiser)
            features += self.memory.size
        if private != Seen():
            private_key = jax.random.fold_in(encoder_key, 1)
            self.private = Encoders(private_key, private, options, first=seen.numbers)
        known = 0 if self.private is None else self.private.size
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
        return self.encoders, self.memory, *self.actor_critic.acting

    def begin(self, count: int) -> Any:
        return () if self.memory is None else self.memory.begin(count)

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]:
        """The distribution over actions after `obs` and its value; see `Policy`."""
        seen = self.encoders(obs)
        if self.memory is not None:
            remembered, carry = self.memory(seen, start, carry)
            seen = jnp.concatenate([seen, remembered], axis=-1)
        if self.private is not None:
            seen = jnp.concatenate([seen, self.private(obs)], axis=-1)
        output, _ = self.actor_critic(seen)
        return legal_alone(output, obs), carry
