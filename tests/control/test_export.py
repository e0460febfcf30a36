"""The ONNX graph acts as the agent does, whatever the spaces, the networks and the statistics."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from gymnasium import spaces
from probes import KINDS, Aim

import proximo
from proximo.cli import main
from proximo.control.agent import Agent
from proximo.control.export import build, export_onnx
from proximo.core import Moments
from proximo.envs import action_codec, observation_codec
from proximo.errors import UserError
from proximo.learn.normalise import observation_normaliser
from proximo.policies import ActorCritic, NetworkOptions
from proximo.policies.mlp import ACTIVATIONS

onnxruntime = pytest.importorskip("onnxruntime")

SEEN = spaces.Box(-100.0, 100.0, (3,), np.float32)
WATTS = spaces.Box(0.0, 2000.0, (2,), np.float32)
ROWS = 64


def agent_for(observation=SEEN, action=KINDS["Box"], normalise=True, scale_actions=False, **network):
    """An agent with numbers of a trained one: no bias and no mean is 0."""
    codec, kind = observation_codec(observation), action_codec(action).kind
    options = NetworkOptions(**{"hidden": (8, 7), "policy_gain": 2.0, **network})
    policy = ActorCritic(jax.random.key(0), codec.shape[0], kind, options)
    policy = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), policy)
    mean, m2 = np.linspace(1.0, 3.0, *codec.shape), np.linspace(50.0, 90.0, *codec.shape)
    moments = Moments(*(np.asarray(x, np.float32) for x in (10.0 * normalise, mean, m2)))
    statistics = observation_normaliser(codec.normalised & normalise)._replace(moments=moments)
    statistics = jax.tree.map(jax.numpy.asarray, statistics)
    return Agent(policy, statistics, (observation, action), "Test-v0", scale_actions=scale_actions)


def seen(space, rng):
    """A batch of observations, as a vector environment gives it."""
    if isinstance(space, spaces.Box):
        return (rng.normal(size=(ROWS, *space.shape)) * 20.0).astype(space.dtype)
    space.seed(0)
    return np.stack([space.sample() for _ in range(ROWS)])


def test_numbers_that_float32_would_not_tell_apart_come_as_float64():
    space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    agent = agent_for(space, KINDS["Box"])
    offset = jax.numpy.array([1.7e9, 0.0, -5e5])
    agent = Agent(agent.policy, agent.observations._replace(offset=offset), agent.spaces, "Test-v0")
    batch = np.random.default_rng(0).normal(size=(ROWS, 3)) * 20.0 + np.asarray(offset, np.float64)
    session = onnxruntime.InferenceSession(build(agent).SerializeToString())
    (found,) = session.run(None, {"observation": batch})
    np.testing.assert_allclose(found, agent.act(batch), rtol=1e-5, atol=1e-5)
    assert len(np.unique(found[:, 0])) > ROWS // 2


def check(agent, unit=1.0):
    """Compare the graph with the agent, to rounding in units of `unit`; returns the graph's actions."""
    batch = seen(agent.spaces[0], np.random.default_rng(0))
    session = onnxruntime.InferenceSession(build(agent).SerializeToString())
    (found,) = session.run(None, {"observation": batch.reshape(ROWS, -1).astype(np.float32)})
    expected = agent.act(batch)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * unit)
    (one,) = session.run(None, {"observation": batch[:1].reshape(1, -1).astype(np.float32)})
    np.testing.assert_allclose(one, expected[:1], rtol=1e-5, atol=1e-5 * unit)
    assert len(np.unique(found)) > 1  # a constant would be easy to equal
    return found


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_action_and_network(kind, shared, normalise):
    acted = check(agent_for(action=KINDS[kind], shared=shared, normalise=normalise))
    assert acted.dtype == (np.float32 if kind == "Box" else np.int64)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    # Bounds that clip nothing: what is compared is the network's own output.
    check(agent_for(action=spaces.Box(-np.inf, np.inf, (2,), np.float32), activation=activation))


@pytest.mark.parametrize(
    "action",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [-2, 5]]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(np.array([[-0.5, -9.0]]), np.array([[0.25, 9.0]]), dtype=np.float64),
        spaces.Box(-2.0, 2.0, (), np.float32),
        spaces.Box(-4, 3, (2,), np.int32),
        spaces.Box(-(2**62), 2**62, (2,), np.int64),
    ],
    ids=str,
)
def test_spaces_of_action_of_every_shape_and_dtype(action):
    acted = check(agent_for(action=action))
    if isinstance(action, spaces.Box):
        assert acted.dtype == action.dtype


