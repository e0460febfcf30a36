"""Adapters: what they change and what not, what learns, and PEFT's files."""

import json

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from proximo.errors import UserError
from proximo.language.files.adapter_files import load_adapters, save_adapters
from proximo.language.files.loading import add_adapters
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.adapters import (
    AdaptedLinear,
    LoRA,
    has_adapters,
    linear_maps,
    merge_adapters,
    trainable,
    with_adapters,
    without_adapters,
)
from proximo.language.model.heads import new_reward_model
from proximo.language.model.layers import Linear
from proximo.runs.named import named_leaves

EVERY = ("query", "key", "value", "output", "gate", "up", "down")


def adapted_model(name="llama", targets=("query", "value"), rank=2, alpha=6.0):
    """With adapters that change something."""
    model = with_adapters(families.random_model(name), LoRA(rank, alpha, targets), jax.random.key(0))
    draw = np.random.default_rng(2).normal
    return jax.tree.map(
        lambda node: (
            eqx.tree_at(lambda n: n.up, node, jnp.array(draw(size=node.up.shape), jnp.float32))
            if isinstance(node, AdaptedLinear)
            else node
        ),
        model,
        is_leaf=lambda node: isinstance(node, AdaptedLinear),
    )


def logits(model):
    batch = families.batch()
    there = np.asarray(families.our_logits(model, jnp.asarray(batch.ids), jnp.asarray(batch.mask)))
    return there[batch.mask == 1]


# ---- what they are


def test_a_worked_example():
    # x = (1, 2): x W + b = (1, 2) + (10, 10); x down = 1 * 1 + 2 * 3 = 7; 7 * up = (7, -7); times 0.5
    base = Linear(jnp.eye(2), jnp.full(2, 10.0))
    node = AdaptedLinear(base, jnp.array([[1.0], [3.0]]), jnp.array([[1.0, -1.0]]), 0.5)
    np.testing.assert_allclose(node(jnp.array([[[1.0, 2.0]]])), [[[14.5, 8.5]]])
    # merged: W + 0.5 * down up = [[1.5, -0.5], [1.5, -0.5]]
    np.testing.assert_allclose(merge_adapters(node).weight, [[1.5, -0.5], [1.5, -0.5]])


@pytest.mark.parametrize("name", ["llama-biases", "gpt2"])
def test_new_adapters_change_nothing(name):
    model = families.random_model(name)
    adapted = with_adapters(model, LoRA(), jax.random.key(0))
    np.testing.assert_array_equal(logits(adapted), logits(model))
    assert np.ptp(logits(adapted_model(name)) - logits(model)) > 0.1


def test_which_maps_are_adapted():
    nodes = linear_maps(adapted_model(targets=("query", "down"), rank=3, alpha=6.0))
    adapted = {name for name, node in nodes.items() if isinstance(node, AdaptedLinear)}
    assert adapted == {f"blocks.{n}.{part}" for n in (0, 1) for part in ("attention.query", "mlp.down")}
    down = nodes["blocks.0.mlp.down"]  # 24 -> 16
    assert (down.down.shape, down.up.shape, down.scale) == ((24, 3), (3, 16), 2.0)
    assert abs(down.down).max() <= 24**-0.5


def test_the_reference_is_the_model_without_adapters_and_shares_its_arrays():
    model = families.random_model("llama")
    reference = without_adapters(with_adapters(model, LoRA(), jax.random.key(0)))
    assert jax.tree.structure(reference) == jax.tree.structure(model)
    assert all(
        one is other for one, other in zip(jax.tree.leaves(reference), jax.tree.leaves(model), strict=True)
    )


@pytest.mark.parametrize("name", ["llama-biases", "gpt2"])
def test_merged_is_the_same_function_without_adapters(name):
    model = adapted_model(name, targets=("query", "key", "value", "output", "up", "down"))
    assert not has_adapters(merge_adapters(model))
    np.testing.assert_allclose(logits(merge_adapters(model)), logits(model), atol=1e-4)


