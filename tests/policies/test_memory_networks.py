"""Networks that remember: by hand, step by step against whole sequences, and across starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.policies.attention import GatedTransformer
from proximo.policies.memory import GRU, LSTM

KEY = jax.random.key(0)
LENGTH, COUNT, FEATURES, SIZE = 11, 3, 4, 8


def networks():
    return {
        "lstm": LSTM(KEY, FEATURES, SIZE, "orthogonal"),
        "gru": GRU(KEY, FEATURES, SIZE, "orthogonal"),
        "transformer": stirred(
            GatedTransformer(KEY, FEATURES, SIZE, layers=2, heads=2, window=4, initialiser="orthogonal")
        ),
    }


def stirred(network):
    """With every parameter moved: what begins at zero (biases of distance) takes part too."""
    leaves, structure = jax.tree.flatten(network)
    keys = jax.random.split(KEY, len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, moved)


@eqx.filter_jit
def run(network, inputs, start, carry):
    return network(inputs, start, carry)


every_network = pytest.mark.parametrize("name", networks())


def rows(seed=0):
    random = np.random.default_rng(seed)
    start = random.random((LENGTH, COUNT)) < 0.25
    return jnp.asarray(random.normal(size=(LENGTH, COUNT, FEATURES)), jnp.float32), jnp.asarray(start)


def step_by_step(network, inputs, start, carry):
    outputs = []
    for row, begins in zip(inputs, start, strict=True):
        output, carry = run(network, row, begins, carry)
        outputs.append(output)
    return jnp.stack(outputs), carry


@every_network
def test_step_by_step_is_the_whole_sequence(name):
    network, (inputs, start) = networks()[name], rows()
    _, carry = run(network, *rows(1), network.begin(COUNT))  # a memory with something in it
    whole, after = run(network, inputs, start, carry)
    single, single_after = step_by_step(network, inputs, start, carry)
    np.testing.assert_allclose(whole, single, atol=2e-6)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(single_after), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@every_network
def test_any_stretches_are_the_whole_sequence(name):
    network, (inputs, start) = networks()[name], rows()
    carry = network.begin(COUNT)
    whole, _ = run(network, inputs, start, carry)
    first, carry = run(network, inputs[:5], start[:5], carry)
    second, _ = run(network, inputs[5:], start[5:], carry)
    np.testing.assert_allclose(whole, jnp.concatenate([first, second]), atol=2e-6)


@every_network
def test_nothing_before_a_start_is_remembered(name):
    network, (inputs, start) = networks()[name], rows()
    start = start.at[6].set(True)
    garbage = inputs.at[:6].set(1e3)
    clean, after = run(network, inputs, start, network.begin(COUNT))
    other, other_after = run(network, garbage, start, network.begin(COUNT))
    np.testing.assert_array_equal(clean[6:], other[6:])
    if name != "transformer":  # whose window keeps rows that it no longer attends to
        np.testing.assert_array_equal(after, other_after)
    following, _ = run(network, *rows(2), after)
    other_following, _ = run(network, *rows(2), other_after)
    np.testing.assert_array_equal(following, other_following)


@every_network
def test_something_before_is_remembered_where_nothing_starts(name):
    network, (inputs, _) = networks()[name], rows()
    never = jnp.zeros((LENGTH, COUNT), bool)
    clean, _ = run(network, inputs, never, network.begin(COUNT))
    other, _ = run(network, inputs.at[7].add(1.0), never, network.begin(COUNT))
    np.testing.assert_array_equal(clean[:7], other[:7])
    assert np.all(np.any(clean[8:] != other[8:], axis=-1)[:3])
    without, _ = run(network, inputs, None, network.begin(COUNT))
    np.testing.assert_array_equal(clean, without)


@every_network
def test_environments_do_not_see_each_other(name):
    network, (inputs, start) = networks()[name], rows()
    clean, _ = run(network, inputs, start, network.begin(COUNT))
    other, _ = run(network, inputs.at[:, 1].set(5.0), start, network.begin(COUNT))
    np.testing.assert_array_equal(clean[:, [0, 2]], other[:, [0, 2]])


def test_a_row_further_back_than_the_window_is_forgotten():
    # Two layers see twice as far: what a layer read 4 rows ago had read 4 rows before that.
    network, (inputs, _) = networks()["transformer"], rows()
    never = jnp.zeros((LENGTH, COUNT), bool)
    clean, _ = run(network, inputs, never, network.begin(COUNT))
    other, _ = run(network, inputs.at[0].add(1.0), never, network.begin(COUNT))
    changed = np.any(clean != other, axis=(1, 2))
    assert changed.tolist() == [True] * 9 + [False] * 2


def test_no_gradient_goes_into_what_is_remembered():
    network, (inputs, start) = networks()["transformer"], rows()
    never = jnp.zeros_like(start)

    def loss(before):
        _, carry = network(before, never, network.begin(COUNT))
        return jnp.sum(network(inputs, never, carry)[0] ** 2)

    np.testing.assert_array_equal(jax.grad(loss)(inputs), 0.0)


def test_an_lstm_by_hand():
    # One number, all weights 1, no bias, x = 1, h = 0, c = 0.5:
    # c' = s(1) 0.5 + s(1) tanh(1) = 0.7311 (0.5 + 0.7616) = 0.9223;  h' = s(1) tanh(0.9223) = 0.5315
    ones = jax.tree.map(jnp.ones_like, LSTM(KEY, 1, 1, "lecun"))
    network = eqx.tree_at(lambda lstm: lstm.bias, ones, jnp.zeros(4))
    output, carry = network(jnp.ones((1, 1)), None, jnp.array([[0.0, 0.5]]))
    np.testing.assert_allclose(output, [[0.5315]], atol=1e-4)
    np.testing.assert_allclose(carry, [[0.5315, 0.9223]], atol=1e-4)


def test_a_gru_by_hand():
    # All weights 1, no bias, x = 1, h = 0.5: r = z = s(1.5) = 0.8176, n = tanh(1 + 0.8176 * 0.5) = 0.8873
    # h' = 0.1824 * 0.8873 + 0.8176 * 0.5 = 0.5706
    ones = jax.tree.map(jnp.ones_like, GRU(KEY, 1, 1, "lecun"))
    network = eqx.tree_at(lambda gru: (gru.bias, gru.hidden_bias), ones, (jnp.zeros(3), jnp.zeros(1)))
    output, _ = run(network, jnp.ones((1, 1)), None, jnp.array([[0.5]]))
    np.testing.assert_allclose(output, [[0.5706]], atol=1e-4)


def test_a_transformer_begins_nearly_as_the_identity():
    # A gate lets s(-2) = 0.12 through of what a layer says.
    network = GatedTransformer(KEY, FEATURES, SIZE, layers=1, heads=2, window=4, initialiser="orthogonal")
    inputs, start = rows()
    output, _ = run(network, inputs, start, network.begin(COUNT))
    entered = network.enter(inputs)
    assert np.linalg.norm(output - entered) < 0.5 * np.linalg.norm(entered)
