"""How the networks start, and what actor and critic share."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core.types import Binary, Categories, Continuous
from proximo.errors import UserError
from proximo.learn.actor_vector import actor_vector, with_actor
from proximo.policies import MLP, ActorCritic, Dense, NetworkOptions
from proximo.policies.mlp import NETWORKS, LayerNorm

OBS = jax.random.normal(jax.random.key(1), (6, 3, 4))  # [T, N, features]
KINDS = [Categories((3,), scalar=True), Categories((2, 3)), Continuous(2), Binary(3)]


def build(kind=KINDS[2], **options):
    return ActorCritic(jax.random.key(0), 4, kind, NetworkOptions(**{"hidden": (8, 6), **options}))


def changed(policy, what):
    """The parts of the policy that the gradient of `what(policy)` touches."""
    slopes = jax.jit(jax.grad(what))(policy)
    parts = ("trunk", "actor", "actor_output", "head", "critic", "critic_output")
    return {p for p in parts if any(np.any(x != 0) for x in jax.tree.leaves(getattr(slopes, p)))}


@pytest.mark.parametrize("shape", [(8, 6), (6, 8), (5, 5)])
def test_orthogonal_weights_are_a_rotation_times_the_gain(shape):
    weight = Dense(jax.random.key(3), *shape, gain=3.0, initialiser="orthogonal").weight
    # The smaller side is orthonormal: W^T W = gain^2 I, here 9 I.
    square = weight.T @ weight if shape[0] >= shape[1] else weight @ weight.T
    np.testing.assert_allclose(square, 9.0 * np.eye(min(shape)), atol=1e-4)


def test_lecun_weights_have_variance_one_over_inputs():
    weight = Dense(jax.random.key(3), 400, 200, gain=2.0, initialiser="lecun").weight
    # 2 / sqrt(400) = 0.1
    np.testing.assert_allclose(np.std(weight), 0.1, rtol=0.02)


def test_the_gains_of_the_three_kinds_of_layer():
    policy = build(policy_gain=0.01)

    def gain(dense):  # every singular value of an orthogonal layer is its gain
        values = np.linalg.svd(dense.weight, compute_uv=False)
        np.testing.assert_allclose(values, values[0], rtol=1e-4)
        assert not np.any(dense.bias)
        return values[0]

    hidden = [gain(layer) for network in (policy.actor, policy.critic) for layer in network.layers]
    np.testing.assert_allclose(hidden, 2**0.5, rtol=1e-4)
    np.testing.assert_allclose(gain(policy.critic_output), 1.0, rtol=1e-4)
    np.testing.assert_allclose(gain(policy.actor_output), 0.01, rtol=1e-4)


def test_a_small_gain_makes_the_first_policy_the_same_everywhere():
    def far(policy):
        return policy(100.0 * OBS)[0].distribution

    assert np.abs(far(build(policy_gain=0.01)).mode()).max() < 0.03  # tanh units: |mean| <= 0.01 sqrt(6)
    assert np.abs(far(build(policy_gain=1.0)).mode()).max() > 0.3
    logits = far(build(KINDS[0], policy_gain=0.01)).logits
    np.testing.assert_allclose(jax.nn.softmax(logits), 1 / 3, atol=0.02)


def test_an_mlp_by_hand():
    network = MLP(jax.random.key(0), 2, (1,), gain=1.0, activation="relu", initialiser="lecun")
    first = network.layers[0]
    x = jnp.array([[1.0, 2.0], [-1.0, -2.0]])
    np.testing.assert_allclose(network(x), np.maximum(x @ first.weight + first.bias, 0.0), rtol=1e-6)
    assert len(network.layers) == 1
    nothing = MLP(jax.random.key(0), 2, (), gain=1.0, activation="relu", initialiser="lecun")
    np.testing.assert_array_equal(nothing(x), x)  # with no widths it is the identity


def of_kind(kind, inputs, widths, activation="relu"):
    options = {"gain": 2**0.5, "activation": activation, "initialiser": "orthogonal"}
    return NETWORKS[kind](jax.random.key(0), inputs, widths, **options)


def test_layer_normalisation_by_hand():
    # Mean 2, variance 1: (1 - 2) / sqrt(1 + 1e-5) = -1
    np.testing.assert_allclose(LayerNorm(2)(jnp.array([1.0, 3.0])), [-1.0, 1.0], rtol=1e-4)
    norm = eqx.tree_at(lambda norm: (norm.scale, norm.shift), LayerNorm(2), (jnp.full(2, 3.0), jnp.ones(2)))
    np.testing.assert_allclose(norm(jnp.array([10.0, 30.0])), [-2.0, 4.0], rtol=1e-4)


def test_a_layer_with_a_norm_by_hand():
    network = of_kind("layer-norm", 4, (5,))
    said = np.asarray(network.mlp.layers[0](OBS))
    normed = (said - said.mean(-1, keepdims=True)) / said.std(-1, keepdims=True)
    np.testing.assert_allclose(network(OBS), np.maximum(normed, 0.0), atol=1e-3)
    assert np.abs(network(1e3 * OBS)).max() < 3  # however large the observations: sqrt(5) at most


def test_simba_is_a_straight_way_past_blocks_that_say_nothing():
    network = of_kind("simba", 4, (6, 6))
    assert [block.wide.weight.shape for block in network.blocks] == [(6, 24), (6, 24)]
    silent = eqx.tree_at(lambda n: [b.narrow.weight for b in n.blocks], network, [jnp.zeros((24, 6))] * 2)
    np.testing.assert_allclose(silent(OBS), LayerNorm(6)(network.enter[0](OBS)), atol=1e-5)
    block, x = network.blocks[0], network.enter[0](OBS)
    by_hand = x + jax.nn.relu(LayerNorm(6)(x) @ block.wide.weight) @ block.narrow.weight
    np.testing.assert_allclose(block(x, "relu"), by_hand, atol=1e-5)
    assert np.abs(network(OBS) - silent(OBS)).max() > 0.1
    with pytest.raises(UserError, match="must be equal, not 6 5: take 6 6"):
        of_kind("simba", 4, (6, 5))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shared", [False, True])
def test_every_kind_of_layers_serves_trunk_actor_and_critic(kind, shared):
    policy = build(layers=kind, shared=shared, hidden=(6, 6))
    parts = (policy.trunk,) if shared else (policy.actor, policy.critic)
    assert {type(part) for part in parts} == {NETWORKS[kind]}
    assert all(jax.tree.leaves(part) for part in parts)
    assert policy(OBS)[0].value.shape == (6, 3, 1)
    np.testing.assert_array_equal(of_kind(kind, 4, ())(OBS), OBS)  # without layers the identity
    up = partial(jax.tree.map, lambda x: x + 1.0)
    moved = with_actor(policy, actor_vector(policy) + 1.0)  # of populations and second-order steps
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), moved.acting, up(policy.acting))
    assert all(map(np.array_equal, *map(jax.tree.leaves, (moved.critic, policy.critic))))


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "gelu", "silu"])
def test_every_activation_is_its_namesake(activation):
    network = MLP(jax.random.key(0), 4, (3,), gain=1.0, activation=activation, initialiser="orthogonal")
    by_name = {"tanh": jnp.tanh} | {name: getattr(jax.nn, name) for name in ("relu", "elu", "gelu", "silu")}
    first = network.layers[0]
    np.testing.assert_allclose(network(OBS), by_name[activation](OBS @ first.weight), rtol=1e-6)


def test_separate_networks_share_nothing():
    policy = build(shared=False)
    assert changed(policy, lambda p: jnp.sum(p(OBS)[0].value ** 2)) == {"critic", "critic_output"}
    assert changed(policy, lambda p: jnp.sum(p(OBS)[0].distribution.log_prob(jnp.ones((6, 3, 2))))) == {
        "actor",
        "actor_output",
        "head",
    }
    # Nor do they start alike: an actor that is a copy of the critic would explore less.
    assert not np.allclose(policy.actor.layers[0].weight, policy.critic.layers[0].weight)


def test_a_shared_trunk_learns_from_both():
    policy = build(shared=True)
    assert changed(policy, lambda p: jnp.sum(p(OBS)[0].value ** 2)) == {"trunk", "critic_output"}
    assert changed(policy, lambda p: jnp.sum(p(OBS)[0].distribution.log_prob(jnp.ones((6, 3, 2))))) == {
        "trunk",
        "actor_output",
        "head",
    }
    # One set of weights for both: 4*8+8 + 8*6+6 trunk, 6*2+2 mean, 2 log std, 6+1 value = 117
    assert sum(x.size for x in jax.tree.leaves(policy)) == 117


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        # actor 4*8+8 + 8*6+6 + 6*2+2 mean + 2 log std = 110; critic 4*5+5 + 5*3+3 + 3+1 = 47
        ({}, 157),
        # trunk 94, mean 14, log std 2; critic on its 6 numbers 6*5+5 + 5*3+3 + 3+1 = 57
        ({"shared": True}, 167),
    ],
)
def test_a_critic_may_have_other_widths(options, weights):
    policy = build(critic_hidden=(5, 3), **options)
    assert policy(OBS)[0].value.shape == (*OBS.shape[:-1], 1)  # one stream of rewards
    assert sum(x.size for x in jax.tree.leaves(policy)) == weights


def test_a_critic_may_be_linear():
    policy = build(critic_hidden=())
    np.testing.assert_allclose(policy(OBS)[0].value, OBS @ policy.critic_output.weight, atol=1e-6)


def arithmetic(function, *arguments):
    """Floating-point operations of a function as it is compiled."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_an_action_costs_no_critic(kind, shared):
    # The critic is compiled away: one of 512 units asks for no more arithmetic than one of none.
    costs = []
    for widths in ((), (512, 512)):
        policy = build(kind, shared=shared, critic_hidden=widths)
        noise = policy.head.noise(jax.random.key(2), OBS.shape[:2])
        act = lambda policy, obs, noise: policy(obs)[0].distribution.sample(noise)  # noqa: E731
        costs.append(arithmetic(act, policy, OBS, noise))
    assert costs[0] == costs[1] > 0
    assert policy.begin(3) == policy(OBS)[1] == ()  # feed-forward: nothing to remember


def test_a_shared_trunk_is_computed_once():
    # Of one hidden layer, 4 -> 64: both outputs together cost what one does, and a few numbers of the other.
    policy = build(hidden=(64,), shared=True)
    both = arithmetic(lambda policy, obs: policy(obs)[0], policy, OBS)
    value = arithmetic(lambda policy, obs: policy(obs)[0].value, policy, OBS)
    trunk = arithmetic(lambda policy, obs: policy.trunk(obs), policy, OBS)
    assert both < value + 0.7 * trunk


def test_no_hidden_layer_is_a_linear_policy():
    for shared in (False, True):
        policy = build(hidden=(), shared=shared)
        np.testing.assert_allclose(
            policy(OBS)[0].distribution.mode(), OBS @ policy.actor_output.weight, atol=1e-6
        )
        assert policy(OBS)[0].value.shape == (6, 3, 1)


def test_an_action_of_an_unknown_kind_is_refused():
    with pytest.raises(TypeError, match="no distribution for actions of kind str"):
        build("words")
