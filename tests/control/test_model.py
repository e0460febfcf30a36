"""A model on disk acts as it did in memory; whatever was done to its files is said in one line."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from probes import KINDS, equal

import proximo
from proximo.control.agent import Agent
from proximo.control.model import load_model, save_model
from proximo.envs import action_codec, space_from_json, space_to_json
from proximo.envs.parts import codec_for
from proximo.errors import UserError
from proximo.learn.normalise import observation_normaliser
from proximo.policies import NetworkOptions, new_policy, takes_parts
from proximo.policies.attention import Transformer
from proximo.policies.convolution import Small
from proximo.policies.distributions import StateDependentExploration
from proximo.policies.memory import Gru, Lstm
from proximo.runs.sealed import manifest

IMAGE = spaces.Box(0, 255, (4, 4, 3), np.uint8)
PAGE = spaces.Dict(seen=IMAGE, word=spaces.Discrete(300, start=1))
ENDLESS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
PARTS = spaces.Dict(numbers=ENDLESS, place=spaces.Discrete(4, start=1), switches=spaces.MultiBinary(2))


def agent_for(observation=ENDLESS, action=KINDS["Discrete"], **options):
    network = NetworkOptions(**{"hidden": (8, 6), "policy_gain": 2.0, **options})
    codec, kind = codec_for((observation, action), takes_parts(network)), action_codec(action).kind
    parts = {name: part.kind for name, part in codec.parts.items()}
    policy = new_policy(jax.random.key(1), codec.shape[0], kind, network, parts)
    observations = observation_normaliser(codec.normalised)
    seen = observations.moments._replace(count=jax.numpy.float32(9.0), mean=observations.moments.mean + 0.5)
    return Agent(policy, observations._replace(moments=seen), (observation, action), "Test-v0")


@pytest.fixture
def folder(tmp_path):
    save_model(agent_for(), tmp_path / "model")
    return tmp_path / "model"


def same(a, b):
    """Equal, and with its parts in the same order; MultiBinary(3) and MultiBinary([3]) are one."""
    if isinstance(a, spaces.Dict):
        pairs = zip(a.spaces.items(), b.spaces.items(), strict=True)
        return all(x == y and same(p, q) for (x, p), (y, q) in pairs)
    if isinstance(a, spaces.Tuple):
        return all(map(same, a.spaces, b.spaces)) and len(a.spaces) == len(b.spaces)
    if isinstance(a, spaces.MultiBinary):
        return isinstance(b, spaces.MultiBinary) and a.shape == b.shape
    return a == b


@pytest.mark.parametrize("action", KINDS.values(), ids=str)
@pytest.mark.parametrize(
    ("observation", "options"),
    [
        (ENDLESS, {}),
        (IMAGE, {"shared": True, "layers": "simba", "hidden": (6, 6)}),
        (IMAGE, {"flatten": True}),
        (PAGE, {"image_network": Small((4,), 8), "embedding": 3, "modulate": True}),
        (ENDLESS, {"network": Lstm(4), "layers": "layer-norm"}),
        (PAGE, {"network": Gru(4), "separate_critic": True}),
        (PAGE, {"network": Transformer(8, window=3), "distribution": StateDependentExploration(2)}),
        (PARTS, {"activation": "relu", "hidden": (), "critic_hidden": (5, 3)}),
    ],
)
def test_a_model_comes_back_as_it_was(tmp_path, observation, action, options):
    agent = agent_for(observation, action, **options)
    save_model(agent, tmp_path)
    again = load_model(tmp_path)
    assert equal((agent.policy, agent.observations), (again.policy, again.observations))
    assert all(map(same, again.spaces, agent.spaces)) and again.name == "Test-v0"
    assert again.policy.options == agent.policy.options
    observation.seed(0)
    one, other = agent.player(), again.player()
    for _ in range(5):
        seen = observation.sample()
        assert np.array_equal(one.act(seen), other.act(seen))


def test_three_files_and_nothing_executable(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["manifest.json", "model.json", "model.safetensors"]
    description = json.loads((folder / "model.json").read_text())
    assert sorted(description) == [
        "action_space",
        "dependent_choices",
        "env_description",
        "environment",
        "format",
        "masked",
        "network",
        "observation_space",
        "scale_actions",
    ]


def test_saving_again_replaces(folder):
    save_model(agent_for(hidden=(5,)), folder)
    assert load_model(folder).policy.options.hidden == (5,)


def test_a_model_whose_manifest_is_damaged_is_replaced(folder):
    (folder / "manifest.json").write_text("{")
    save_model(agent_for(hidden=(5,)), folder)
    assert load_model(folder).policy.options.hidden == (5,)


def refused(folder):
    """What is said, in one line, instead of loading the model."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        save_model(agent_for(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_weights_that_are_not_finite_are_never_written(folder):
    before = load_model(folder)
    agent = agent_for()
    agent.policy = jax.tree.map(lambda leaf: leaf * jax.numpy.nan, agent.policy)
    with pytest.raises(UserError, match="is not finite: the policy was not saved"):
        save_model(agent, folder)
    assert equal(load_model(folder).policy, before.policy)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "manifest.json"])
