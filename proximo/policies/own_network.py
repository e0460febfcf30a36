"""The policy that options ask for: Proximo's own networks, or a network of the user's own with our heads.

class MyNetwork(eqx.Module):
    actor: eqx.nn.MLP
    critic: eqx.nn.MLP

    def __init__(self, key, sizes):
        keys = jax.random.split(key)
        self.actor = eqx.nn.MLP(sizes.features, sizes.outputs, 64, 2, key=keys[0])
        self.critic = eqx.nn.MLP(sizes.features, 1, 64, 2, key=keys[1])

    def __call__(self, obs):
        return self.actor(obs), self.critic(obs)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from proximo.core.types import VECTOR, ActionKind, Choices, PartKind, Picture, Seen, Tokens, Words, vector_of
from proximo.errors import UserError, reason
from proximo.own import name_of, said_shape
from proximo.policies.actor_critic import ActorCritic, Output, legal_alone, without_legal
from proximo.policies.distributions import Head, make_head
from proximo.policies.encoded import EncodedActorCritic
from proximo.policies.options import NetworkOptions

NOTHING = Seen()
STREAMS = 1  # of reward, each with a value of its own


class Sizes(NamedTuple):
    """What a network of the user's own is made for.

    features    numbers of an observation
    outputs     numbers that the distribution over actions takes: a mean for each, or a logit for each choice

    Of a network that says `in_parts = True`, name -> what stands beside the numbers:
    images      shape of each image
    categories  how many values each has, of many; they come as int32, counted from 0
    texts       length of each, and how many symbols it may have; it comes as int32, and 0 is behind its end.
                2**20 symbols are hashes of words (`envs.parts.kind_of`)
    dtypes      of each image: "uint8" from 0 to 255, "bool", or "float32" from 0 to 1
    """

    features: int
    outputs: int
    images: Mapping[str, tuple[int, ...]]
    categories: Mapping[str, tuple[int, ...]] = {}
    texts: Mapping[str, tuple[int, int]] = {}
    dtypes: Mapping[str, str] = {}

    @property
    def parts(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The form of each part of one observation that stands beside the numbers."""
        forms = [(name, shape, self.dtypes[name]) for name, shape in self.images.items()]
        forms += [(name, (len(values),), "int32") for name, values in self.categories.items()]
        forms += [(name, (length,), "int32") for name, (length, _) in self.texts.items()]
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in forms}


def sizes_of(features: int, outputs: int, parts: Mapping[str, PartKind]) -> Sizes:
    """What a network is made for whose observations have these parts beside their numbers."""
    images = {name: part for name, part in parts.items() if isinstance(part, Picture)}
    return Sizes(
        features,
        outputs,
        {name: part.shape for name, part in images.items()},
        {name: part.sizes for name, part in parts.items() if isinstance(part, Choices)},
        {
            name: (part.length, part.vocabulary)
            for name, part in parts.items()
            if isinstance(part, Tokens | Words)
        },
        {name: part.dtype for name, part in images.items()},
    )


class OwnPolicy(eqx.Module):
    """A network of the user's own as a policy.

    The network is given ONE observation, [features], and returns (outputs [outputs], value [1] or []);
    batches are mapped here. Where it says `in_parts = True`, an observation with images, large categories or
    texts is a dictionary: "vector" [features], and each of these by its name (`Sizes`). It never sees which
    actions are legal: its outputs are masked here.

    Where it has a method `begin() -> memory`, a tree of arrays, it is called with (observation, memory) and
    returns (outputs, value, memory). Before the first observation of an episode memory is as it begins.

    parameters  its arrays of real numbers, which learn
    rest        all else in it, compiled in
    """

    parameters: Any
    head: Head
    rest: Any = eqx.field(static=True)
    options: NetworkOptions = eqx.field(static=True)
    in_parts: bool = eqx.field(static=True)

    @property
    def network(self) -> Any:
        return eqx.combine(self.parameters, self.rest)

    def begin(self, count: int) -> Any:
        """The memory of `count` environments before their first observation; () without memory."""
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), begun(self.network))

    def __call__(
        self, obs: Any, start: Bool[Array, "*batch"] | None = None, carry: Any = ()
    ) -> tuple[Output, Any]:
        """The distribution over actions after `obs`, [..., features], and its value."""
        network, seen = self.network, without_legal(obs)
        if has_memory(network):
            outputs, value, carry = self._remembering(network, seen, start, carry)
            return legal_alone(Output(self.head(outputs), value), obs), carry

        def both(seen: Any) -> tuple[Array, Array]:
            outputs, value = network(seen)
            return outputs, jnp.reshape(value, STREAMS)

        for _ in range(vector_of(obs).ndim - 1):
            both = jax.vmap(both)
        outputs, value = both(seen)
        return legal_alone(Output(self.head(outputs), value), obs), carry

    def _remembering(
        self, network: Any, obs: Any, start: Array | None, carry: Any
    ) -> tuple[Array, Array, Any]:
        """What it returns of one row [N, ...], or of rows one after another [L, N, ...]."""
        first = begun(network)

        def one(obs: Any, start: Array, memory: Any) -> tuple[Any, tuple[Array, Array]]:
            memory = jax.tree.map(lambda new, old: jnp.where(start, new, old), first, memory)
            outputs, value, memory = network(obs, memory)
            return memory, (outputs, jnp.reshape(value, STREAMS))

        shape = vector_of(obs).shape[:-1]
        start = jnp.zeros(shape, bool) if start is None else start
        row = jax.vmap(one)
        if len(shape) == 1:
            carry, (outputs, value) = row(obs, start, carry)
        else:
            carry, (outputs, value) = jax.lax.scan(lambda carry, seen: row(*seen, carry), carry, (obs, start))
        return outputs, value, carry