def test_frozen_weights_of_half_the_size_keep_their_type():
    base = Linear(jnp.eye(2, dtype=jnp.bfloat16), None)
    node = AdaptedLinear(base, jnp.ones((2, 1)), jnp.ones((1, 2)), 1.0)
    assert node(jnp.ones((1, 2), jnp.bfloat16)).dtype == jnp.bfloat16
    assert merge_adapters(node).weight.dtype == jnp.bfloat16


# ---- what learns


def learning(model):
    return {name for name, learns in named_leaves(trainable(model)).items() if learns}


def test_without_adapters_everything_learns():
    model = families.random_model("llama")
    assert learning(model) == set(named_leaves(model))


def test_with_adapters_they_alone_learn_and_the_heads_beside_the_transformer():
    reward = new_reward_model(families.random_model("llama"), jax.random.key(0))
    model = with_adapters(reward, LoRA(targets=("key",)), jax.random.key(1))
    adapters = {f"trunk.blocks.{n}.attention.key.{part}" for n in (0, 1) for part in ("down", "up")}
    assert learning(model) == {*adapters, "score.weight"}


def test_a_transformer_without_adapters_beside_one_with_learns_whole():
    critic = families.random_model("gpt2")
    both = {
        "actor": adapted_model(targets=("up",)),
        "critic": critic,
        "value": Linear(jnp.ones((16, 1)), None),
    }
    actor = {f"actor.blocks.{n}.mlp.up.{part}" for n in (0, 1) for part in ("down", "up")}
    assert learning(both) == {*actor, *(f"critic.{name}" for name in named_leaves(critic)), "value.weight"}


def test_a_value_head_is_no_target_though_it_is_called_value():
    model = {"model": families.random_model("llama"), "value": Linear(jnp.ones((16, 1)), None)}
    adapted = with_adapters(model, LoRA(targets=("value",)), jax.random.key(0))
    assert isinstance(adapted["value"], Linear) and has_adapters(adapted["model"])


def test_a_step_changes_adapters_and_nothing_else():
    model = with_adapters(families.random_model("llama"), LoRA(rank=2), jax.random.key(0))
    batch = families.batch()
    ids, mask = jnp.asarray(batch.ids), jnp.asarray(batch.mask)
    learn, frozen = eqx.partition(model, trainable(model))

    def loss(part):
        return families.our_logits(eqx.combine(part, frozen), ids, mask).var()

    quick_to_compile = {"xla_backend_optimization_level": "0"}
    gradient = jax.jit(jax.grad(loss), compiler_options=quick_to_compile)(learn)
    step = jax.tree.map(lambda x, g: x - g, learn, gradient)
    after = named_leaves(eqx.combine(step, frozen))
    changed = {name for name, x in named_leaves(model).items() if not np.array_equal(x, after[name])}
    # up is zero at first, so down has no gradient yet
    assert changed == {f"blocks.{n}.attention.{part}.up" for n in (0, 1) for part in ("query", "value")}


# ---- PEFT's files


def test_the_names_and_shapes_of_peft(tmp_path):
    save_adapters(tmp_path / "a", adapted_model(targets=("query", "down"), rank=3), "somebody/base")
    arrays = safetensors.numpy.load_file(tmp_path / "a" / "adapter_model.safetensors")
    before = "base_model.model.model.layers"
    assert {name: x.shape for name, x in arrays.items()} == {
        f"{before}.{n}.{part}.weight": shape
        for n in (0, 1)
        for part, shape in {
            "self_attn.q_proj.lora_A": (3, 16),
            "self_attn.q_proj.lora_B": (16, 3),
            "mlp.down_proj.lora_A": (3, 24),
            "mlp.down_proj.lora_B": (16, 3),
        }.items()
    }
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    expected = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/base",
        "r": 3,
        "lora_alpha": 6.0,
        "target_modules": ["down_proj", "q_proj"],
        "fan_in_fan_out": False,
        "rank_pattern": {},
    }
    assert config | expected == config


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama-biases", EVERY),
        ("gpt2", ("query", "value")),
        ("gpt2", ("key", "output", "up", "down")),
        ("gemma3", ("value", "gate")),
    ],
)
def test_there_and_back(name, targets, tmp_path):
    model = adapted_model(name, targets)
    save_adapters(tmp_path / "a", model)
    back = load_adapters(tmp_path / "a", without_adapters(model))
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for path, array in named_leaves(model).items():
        np.testing.assert_array_equal(array, named_leaves(back)[path], err_msg=path)