def test_a_flipped_bit_is_noticed(folder, name, position):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    assert "has changed since it was saved" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"{name} cannot be read" in refused(folder)


def test_no_model_at_all(tmp_path):
    assert "there is no model in" in refused(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no model in"):
        proximo.load(tmp_path / "nowhere")


def sealed(folder):
    """Give changed files a manifest that fits, as whoever changed them on purpose would."""
    names = ("model.safetensors", "model.json")
    (folder / "manifest.json").write_bytes(manifest({name: (folder / name).read_bytes() for name in names}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 99}', "\xff\xfe"])
def test_a_description_that_is_none(folder, text):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    sealed(folder)
    assert "model.json is not" in refused(folder)


def changed(*path, to):
    """A change of one entry of the description; `to` is a function of what was there."""

    def change(description):
        *way, last = path
        for name in way:
            description = description[name]
        description[last] = to(description[last])

    return change


CHANGES = {
    "another width": changed("network", "hidden", to=lambda _: [8, 7]),
    "one layer less": changed("network", "hidden", to=lambda _: [8]),
    "shared": changed("network", "shared", to=lambda _: True),
    "a width below 1": changed("network", "hidden", to=lambda _: [-8, 6]),
    "widths in words": changed("network", "hidden", to=lambda _: "wide"),
    "widths that are none": changed("network", "hidden", to=lambda _: None),
    "an unknown activation": changed("network", "activation", to=lambda _: "sine"),
    "an unknown option": changed("network", to=lambda network: network | {"depth": 3}),
    "a network that is none": changed("network", to=lambda _: None),
    "more observations": changed("observation_space", "shape", to=lambda _: [4]),
    "an unknown space": changed("observation_space", "kind", to=lambda _: "Torus"),
    "no shape": changed("observation_space", "shape", to=lambda _: None),
    "a type that is none": changed("observation_space", "dtype", to=lambda _: "import os"),
    "another number of actions": changed("action_space", "n", to=lambda _: 5),
    "an unsupported space": changed("action_space", to=lambda _: {"kind": "Tuple", "spaces": []}),
    "a space in a word": changed("action_space", to=lambda _: "Discrete"),
    "a space of letters": changed("observation_space", "dtype", to=lambda _: "U900000000"),
}


BOMBS = {
    "observations": changed("observation_space", "shape", to=lambda _: [2_000_000_000]),
    "a size past 64 bits": changed("observation_space", "shape", to=lambda _: [2**32, 2**32]),
    "a code": changed("observation_space", to=lambda _: {"kind": "Discrete", "n": 10**9, "start": 0}),
    "codes": changed(
        "observation_space", to=lambda _: {"kind": "MultiDiscrete", "nvec": [2, 10**9], "start": [0, 0]}
    ),
    "switches": changed("observation_space", to=lambda _: {"kind": "MultiBinary", "shape": [2**16, 2**16]}),
    "parts": changed(
        "observation_space", to=lambda whole: {"kind": "Tuple", "spaces": [{**whole, "shape": [2**25]}] * 3}
    ),
}


@pytest.fixture
def little_memory():
    """1 GiB more than is in use; what is refused before it is built needs none of it."""
    resource, statm = pytest.importorskip("resource"), Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs Linux")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", BOMBS)
def test_a_space_that_would_fill_the_memory_is_refused_before_it_is_built(folder, name, little_memory):
    description = json.loads((folder / "model.json").read_text())
    BOMBS[name](description)
    (folder / "model.json").write_text(json.dumps(description))
    sealed(folder)
    assert "a space of more than 67108864 entries" in refused(folder)


def test_a_file_that_would_fill_the_memory_is_not_read(folder, little_memory):
    with (folder / "model.json").open("r+b") as file:
        file.truncate(200 * 2**30)  # a hole: it takes no place on the disk
    assert "model.json has 214748364800 bytes, more than any description that Proximo writes" in refused(
        folder
    )


def test_what_is_no_plain_file_is_not_read(folder, little_memory):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")  # has no end
    assert "model.safetensors cannot be read (it is not a regular file)" in refused(folder)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_description_is_refused(folder, name):
    path = folder / "model.json"
    description = json.loads(path.read_text())
    CHANGES[name](description)
    path.write_text(json.dumps(description))
    sealed(folder)
    assert "model." in refused(folder)


@pytest.mark.parametrize("name", ["network", "observation_space", "action_space", "environment"])
def test_a_description_without_a_part_is_refused(folder, name):
    path = folder / "model.json"
    description = json.loads(path.read_text())
    del description[name]
    path.write_text(json.dumps(description))
    sealed(folder)
    assert "model.json" in refused(folder)


# ---- spaces as JSON

numbers = st.floats(-1e6, 1e6, width=32)
shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw):
    shape, size = draw(shapes), 1
    for side in shape:
        size *= side
    if draw(st.booleans()):
        return spaces.Box(0, 255, shape, np.uint8)
    low = np.array(draw(st.lists(numbers | st.just(-np.inf), min_size=size, max_size=size))).reshape(shape)
    high = draw(st.sampled_from([np.inf, 1e7]))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    return spaces.Box(low.astype(kind), np.full(shape, high, kind), shape, kind)