@pytest.mark.parametrize(
    "action",
    [
        WATTS,
        spaces.Box(np.array([[-0.5, -9.0]]), np.array([[0.25, 90.0]]), dtype=np.float64),
        spaces.Box(np.array([0, -1, -5, 3]), np.array([np.inf, 1, 7, 3]), dtype=np.float64),
        spaces.Box(0.0, 10.0, (), np.float32),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(-40, 30, (2,), np.int64),
        spaces.Box(0, 1, (3,), bool),
        spaces.Discrete(3, start=-1),
    ],
    ids=str,
)
def test_the_graph_gives_the_environments_units_where_actions_are_scaled(action):
    acted = check(agent_for(action=action, scale_actions=True), unit=2000.0 if action == WATTS else 10.0)
    assert acted.dtype == (action.dtype if isinstance(action, spaces.Box) else np.int64)


@pytest.mark.parametrize(
    "observation",
    [
        spaces.Box(-100.0, 100.0, (2, 3), np.float32),
        spaces.Box(-100, 100, (2,), np.int16),
        spaces.Box(np.array([0, -9]), np.array([1, 9]), dtype=np.int32),  # a switch and a number
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([3, 4], start=[0, -1]),
        spaces.MultiBinary(5),
    ],
    ids=str,
)
def test_every_kind_of_observation(observation):
    check(agent_for(observation=observation))


def test_a_linear_policy():
    check(agent_for(hidden=()))


class Function(eqx.Module):
    """A network without weights."""

    function: Callable = eqx.field(static=True)

    def __call__(self, x):
        return self.function(x)


def agent_with(actor):
    """An agent whose actor is any function [..., 7] -> [..., 7]."""
    agent = agent_for(hidden=(7,), shared=True)
    agent.policy = eqx.tree_at(lambda policy: policy.actor, agent.policy, Function(actor))
    return agent


def test_networks_of_ones_own_are_written_too():
    check(agent_with(lambda x: jax.nn.softmax(x) * jax.numpy.sort(x)))


def test_the_file_is_the_same_wherever_it_is_written_and_the_log_is_left_alone(capfd):
    handlers, level = list(logging.root.handlers), logging.root.manager.disable
    logging.root.handlers.clear()  # pytest's
    try:
        content = build(agent_for()).SerializeToString()
        assert logging.root.handlers == []
    finally:
        logging.root.handlers[:] = handlers
    assert logging.root.manager.disable == level
    assert capfd.readouterr() == ("", "")
    assert content == build(agent_for()).SerializeToString()
    here = str(Path(proximo.__file__).parents[1]).encode()
    assert here not in content and b".py" not in content  # no place in a file system, no traceback


def test_the_normaliser_bounds_what_the_network_sees():
    agent = agent_for()
    session = onnxruntime.InferenceSession(build(agent).SerializeToString())
    far = np.full((1, 3), 1e6, np.float32)
    (found,) = session.run(None, {"observation": far})
    np.testing.assert_allclose(found, agent.act(far), atol=1e-5)


def test_a_head_whose_deviation_follows_a_schedule():
    check(agent_for(final_log_std=-1.0))


# ---- observations of several parts, and images

IMAGE = spaces.Box(0, 255, (4, 5, 3), np.uint8)
FAR = spaces.Box(-np.inf, np.inf, (2,), np.float64)
PARTS = {
    "a Dict": spaces.Dict(speed=SEEN, gear=spaces.Discrete(3, start=1), camera=IMAGE),
    "a Tuple": spaces.Tuple([SEEN, spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3])]),
    "nested": spaces.Dict(left=spaces.Dict(camera=IMAGE, far=FAR), right=spaces.Tuple([SEEN, IMAGE])),
    "named as ours": spaces.Dict({"action": SEEN, "observation": SEEN, "choice": IMAGE, "end_0": SEEN}),
    "an image": IMAGE,
}
NAMES = {
    "a Dict": {"camera", "gear", "speed"},
    "a Tuple": {"0", "1", "2"},
    "nested": {"left/camera", "left/far", "right/0", "right/1"},
    "named as ours": {"action", "observation", "choice", "end_0"},
    "an image": {"observation"},
}


