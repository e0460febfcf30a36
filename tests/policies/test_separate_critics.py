"""A critic with encoders and a memory of its own: nothing is shared, and no action needs it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core.types import Continuous, Picture, Seen
from proximo.learn.actor_vector import actor_vector, with_actor
from proximo.policies import NetworkOptions, acting_alone, new_policy
from proximo.policies.convolution import Small
from proximo.policies.memory import Gru, Lstm

PARTS, PRIVATE = {"camera": Picture((6, 6, 3))}, Seen(1, {"map": Picture((5, 5))})
START = np.array([[True, True], [False, False], [False, True]])  # [L, N]


def made(network=Lstm(3), separate=True, private=PRIVATE):  # noqa: B008
    options = NetworkOptions(
        hidden=(4,), network=network, separate_critic=separate, image_network=Small((2,), 3), policy_gain=1.0
    )
    return new_policy(jax.random.key(0), 2, Continuous(1), options, PARTS, private)


def rows():
    random = np.random.default_rng(0)
    pictures = {"camera": (6, 6, 3), "map": (5, 5)}
    return {
        "vector": random.normal(size=(3, 2, 3)).astype(np.float32),
        **{name: random.integers(0, 256, (3, 2, *shape), np.uint8) for name, shape in pictures.items()},
    }


def moved(policy, what):
    """Which of the policy's parts the gradient of something it says touches."""
    slopes = eqx.filter_jit(jax.grad(lambda policy: jnp.sum(what(policy(rows(), START, policy.begin(2))[0]))))
    parts = {"sight": slopes(policy).sight, "critic": slopes(policy).critic}
    return {name for name, part in parts.items() if any(np.any(x != 0) for x in jax.tree.leaves(part))}


def test_a_separate_critic_shares_nothing_with_the_actor():
    policy = made()
    assert moved(policy, lambda output: output.value) == {"critic"}
    assert moved(policy, lambda output: output.distribution.mean) == {"sight"}
    assert moved(made(separate=False), lambda output: output.value) == {"sight", "critic"}
    # An image of 6 x 6 x 3 read by Small: 3 features; beside the 2 + 1 numbers, the map's 3 and 3 remembered
    assert policy.sight.size == 2 + 3 + 3 and policy.critic.size == 2 + 1 + 3 + 3 + 3


def test_actor_and_critic_each_remember_step_by_step_as_in_one_sequence():
    policy = made()
    whole, after = eqx.filter_jit(policy)(rows(), START, policy.begin(2))
    carry, values, means = policy.begin(2), [], []
    assert carry.actor.shape == carry.critic.shape == (2, 6)
    for t in range(3):
        output, carry = eqx.filter_jit(policy)(jax.tree.map(lambda x, t=t: x[t], rows()), START[t], carry)
        values.append(output.value)
        means.append(output.distribution.mean)
    np.testing.assert_allclose(whole.value, np.stack(values), atol=1e-5)
    np.testing.assert_allclose(whole.distribution.mean, np.stack(means), atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), after, carry)


def test_to_act_the_critics_memory_is_not_there():
    policy = made()
    alone, first = acting_alone(policy), jax.tree.map(lambda x: x[0], rows())
    assert alone.begin(2).shape == (2, 6)
    step = lambda policy, carry: policy(first, START[0], carry)  # noqa: E731
    said, carry = eqx.filter_jit(step)(alone, alone.begin(2))
    output, both = eqx.filter_jit(step)(policy, policy.begin(2))
    np.testing.assert_allclose(said.distribution.mean, output.distribution.mean, atol=1e-6)
    np.testing.assert_allclose(carry, both.actor, atol=1e-6)
    mean = jax.jit(lambda policy, carry: step(policy, carry)[0].distribution.mean)
    costs = [
        mean.lower(one, one.begin(2)).compile().cost_analysis()["flops"]
        for one in (alone, acting_alone(made(separate=False)))
    ]
    assert costs[0] == costs[1]  # as much arithmetic as without a critic of its own
    assert acting_alone(made(network=None)).begin(2) == ()


@pytest.mark.parametrize("network", [Gru(3), None])
def test_an_actor_that_moves_alone_leaves_a_separate_critic_as_it_is(network):
    policy = made(network)
    other = with_actor(policy, actor_vector(policy) + 1.0)
    critics = [
        (one.critic, one.actor_critic.critic, one.actor_critic.critic_output) for one in (policy, other)
    ]
    assert all(map(np.array_equal, *map(jax.tree.leaves, critics)))
    sights = zip(jax.tree.leaves(policy.sight), jax.tree.leaves(other.sight), strict=True)
    assert all(np.all(x != y) for x, y in sights)