plain_spaces = (
    boxes()
    | st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-5, 5))
    | st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 5), min_size=1, max_size=3))
    | st.builds(spaces.MultiBinary, st.integers(1, 4))
)
any_space = st.recursive(
    plain_spaces,
    lambda parts: (
        st.builds(lambda kinds: spaces.Dict(list(kinds.items())), st.dictionaries(st.text(max_size=3), parts))
        | st.builds(spaces.Tuple, st.lists(parts, max_size=3))
    ),
    max_leaves=4,
)


@given(any_space)
def test_every_space_survives_json(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert same(space, space_from_json(json.loads(text)))


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int8])
def test_the_bounds_of_whole_numbers_stay_whole(kind):
    ends = np.iinfo(kind)
    for low, high in ((0, ends.max), (ends.min, ends.max), (ends.max // 2 - 1, ends.max - 1)):
        text = json.dumps(space_to_json(spaces.Box(low=low, high=high, dtype=kind)))
        read = space_from_json(json.loads(text))
        assert (read.low.item(), read.high.item(), read.dtype) == (low, high, kind)


def test_bounds_that_were_written_as_floats_are_read():
    old = {"kind": "Box", "low": "0.0", "high": ["255.0", "7.0"], "shape": [2], "dtype": "uint8"}
    assert space_from_json(old).high.tolist() == [255, 7]
    old |= {"high": repr(float(2**63 - 1)), "dtype": "int64"}
    assert space_from_json(old).high.tolist() == [2**63 - 1] * 2


def test_a_space_of_another_kind_cannot_be_saved():
    with pytest.raises(UserError, match="Sequence"):
        space_to_json(spaces.Sequence(spaces.Discrete(3)))


# ---- numbers that no model has, and numbers of another width


def rewritten(folder, change):
    """The arrays of a model changed, and sealed again."""
    arrays = safetensors.numpy.load((folder / "model.safetensors").read_bytes())
    changed_arrays = {name: change(name, array) for name, array in arrays.items()}
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(changed_arrays))
    sealed(folder)


@pytest.mark.parametrize("name", ["policy.actor.layers.0.weight", "observations.moments.mean"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_on_loading(folder, name, value):
    rewritten(folder, lambda own, array: np.full_like(array, value) if own == name else array)
    assert f"{name} is not finite: restore the file from a copy" in refused(folder)


def test_a_model_of_64_bits_is_read_in_32_and_the_other_way_round(folder):
    # As a process with JAX_ENABLE_X64=1 writes it, or an environment that turns that on.
    before = load_model(folder)
    rewritten(folder, lambda _, array: array.astype(np.float64) if array.dtype == np.float32 else array)
    assert equal(load_model(folder).policy, before.policy)
    save_model(before, folder.parent / "narrow")
    with jax.enable_x64(True):
        wide = load_model(folder.parent / "narrow")
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(wide.policy))
        assert np.array_equal(wide.act(np.zeros(3, np.float32)), before.act(np.zeros(3, np.float32)))


def test_other_types_are_not_turned_into_each_other(folder):
    rewritten(folder, lambda _, array: array.astype(np.float16) if array.dtype == np.float32 else array)
    assert "is float16" in refused(folder)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_actions_keep_the_type_of_their_space(tmp_path, dtype):
    for index, space in enumerate(
        (spaces.Discrete(3, start=1, dtype=dtype), spaces.MultiDiscrete([2, 3], dtype=dtype))
    ):
        agent = agent_for(action=space)
        save_model(agent, tmp_path / str(index))
        again = load_model(tmp_path / str(index))
        assert again.act(np.zeros(3, np.float32)).dtype == agent.act(np.zeros(3, np.float32)).dtype == dtype


def test_a_type_of_actions_that_is_none_is_refused(folder):
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description["action_space"]["dtype"] = "float32"
    path.write_text(json.dumps(description))
    sealed(folder)
    assert "is not an integer type" in refused(folder)