def batch_of(space, rng):
    """A batch of observations, as a vector environment gives it."""
    if isinstance(space, spaces.Dict):
        return {key: batch_of(child, rng) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(batch_of(child, rng) for child in space.spaces)
    return rng.integers(0, 256, (ROWS, *space.shape), np.uint8) if space is IMAGE else seen(space, rng)


def inputs_of(batch, path=()):
    """What a user of the graph hands in: parts by their keys, flattened unless they are images."""
    if isinstance(batch, dict | tuple):
        items = batch.items() if isinstance(batch, dict) else enumerate(batch)
        return {k: v for key, part in items for k, v in inputs_of(part, (*path, str(key))).items()}
    name = "/".join(path) or "observation"
    if batch.dtype == np.uint8 and batch.ndim == 4:
        return {name: batch}
    return {name: batch.reshape(ROWS, -1).astype(np.float64 if name == "left/far" else np.float32)}


def check_parts(agent, names):
    batch = batch_of(agent.spaces[0], np.random.default_rng(0))
    session = onnxruntime.InferenceSession(build(agent).SerializeToString())
    assert {tensor.name for tensor in session.get_inputs()} == names
    (found,) = session.run(None, inputs_of(batch))
    np.testing.assert_allclose(found, agent.act(batch), rtol=1e-4, atol=1e-4)
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("case", PARTS)
def test_every_part_of_an_observation_is_an_input_called_by_its_keys(case):
    agent = agent_for(PARTS[case], KINDS["Box"])
    if case == "nested":  # one part alone lies far from 0
        offset = np.zeros(agent.observation.shape, np.float32)
        offset[60:62] = 1e6, -2e5
        observations = agent.observations._replace(offset=jax.numpy.asarray(offset))
        agent = Agent(agent.policy, observations, agent.spaces, "Test-v0")
    check_parts(agent, NAMES[case])


def test_what_goes_in_and_comes_out_is_told(tmp_path):
    graph = export_onnx(agent_for(PARTS["named as ours"], KINDS["Discrete"]), tmp_path / "policy.onnx")
    assert set(graph.inputs) == {
        ("action", "float32", (3,)),
        ("observation", "float32", (3,)),
        ("choice", "uint8", (4, 5, 3)),
        ("end_0", "float32", (3,)),
    }
    assert graph.outputs == [("policy_action", "int64", ())]
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    assert [tensor.name for tensor in session.get_outputs()] == ["policy_action"]
    assert graph.usage().endswith(
        "(policy_action,) = session.run(None, {'action': action, "
        "'choice': choice, 'end_0': end_0, 'observation': observation})"
    )


# ---- what cannot be written


def test_an_operation_without_an_onnx_form_is_refused_in_one_line():
    agent = agent_with(lambda x: jax.lax.linalg.cholesky(x[..., None] * x[..., None, :])[..., 0])
    with pytest.raises(UserError, match=r"cannot be exported to ONNX: jax2onnx: .*cholesky") as caught:
        build(agent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["onnx", "jax2onnx"])
def test_a_missing_package_is_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=rf'{package}, which is not installed: pip install "proximo\[export\]"'
    ):
        export_onnx(agent_for(), tmp_path / "policy.onnx")


# ---- the command

OPTIONS = dict(num_envs=2, horizon=16, steps=32, epochs=1, minibatch_size=32, hidden=(4,))


def test_the_command(tmp_path, capsys):
    run = proximo.train(Aim, out=tmp_path / "run", **OPTIONS)
    assert main(["export", str(run.folder), "--onnx"]) == 0
    path, *told = capsys.readouterr().out.splitlines()
    assert path == str(run.folder / "policy.onnx")
    assert told[:2] == ["input: observation float32 [batch, 1]", "output: action float32 [batch, 1]"]
    assert "\n".join(told[2:]) == (
        f'import onnxruntime\nsession = onnxruntime.InferenceSession("{path}")\n'
        "(action,) = session.run(None, {'observation': observation})"
    )
    session = onnxruntime.InferenceSession(run.folder / "policy.onnx")
    (tensor,) = session.get_inputs()
    assert (tensor.name, tensor.type, tensor.shape) == ("observation", "tensor(float)", ["batch", 1])
    (found,) = session.run(None, {"observation": np.zeros((2, 1), np.float32)})
    np.testing.assert_allclose(found, run.agent.act(np.zeros((2, 1), np.float32)), atol=1e-5)
    # A model folder is sealed: the file comes to lie beside it. ONNX needs no flag.
    assert main(["export", str(run.folder / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(run.folder / "model.onnx"),
        "inputs": [{"name": "observation", "dtype": "float32", "shape": ["batch", 1]}],
        "output": {"name": "action", "dtype": "float32", "shape": ["batch", 1]},
    }
    assert (run.folder / "model.onnx").read_bytes() == (run.folder / "policy.onnx").read_bytes()
    assert proximo.load(run.folder / "model").name == "Aim"


def test_what_cannot_be_written_is_said_first(tmp_path, capsys):
    for out in (".", "/", str(tmp_path / "nowhere" / "policy.onnx")):
        assert main(["export", "no-run", "--onnx", "--out", out]) == 2
        assert "cannot write" in capsys.readouterr().err


def test_mistakes_of_the_command(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--onnx"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["export", str(tmp_path), "--no-onnx"]) == 2
    assert "ONNX is the only format" in capsys.readouterr().err
