"""The ONNX graph of policies that take legal actions alone, read texts, or act in several parts."""

import json
import zlib

import jax
import numpy as np
import pytest
from gymnasium import spaces
from mask_probes import Pair
from test_own_memory import Remembers

import proximo
from proximo.cli import main
from proximo.control.agent import Agent
from proximo.control.export import build, export_onnx
from proximo.envs import action_codec
from proximo.envs.actions import with_dependent
from proximo.envs.parts import codec_for
from proximo.errors import UserError
from proximo.learn.normalise import observation_normaliser
from proximo.own import OwnCode
from proximo.policies import NetworkOptions, new_policy
from proximo.policies.attention import Transformer
from proximo.policies.memory import Lstm

onnxruntime = pytest.importorskip("onnxruntime")

ROWS = 32
SEEN = spaces.Box(-9.0, 9.0, (3,), np.float32)
ARM = spaces.Dict(
    arm=spaces.Dict(push=spaces.Box(0.0, 2000.0, (2,), np.float32), grip=spaces.MultiBinary(2)),
    gear=spaces.Discrete(3, start=1),
    pair=spaces.MultiDiscrete([2, 3]),
)


def agent_for(action, observation=SEEN, dependent=(), masked=True, **network):
    """An agent with numbers of a trained one, which acts on masks unless told otherwise."""
    options = NetworkOptions(**{"hidden": (8,), "policy_gain": 2.0, **network})
    codec = codec_for((observation, action), in_parts=options.own_network is None, sees_masks=options.flatten)
    kind = with_dependent(action_codec(action).kind, dependent)
    parts = {name: part.kind for name, part in codec.parts.items()}
    policy = new_policy(jax.random.key(0), codec.shape[0], kind, options, parts)
    policy = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), policy)
    statistics = observation_normaliser(codec.normalised)
    spaces = (observation, action)
    return Agent(policy, statistics, spaces, "Test-v0", scale_actions=True, masked=masked)


def session_of(agent):
    return onnxruntime.InferenceSession(build(agent).SerializeToString())


def legal_at_random(agent, rng):
    """Flags as a graph takes them, [ROWS, M], with a legal value for each choice."""
    flags = rng.random((ROWS, agent.masks.count(agent.mask_code))) < 0.4
    flags[:, agent.masks._starts(agent.mask_code)] |= ~np.logical_or.reduceat(
        flags, agent.masks._starts(agent.mask_code), axis=1
    )
    return flags