def peft_logits(name, folder, tmp_path):
    """What PEFT computes from the files: W + alpha / r * B A, turned round where maps lie inputs first."""
    import torch

    theirs = families.their_model(families.CONFIGS[name], tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    arrays = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for key in [key for key in arrays if ".lora_A." in key]:
            hub = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            rank = next((r for n, r in config["rank_pattern"].items() if hub.endswith(n)), config["r"])
            alpha = next(
                (a for n, a in config["alpha_pattern"].items() if hub.endswith(n)), config["lora_alpha"]
            )
            a, b = (torch.tensor(arrays[key.replace("lora_A", side)]) for side in ("lora_A", "lora_B"))
            assert a.shape[0] == b.shape[1] == rank
            scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
            change = scale * b @ a
            theirs.get_submodule(hub).weight += change.T if config["fan_in_fan_out"] else change
    batch = families.batch()
    return families.their_logits(theirs, batch)[batch.mask == 1]


def loaded(name, folder, tmp_path):
    from proximo.language.files.folder import load_model

    return load_adapters(folder, load_model(tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("name", "targets"), [("llama", EVERY), ("gpt2", ("query", "value", "output")), ("gpt2", ("down",))]
)
def test_peft_computes_our_logits(name, targets, tmp_path):
    """GPT-2: two adapters of rank 2 side by side are one of rank 4, beside one of rank 2 for the output."""
    save_adapters(tmp_path / "a", adapted_model(name, targets))
    theirs = peft_logits(name, tmp_path / "a", tmp_path)
    np.testing.assert_allclose(logits(loaded(name, tmp_path / "a", tmp_path)), theirs, atol=2e-4)


def write_peft(folder, arrays, **config):
    folder.mkdir()
    usual = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "rank_pattern": {}, "alpha_pattern": {}}
    (folder / "adapter_config.json").write_text(json.dumps(usual | {"fan_in_fan_out": False} | config))
    arrays = {f"base_model.model.{name}.weight": np.asarray(x, np.float32) for name, x in arrays.items()}
    safetensors.numpy.save_file(arrays, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def drawn(name, rank, inputs, outputs):
    draw = np.random.default_rng(rank).normal
    return {f"{name}.lora_A": draw(size=(rank, inputs)), f"{name}.lora_B": draw(size=(outputs, rank))}


def test_an_adapter_of_peft_for_all_of_gpt2s_attention(tmp_path):
    arrays = drawn("transformer.h.1.attn.c_attn", 2, 16, 48)
    folder = write_peft(tmp_path / "a", arrays, fan_in_fan_out=True)
    theirs = peft_logits("gpt2", folder, tmp_path)
    ours = loaded("gpt2", folder, tmp_path)
    np.testing.assert_allclose(logits(ours), theirs, atol=2e-4)
    assert isinstance(ours.blocks[1].attention.key, AdaptedLinear)
    assert not has_adapters(ours.blocks[0])
    save_adapters(tmp_path / "again", ours)
    again = loaded("gpt2", tmp_path / "again", tmp_path)
    np.testing.assert_allclose(logits(again), theirs, atol=2e-4)


@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_and_alphas_of_their_own(rslora, tmp_path):
    """rsLoRA divides by the root of the rank (Kalajdzievski 2023)."""
    arrays = drawn("model.layers.0.mlp.up_proj", 2, 16, 24) | drawn("model.layers.1.mlp.up_proj", 3, 16, 24)
    patterns = {"rank_pattern": {"layers.1.mlp.up_proj": 3}, "alpha_pattern": {"layers.1.mlp.up_proj": 12}}
    folder = write_peft(tmp_path / "a", arrays, use_rslora=rslora, **patterns)
    theirs = peft_logits("llama", folder, tmp_path)
    ours = loaded("llama", folder, tmp_path)
    assert ours.blocks[1].mlp.up.scale == pytest.approx(12 / 3**0.5 if rslora else 4.0)
    np.testing.assert_allclose(logits(ours), theirs, atol=2e-4)
    save_adapters(tmp_path / "again", ours)
    config = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert config["rank_pattern"] == {"layers.1.mlp.up_proj": 3}


def test_an_adapter_of_one_layer_alone_says_so(tmp_path):
    folder = write_peft(tmp_path / "a", drawn("model.layers.1.mlp.up_proj", 2, 16, 24))
    save_adapters(tmp_path / "b", load_adapters(folder, families.random_model("llama")))
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.1.mlp.up_proj"]


# ---- what is refused


def refused(act, *arguments):
    with pytest.raises(UserError) as caught:
        act(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_all_linear_is_every_map_that_a_family_has(name):
    model = families.random_model(name)
    found = linear_maps(with_adapters(model, LoRA(targets=("all-linear",)), jax.random.key(0)))
    inner = [node for path, node in found.items() if path.startswith("blocks.")]
    assert all(isinstance(node, AdaptedLinear) for node in inner)
    assert len(inner) == len(model.blocks) * (6 if name == "gpt2" else 7)  # GPT-2 has no gate


def test_adapters_that_cannot_be():
    model, key = families.random_model("gpt2"), jax.random.key(0)
    assert "rank of 1 or more" in refused(LoRA, 0)
    assert "positive alpha" in refused(LoRA, 1, 0.0)
    assert "not q_proj" in refused(LoRA, 8, 16.0, ("q_proj",))
    assert "have no gate" in refused(with_adapters, model, LoRA(targets=("gate",)), key)
    for options in ({"lora_targets": ("gate",)}, {"lora_alpha": 8.0}):
        asked = ModelOptions(model="", **options)
        assert "lora_rank is 0: set a rank" in refused(add_adapters, model, asked, key)
    assert "adapters already" in refused(with_adapters, with_adapters(model, LoRA(), key), LoRA(), key)


UP = "model.layers.0.mlp.up_proj"
REFUSED = {
    "type 'IA3'": ({}, {"peft_type": "IA3"}),
    "positive numbers": ({}, {"r": 0}),
    "does not describe adapters": ({}, {"lora_alpha": "much"}),
    "plain names": ({}, {"rank_pattern": {".*": 2}}),
    "there are no adapters": ({}, {}),
    "only one of lora_A and lora_B": ({f"{UP}.lora_A": np.ones((2, 16))}, {}),
    f"{UP}.lora_B is not finite": (
        {f"{UP}.lora_A": np.ones((2, 16)), f"{UP}.lora_B": np.full((24, 2), np.nan)},
        {},
    ),
    "but rank 2 and this model ask for [2, 16] and [24, 2]": (drawn(UP, 3, 16, 24), {}),
    "lm_head.lora_A.weight belongs to no layer's map": (
        drawn(UP, 2, 16, 24) | drawn("lm_head", 2, 16, 41),
        {},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_files_that_cannot_be(message, tmp_path):
    arrays, config = REFUSED[message]
    folder = write_peft(tmp_path / "a", arrays, **config)
    assert message in refused(load_adapters, folder, families.random_model("llama"))


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    assert "has no adapters" in refused(save_adapters, tmp_path / "a", families.random_model("llama"))
    assert "it has no adapter_config.json" in refused(load_adapters, tmp_path, families.random_model("llama"))
    model = adapted_model()
    save_adapters(tmp_path / "a", model)
    assert "adapters already" in refused(load_adapters, tmp_path / "a", model)
