"""Actor and critic as one module: `policy(obs, start, carry) -> Output(distribution, value), carry`."""

from typing import Any, ClassVar, NamedTuple, Protocol

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from proximo.core.types import LEGAL, ActionKind, vector_of
from proximo.policies.distributions import Distribution, Head, make_head
from proximo.policies.mlp import NETWORKS, Dense, Network
from proximo.policies.options import NetworkOptions

HIDDEN_GAIN = 2**0.5
VALUE_GAIN = 1.0


class Output(NamedTuple):
    """What a policy computes of observations, [...] of them.

    distribution  over actions
    value         [..., R], the expected discounted return of each reward stream, in units of the (scaled)
                  rewards
    """

    distribution: Distribution
    value: Float[Array, "... R"]


def legal_alone(output: Output, obs: Any) -> Output:
    """The same, with no probability for actions that are not legal, where the observation tells which are."""
    if not isinstance(obs, dict) or LEGAL not in obs:
        return output
    return output._replace(distribution=output.distribution.masked(obs[LEGAL]))


def without_legal(obs: Any) -> Any:
    """What a network sees of an observation: one array, or its parts, without the flags of legal actions."""
    if not isinstance(obs, dict) or LEGAL not in obs:
        return obs
    seen = {name: part for name, part in obs.items() if name != LEGAL}
    return seen if len(seen) > 1 else vector_of(obs)


class Policy(Protocol):
    """What acts and learns: actor and critic in ONE call, so that what they share is computed once.

    in_parts  whether it takes images, texts and categories as they are, beside the vector of its numbers
    head      noise for its actions: `head.noise(key, shape)`
    begin     the memory of `count` environments before their first observation, a tree of [count, ...]; ()
              without memory
    call      (obs, start, carry) -> what it computes of them, and its memory after them

    The call takes one row, obs [N, ...] and start [N], or a sequence of rows, time first, obs [L, N, ...] and
    start [L, N]; carry is [N, ...], the memory before the first row. Where `start` is true, memory is
    forgotten BEFORE the observation is read. Without memory any axes are good, and neither is needed.
    """

    @property
    def in_parts(self) -> bool: ...
    @property
    def head(self) -> Head: ...
    def begin(self, count: int) -> Any: ...
    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]: ...


class ActorCritic(eqx.Module):
    """Actor and critic over a common trunk; separate networks have an empty trunk, the identity.

    Observations are [..., features], any batch shape, perhaps with flags of legal actions beside them. It has
    no memory.

    features  numbers of an observation that the actor sees: the first ones. The critic sees them all, as in
              asymmetric actor-critic (Pinto 2018), or what the trunk makes of these
    """

    trunk: Network
    actor: Network
    actor_output: Dense
    head: Head
    critic: Network
    critic_output: Dense
    options: NetworkOptions = eqx.field(static=True)
    features: int = eqx.field(static=True)
    in_parts: ClassVar[bool] = False

    def __init__(
        self,
        key: Array,
        features: int,
        kind: ActionKind,
        options: NetworkOptions,
        critic_features: int | None = None,
    ) -> None:
        trunk_key, actor_key, actor_output_key, critic_key, critic_output_key = jax.random.split(key, 5)
        trunk_widths, own_widths = (options.hidden, ()) if options.shared else ((), options.hidden)
        critic_widths = own_widths if options.critic_hidden is None else options.critic_hidden
        width = (options.hidden or (features,))[-1]

        def network(network_key: Array, inputs: int, widths: tuple[int, ...]) -> Network:
            return NETWORKS[options.layers](
                network_key,
                inputs,
                widths,
                gain=HIDDEN_GAIN,
                activation=options.activation,
                initialiser=options.initialiser,
            )

        self.options, self.features = options, features
        self.head = make_head(
            kind, options.initial_log_std, options.final_log_std, options.distribution, width
        )
        self.trunk = network(trunk_key, features, trunk_widths)
        between = width if options.shared else features
        self.actor = network(actor_key, between, own_widths)
        if critic_features is not None:
            between = critic_features
        self.critic = network(critic_key, between, critic_widths)
        self.actor_output = Dense(
            actor_output_key, width, self.head.inputs, options.policy_gain, options.initialiser
        )
        critic_width = (critic_widths or (between,))[-1]
        self.critic_output = Dense(critic_output_key, critic_width, 1, VALUE_GAIN, options.initialiser)

    @property
    def acting(self) -> tuple[Any, ...]:
        """What an action depends on."""
        return self.trunk, self.actor, self.actor_output, self.head

    def begin(self, count: int) -> Any:
        """No memory."""
        return ()

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]:
        """The distribution over actions after `obs` and its value; of one reward stream."""
        vector = vector_of(obs)
        return legal_alone(self.output(vector[..., : self.features], vector), obs), carry

    def output(self, seen: Float[Array, "*batch F"], known: Float[Array, "*batch G"]) -> Output:
        """What it computes of what the actor sees, and of what the critic knows."""
        seen = self.trunk(seen)
        acting = self.actor(seen)
        value = self.critic_output(self.critic(seen if self.options.shared else known))
        return Output(self.head(self.actor_output(acting), acting), value)