CASES = {
    "discrete": (spaces.Discrete(7, start=3), ()),
    "choices": (spaces.MultiDiscrete([2, 3, 4]), ()),
    "combinations": (spaces.MultiDiscrete([3, 4]), ("",)),
    "switches": (spaces.MultiBinary((2, 2)), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_graph_takes_a_mask_and_acts_as_the_agent_with_it(case):
    action, dependent = CASES[case]
    agent, rng = agent_for(action, dependent=dependent), np.random.default_rng(0)
    obs, flags = rng.normal(size=(ROWS, 3)).astype(np.float32), legal_at_random(agent, rng)
    session = session_of(agent)
    told = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    assert told["action_mask"] == ("tensor(bool)", ["batch", flags.shape[1]])
    (found,) = session.run(None, {"observation": obs, "action_mask": flags})
    assert found.dtype == np.int64 and found.tolist() == agent.act(obs, legal=flags).tolist()
    free = np.ones_like(flags)
    (open_to_all,) = session.run(None, {"observation": obs, "action_mask": free})
    assert (open_to_all != found).any() and open_to_all.tolist() == agent.act(obs).tolist()


def test_each_part_of_an_action_is_an_output_called_by_its_keys(tmp_path):
    agent = agent_for(ARM, spaces.Dict(gear=SEEN), distribution=proximo.policies.distributions.TanhNormal())
    graph = export_onnx(agent, tmp_path / "policy.onnx")
    names = [("arm/grip", "int64", (2,)), ("arm/push", "float32", (2,)), ("policy_gear", "int64", ())]
    assert sorted(graph.outputs) == [*names[:2], ("pair", "int64", (2,)), names[2]]
    assert graph.inputs == [("gear", "float32", (3,)), ("action_mask", "bool", (4 + 3 + 5,))]
    assert "arm_push" in graph.usage() and "'action_mask': action_mask" in graph.usage()
    rng = np.random.default_rng(0)
    obs, flags = rng.normal(size=(ROWS, 3)).astype(np.float32), legal_at_random(agent, rng)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    found = dict(
        zip(
            [name for name, _, _ in graph.outputs],
            session.run(None, {"gear": obs, "action_mask": flags}),
            strict=True,
        )
    )
    acted = agent.act({"gear": obs}, legal=flags)
    np.testing.assert_allclose(found["arm/push"], acted["arm"]["push"], rtol=1e-4)
    assert found["arm/push"].min() > 0.0 and found["arm/push"].max() > 1000.0
    assert found["arm/grip"].tolist() == acted["arm"]["grip"].tolist()
    assert found["policy_gear"].tolist() == acted["gear"].tolist()
    assert found["pair"].tolist() == acted["pair"].tolist()


@pytest.mark.parametrize("network", [Lstm(4), Transformer(4, heads=2, window=3), OwnCode(Remembers)])
def test_a_memory_and_a_mask_go_together(network):
    """The mask is the part `action_mask` of a Dict observation, as the environment gives it."""
    mask = spaces.MultiBinary(5)
    observation = spaces.Dict(action_mask=mask, seen=SEEN, state=spaces.Discrete(3))
    agent, rng = agent_for(spaces.Discrete(5), observation, network=network), np.random.default_rng(0)
    session, player = session_of(agent), agent.player()
    names = [one.name for one in session.get_outputs()][1:]
    forms = {one.name: one for one in session.get_inputs()}
    assert set(forms) == {
        "seen",
        "state",  # the part; what is remembered has another name
        "action_mask",
        "start",
        *(name.removeprefix("next_") for name in names),
    }
    dtypes = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(bool)": bool}
    state = {
        name: np.zeros((ROWS, *forms[name].shape[1:]), dtypes[forms[name].type])
        for name in (one.removeprefix("next_") for one in names)
    }
    for step in range(5):
        seen, word = rng.normal(size=(ROWS, 3)).astype(np.float32), rng.integers(3, size=ROWS)
        flags = legal_at_random(agent, rng)
        start = np.full(ROWS, step == 0) | (rng.random(ROWS) < 0.2)
        given = {"seen": seen, "state": word[:, None].astype(np.float32), "action_mask": flags}
        found, *after = session.run(None, {**given, **state, "start": start})
        obs = {"seen": seen, "state": word, "action_mask": flags.astype(np.int8)}
        assert found.tolist() == player.act(obs, start=start).tolist()
        state = dict(zip(state, after, strict=True))


def test_a_text_that_is_read_word_by_word_goes_in_as_numbers_of_its_words(tmp_path):
    observation = spaces.Dict(sign=spaces.Text(20, min_length=0, charset="deg rn"), speed=SEEN)
    agent = agent_for(spaces.Discrete(9), observation, masked=False)
    graph = export_onnx(agent, tmp_path / "policy.onnx")
    assert graph.inputs == [("sign", "int32", (10,)), ("speed", "float32", (3,))]
    assert "# sign: 0 behind the end, and zlib.crc32(word.lower().encode()) % 1048575 + 1" in graph.usage()
    texts = ("red", "green", "red green", "", "green  red", "d e g r n d e g r")  # the last: two blocks
    words = np.zeros((len(texts), 10), np.int32)
    for row, text in zip(words, texts, strict=True):
        for place, word in enumerate(text.split()):
            row[place] = zlib.crc32(word.encode()) % 1048575 + 1
    speed = np.zeros((len(texts), 3), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    (found,) = session.run(None, {"sign": words, "speed": speed})
    assert found.tolist() == agent.act({"sign": texts, "speed": speed}).tolist()
    assert len(set(found.tolist())) > 1


@pytest.mark.parametrize("flatten", [False, True], ids=["read", "one-hot"])
def test_a_text_goes_in_as_numbers_of_its_characters(flatten, tmp_path):
    observation = spaces.Dict(sign=spaces.Text(4, min_length=0, charset="deg_rn"), speed=SEEN)
    agent = agent_for(spaces.Discrete(9), observation, masked=False, flatten=flatten)
    graph = export_onnx(agent, tmp_path / "policy.onnx")
    assert graph.inputs == [("sign", "int32", (4,)), ("speed", "float32", (3,))]
    assert graph.usage().startswith("# sign: 0 behind the end, and from 1 on the characters '_degnr'\n")
    observation.seed(0)
    texts = tuple(observation["sign"].sample() for _ in range(ROWS))
    tokens = np.zeros((ROWS, 4), np.int32)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = ["_degnr".index(one) + 1 for one in text]
    speed = np.zeros((ROWS, 3), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    (found,) = session.run(None, {"sign": tokens, "speed": speed})
    assert found.tolist() == agent.act({"sign": texts, "speed": speed}).tolist()
    assert len(set(found.tolist())) > 1


def test_parts_of_one_name_are_refused():
    observation = spaces.Dict({"a/b": SEEN, "a": spaces.Dict(b=SEEN)})
    with pytest.raises(UserError, match="two parts of the observation space have one name in a graph"):
        build(agent_for(spaces.Discrete(2), observation))


def test_a_run_is_exported_with_its_mask(tmp_path, capsys):
    options = dict(num_envs=2, horizon=8, steps=16, epochs=1, minibatch_size=16, hidden=(4,))
    run = proximo.train(Pair, out=tmp_path / "run", **options)
    assert main(["export", str(run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mask = {"name": "action_mask", "dtype": "bool", "shape": ["batch", 9]}
    assert told["inputs"][1:] == [mask]
    assert main(["export", str(run.folder)]) == 0
    shown = capsys.readouterr().out
    assert "input: action_mask bool [batch, 9]" in shown
    assert "session.run(None, {'observation': observation, 'action_mask': action_mask})" in shown
    session = onnxruntime.InferenceSession(run.folder / "policy.onnx")
    only = np.zeros((2, 3, 3), bool)
    only[0, 0, 2] = only[1, 2, 1] = True
    ones = np.ones((2, 1), np.float32)
    (found,) = session.run(None, {"observation": ones, "action_mask": only.reshape(2, -1)})
    assert found.tolist() == [[0, 2], [2, 1]]
