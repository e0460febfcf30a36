"""A network of one's own that remembers: `begin`, and memory that goes in and comes out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import close, small, turns, walk
from test_remembering import First

import proximo
from proximo import evaluate, training
from proximo.control.model import load_model, save_model
from proximo.core.types import Categories
from proximo.errors import UserError
from proximo.learn.batches import memory_advice, stretch_of
from proximo.own import OwnCode
from proximo.policies import NetworkOptions, new_policy
from proximo.policies.attention import Transformer
from proximo.policies.memory import Lstm


class Remembers(eqx.Module):
    """A GRU, and how many observations of the episode it has read; it begins with a memory of 0.5."""

    cell: eqx.nn.GRUCell
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(self, key, sizes, size=8):
        keys = jax.random.split(key, 3)
        self.cell = eqx.nn.GRUCell(sizes.features, size, key=keys[0])
        self.actor = eqx.nn.Linear(size, sizes.outputs, key=keys[1])
        self.critic = eqx.nn.Linear(size, 1, key=keys[2])

    def begin(self):
        return {"hidden": jnp.full(self.cell.hidden_size, 0.5), "age": 0}

    def __call__(self, obs, memory):
        hidden = self.cell(obs, memory["hidden"])
        memory = {"hidden": hidden, "age": memory["age"] + 1}
        return self.actor(hidden), self.critic(hidden) + 0.1 * jnp.sin(memory["age"]), memory


def policy_of(network=Remembers):
    return new_policy(
        jax.random.key(0), 2, Categories((3,), scalar=True), NetworkOptions(network=OwnCode(network))
    )


def test_row_by_row_is_the_whole_sequence_and_nothing_from_before_a_start_is_remembered():
    policy, rows, count = policy_of(), 7, 3
    obs = jax.random.normal(jax.random.key(1), (rows, count, 2))
    start = np.zeros((rows, count), bool)
    start[0], start[3, 1], start[5, 2] = True, True, True
    whole, after = policy(obs, start, policy.begin(count))
    carry, outputs = jax.tree.map(lambda x: x + 77, policy.begin(count)), []  # garbage before the start
    for t in range(rows):
        output, carry = policy(obs[t], start[t], carry)
        outputs.append(output)
    assert close(jax.tree.map(lambda *x: jnp.stack(x), *outputs), whole, 1e-6) and close(carry, after, 1e-6)
    assert carry["age"].tolist() == [7, 4, 2]


def test_it_solves_what_needs_a_memory_and_is_saved_with_its_name(tmp_path):
    config = small(First, steps=8000, gamma=0.9, network=Remembers, hidden=(64, 64))
    agent = list(training(config))[-1].agent
    assert evaluate(agent, First, episodes=16).mean == 1.0
    save_model(agent, tmp_path)
    again = load_model(tmp_path, Remembers).player()
    assert [again.act(np.array([seen])) for seen in (1.0, 0.0, 0.0)][-1] == 1


def test_the_ratio_is_1_before_the_first_step_of_each_update():
    config = small(
        walk("Box"), num_envs=4, horizon=16, minibatch_size=64, epochs=1, network=Remembers, hidden=(64, 64)
    )
    for learner, experience, _, after, metrics in turns(config, 2):
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        assert not close(after.policy, learner.policy)
        assert experience.start[1:].any()
    assert experience.carry["age"].max() > 0


class Grows(Remembers):
    def __call__(self, obs, memory):
        outputs, value, memory = super().__call__(obs, memory)
        return outputs, value, {**memory, "hidden": jnp.concatenate([memory["hidden"], obs])}


class Forgets(Remembers):
    def __call__(self, obs, memory):
        return super().__call__(obs, memory)[:2]


class Fails(Remembers):
    def begin(self):
        raise RuntimeError("no idea")


class Empty(Remembers):
    def begin(self):
        return ()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Grows, r"Grows returned a memory of int32\[\], float32\[10\], and begin\(\) gives"),
        (Forgets, r"it must return \(outputs, value, memory\)"),
        (Fails, r"begin\(\) of the network Fails failed: RuntimeError: no idea"),
        (Empty, r"begin\(\) of the network Empty returned no array"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_in_one_line(network, message):
    with pytest.raises(UserError, match=message) as error:
        policy_of(network)
    assert "\n" not in str(error.value)


def test_an_lstm_solves_what_a_network_without_memory_does_not():
    agent = list(training(small(First, steps=8000, gamma=0.9, network=Lstm(8))))[-1].agent
    assert evaluate(agent, First, episodes=16).mean == 1.0  # without one: test_remembering.py, below 0.6


def test_options_of_our_encoders_are_refused_beside_a_network_of_ones_own():
    config = proximo.with_options(proximo.preset("default", "CartPole-v1"), network=Remembers, flatten=True)
    with pytest.raises(UserError, match=r"flatten is an option of .*, which your network Remembers ignores"):
        next(training(config))


def test_a_method_that_moves_the_actor_alone_is_refused_with_a_memory():
    config = proximo.with_options(proximo.preset("trpo", "CartPole-v1"), network=Lstm())
    with pytest.raises(UserError, match="TrustRegion moves the actor alone, and a memory is read by actor"):
        next(training(config))


def test_what_keeps_a_memory_from_being_learned_is_said_in_one_line_with_the_nearest_sizes_that_do_not():
    assert memory_advice(8, 256, 64) == memory_advice(1, 8, 8) == []
    (short,) = memory_advice(4, 15, 10)
    assert "sequences of 5 steps, the longest that divides horizon (15) and minibatch_size (10)" in short
    assert short.endswith("the nearest with sequences of 16 are horizon 16 and minibatch_size 16")
    (prime,) = memory_advice(8, 101, 100)  # 96 * 8 = 768 = 8 * 96 is nearest of its divisors by 16
    assert prime.endswith("horizon 96 and minibatch_size 96")
    assert stretch_of(96, 96) == 16
    assert [stretch_of(*sizes) for sizes in ((256, 64), (256, 256), (100, 50), (7, 28))] == [16, 32, 10, 7]


def test_a_window_longer_than_a_rollout_is_refused():
    network = Transformer(window=32)
    config = proximo.with_options(
        proximo.preset("default", "CartPole-v1"), network=network, horizon=16, minibatch_size=16
    )
    with pytest.raises(UserError, match="window of 32 rows is longer than a rollout, horizon 16"):
        next(training(config))
