"""The ONNX graph of policies that remember, that see parts, and whose distributions end at bounds."""

import jax
import numpy as np
import pytest
from gymnasium import spaces
from test_own_memory import Remembers

from proximo.control.agent import Agent
from proximo.control.export import build, export_onnx
from proximo.envs import action_codec
from proximo.envs.parts import codec_for
from proximo.learn.normalise import observation_normaliser
from proximo.own import OwnCode
from proximo.policies import NetworkOptions, new_policy
from proximo.policies.attention import Transformer
from proximo.policies.convolution import Small
from proximo.policies.distributions import (
    BoundedBeta,
    StateDependentExploration,
    StateDependentNormal,
    TanhNormal,
)
from proximo.policies.memory import Gru, Lstm

onnxruntime = pytest.importorskip("onnxruntime")

SEEN = spaces.Box(-100.0, 100.0, (3,), np.float32)
WATTS = spaces.Box(np.array([0.0, -1.0], np.float32), np.array([2000.0, 1.0], np.float32))
ROWS = 4


def agent_for(observation=SEEN, action=WATTS, scale_actions=True, **network):
    """An agent with numbers of a trained one."""
    options = NetworkOptions(**{"hidden": (8,), "policy_gain": 1.0, **network})
    codec, kind = codec_for((observation, action), in_parts=True), action_codec(action).kind
    parts = {name: part.kind for name, part in codec.parts.items()}
    policy = new_policy(jax.random.key(0), codec.shape[0], kind, options, parts)
    policy = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), policy)
    statistics = observation_normaliser(codec.normalised)
    return Agent(policy, statistics, (observation, action), "Test-v0", scale_actions=scale_actions)


def session_of(agent):
    return onnxruntime.InferenceSession(build(agent).SerializeToString())


@pytest.mark.parametrize("scale_actions", [True, False], ids=["scaled", "raw"])
@pytest.mark.parametrize(
    ("distribution", "layers"),
    [
        (TanhNormal(), "simba"),
        (BoundedBeta(), "layer-norm"),
        (StateDependentNormal(), "plain"),
        (StateDependentExploration(), "plain"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_every_distribution_acts_as_the_agent(distribution, layers, scale_actions):
    agent = agent_for(distribution=distribution, layers=layers, scale_actions=scale_actions)
    batch = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32) * 3
    (found,) = session_of(agent).run(None, {"observation": batch})
    np.testing.assert_allclose(found, agent.act(batch), rtol=1e-4, atol=1e-4)
    assert len(np.unique(found[:, 0])) > 20


MEMORIES = {
    "lstm": Lstm(4),
    "gru": Gru(4),
    "transformer": Transformer(8, window=3, heads=2),
    "own": OwnCode(Remembers),
}


@pytest.mark.parametrize("network", MEMORIES)
def test_a_policy_that_remembers_acts_step_by_step_as_a_player(network, tmp_path):
    separate = network == "lstm"  # what the critic alone remembers is not in the graph
    action = spaces.Box(-5.0, 5.0, (2,), np.float32)
    agent = agent_for(action=action, network=MEMORIES[network], separate_critic=separate)
    graph = export_onnx(agent, tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    names = [name for name, _, _ in graph.state]
    assert names == {"transformer": ["state_rows", "state_age"], "own": ["state_age", "state_hidden"]}.get(
        network, ["state"]
    )
    state = {name: np.full((ROWS, *shape), 77, dtype) for name, dtype, shape in graph.state}  # forgotten
    player, rng, seen = agent.player(), np.random.default_rng(0), []
    for step in range(7):
        obs = rng.normal(size=(ROWS, 3)).astype(np.float32)
        start = np.array([step == 0, step in (0, 4), step == 0, step in (0, 2)])
        found, *after = session.run(None, {"observation": obs, **state, "start": start})
        np.testing.assert_allclose(found, player.act(obs, start=start), rtol=1e-4, atol=1e-4)
        state = dict(zip(names, after, strict=True))
        seen.append(found)
    again, *_ = session.run(None, {"observation": obs, **state, "start": np.ones(ROWS, bool)})
    assert np.abs(again - seen[-1]).max() > 1e-3  # it does remember
    assert f"action, {names[0]}" in graph.usage() and "'start': start" in graph.usage()


BOARD = spaces.Box(0, 1, (5, 5, 2), bool)


PHOTO = spaces.Box(0.0, 255.0, (5, 5, 2), np.float32)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (BOARD, "observation"),
        (PHOTO, "observation"),
        (spaces.Box(0.0, 1.0, (2, 5, 5), np.float64), "observation"),
        (spaces.Box(0, 255, (6, 6), np.uint8), "observation"),
        (spaces.Dict(board=BOARD, word=spaces.Discrete(300, start=2), speed=SEEN), None),
    ],
    ids=["board", "0 to 255", "0 to 1", "grey", "parts"],
)
def test_boards_images_and_large_categories_go_in_as_they_are(space, name):
    agent = agent_for(space, spaces.Discrete(4))
    space.seed(0)
    samples = [space.sample() for _ in range(32)]
    if name is None:
        batch = {key: np.stack([one[key] for one in samples]) for key in space.spaces}
        given = {**batch, "word": batch["word"][:, None].astype(np.float32)}
    else:
        batch = np.stack(samples)
        given = {name: batch}
    (found,) = session_of(agent).run(None, given)
    assert found.tolist() == agent.act(batch).tolist() and len(set(found.tolist())) > 1


def test_a_picture_of_floats_is_brought_to_0_to_1_by_the_graph_itself():
    space = spaces.Dict(photo=PHOTO, speed=SEEN, map=spaces.Box(0.0, 255.0, (6, 6, 1), np.float16))
    agent = agent_for(space, spaces.Box(-5.0, 5.0, (2,), np.float32), image_network=Small((2,), 4))
    space.seed(0)
    samples = [space.sample() for _ in range(32)]
    batch = {key: np.stack([one[key] for one in samples]) for key in space.spaces}
    (found,) = session_of(agent).run(None, batch)
    np.testing.assert_allclose(found, agent.act(batch), rtol=1e-4, atol=1e-5)
    dark = {**batch, "photo": batch["photo"] / 255.0}  # as if nobody had divided, or twice
    assert np.abs(agent.act(dark) - found).max() > 0.01