def has_memory(network: Any) -> bool:
    """Whether a network of the user's own remembers."""
    return callable(getattr(network, "begin", None))


def begun(network: Any) -> Any:
    """The memory of one environment as it begins; () without memory."""
    return jax.tree.map(_plain, network.begin()) if has_memory(network) else ()


def _plain(x: Any) -> Array:
    """An array whose type no other changes: a Python number's would."""
    return jnp.asarray(x, jnp.result_type(x))


def takes_parts(options: NetworkOptions) -> bool:
    """Whether the policy takes images, texts and categories as they are, beside the vector of its numbers."""
    own = options.own_network
    return not options.flatten if own is None else bool(getattr(own.function, "in_parts", False))


def new_policy(
    key: Array,
    features: int,
    kind: ActionKind,
    options: NetworkOptions,
    parts: Mapping[str, PartKind] | None = None,
    private: Seen = NOTHING,
) -> Any:
    """A `Policy` before it has learned anything.

    features  numbers of an observation that actor and critic see
    parts     name -> what each part is that stands beside them
    private   what the critic alone sees

    Raises UserError for a network of the user's own that fails, or that does not return what it should.
    """
    if options.own_network is None:
        if parts or private.parts or options.memory is not None:
            return EncodedActorCritic(key, Seen(features, parts or {}), kind, options, private)
        known = None if options.shared else features + private.numbers
        return ActorCritic(key, features, kind, options, known)
    head = make_head(kind, options.initial_log_std, options.final_log_std, options.distribution)
    sizes = sizes_of(features, head.inputs, parts or {})
    called = name_of(options.own_network)
    parameters, rest = _made(key, sizes, options)
    _, again = eqx.filter_eval_shape(lambda key: _made(key, sizes, options), key)
    if not eqx.tree_equal(rest, again):
        raise UserError(
            f"the network {called} is another one each time it is made: give the functions in it names of a "
            "module, instead of a lambda or a local function"
        )
    policy = OwnPolicy(parameters, head, rest, options, takes_parts(options))
    _check(policy, sizes, called)
    return policy


def _made(key: Array, sizes: Sizes, options: NetworkOptions) -> tuple[Any, Any]:
    """The network's parameters, and all else in it."""
    assert options.own_network is not None
    called = name_of(options.own_network)
    try:
        network = options.own_network(key, sizes)
    except Exception as error:
        raise UserError(
            f"the network {called} could not be made with (key, sizes), {sizes}: {reason(error)} "
            "(--debug shows its traceback)"
        ) from error
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    if not callable(network) or not jax.tree.leaves(parameters):
        raise UserError(
            f"the network {called} makes a {type(network).__name__} without arrays to learn: return an "
            "equinox.Module that is called with an observation"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(rest):
        try:
            hash(leaf)
        except TypeError:
            raise UserError(
                f"the network {called} holds {type(leaf).__name__}{jax.tree_util.keystr(path)}, which is "
                "neither learned nor constant: make it an array of float32, or compute it where it is used"
            ) from None
    return parameters, rest


def _check(policy: OwnPolicy, sizes: Sizes, called: str) -> None:
    """Raises UserError unless the network returns what it should, of one observation; nothing is computed."""
    number = jnp.result_type(float)
    obs: Any = jax.ShapeDtypeStruct((sizes.features,), number)
    if sizes.parts:
        obs = {VECTOR: obs, **sizes.parts}
        given = ", ".join(f"{name} {said_shape(part)}" for name, part in obs.items())
    else:
        given = said_shape(obs)
    network = policy.network
    memory, remembers = _checked_memory(network, called), has_memory(network)
    seen = (obs, memory) if remembers else (obs,)
    try:
        found = eqx.filter_eval_shape(network, *seen)
    except Exception as error:
        raise UserError(
            f"the network {called} failed with an observation, {given}"
            f"{' and its memory' if remembers else ''}: {reason(error)} (--debug shows its traceback)"
        ) from error
    if not isinstance(found, tuple | list) or len(found) != len(seen) + 1:
        raise UserError(
            f"the network {called} returned {said_shape(found)} for one observation, {given}: it must return "
            f"(outputs, value{', memory' if remembers else ''})"
        )
    if remembers and _forms(found[2]) != _forms(memory):
        raise UserError(
            f"the network {called} returned a memory of {_forms(found[2])}, and begin() gives "
            f"{_forms(memory)}: both must be the same"
        )
    wanted: dict[str, list[tuple[int, ...]]] = {"outputs": [(sizes.outputs,)], "value": [(STREAMS,), ()]}
    for (name, shapes), one in zip(wanted.items(), found[:2], strict=True):
        if getattr(one, "shape", None) not in shapes or one.dtype != number:
            raise UserError(
                f"the network {called} returned {name} of {said_shape(one)} for one observation, {given}: it "
                f"must return {number}{list(shapes[0])}"
            )


def _checked_memory(network: Any, called: str) -> Any:
    """The shapes of one environment's memory; () without. Raises UserError for what is no memory."""
    if not has_memory(network):
        return ()
    try:
        memory = eqx.filter_eval_shape(lambda: begun(network))
    except Exception as error:
        raise UserError(
            f"begin() of the network {called} failed: {reason(error)} (--debug shows its traceback)"
        ) from error
    if not jax.tree.leaves(memory):
        raise UserError(f"begin() of the network {called} returned no array: leave it out, or return memory")
    return memory


def _forms(tree: Any) -> str:
    """Such as `float32[64]`, of every array of a tree."""
    return ", ".join(map(said_shape, jax.tree.leaves(tree)))
