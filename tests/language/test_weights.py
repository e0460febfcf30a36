"""The Hub's tensors and ours: which is which, how they lie, and what a file may not do."""

import json
import weakref

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from proximo.errors import UserError
from proximo.language.files.tensors import Tensor, open_tensors, write_file, write_tensors
from proximo.language.files.weights import tensors_of, with_tensors
from proximo.language.model.config import model_config
from proximo.language.model.heads import new_reward_model
from proximo.language.model.transformer import new_model
from proximo.runs.named import named_leaves

every_family = pytest.mark.parametrize("name", list(families.CONFIGS))


def arrays_of(model, **options):
    """The Hub's tensors as NumPy arrays."""
    return {name: tensor.array() for name, tensor in tensors_of(model, model.config, **options).items()}


def in_memory(arrays):
    return {name: Tensor(x.shape, "F32", lambda x=x: x) for name, x in arrays.items()}


def filled(model, arrays, folder="a-folder", **options):
    return with_tensors(model, model.config, in_memory(arrays), folder, **options)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for name, array in named_leaves(one).items():
        np.testing.assert_array_equal(array, named_leaves(other)[name], err_msg=name)


def refused(model, arrays, **options):
    with pytest.raises(UserError) as caught:
        filled(model, arrays, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- names and layouts


@every_family
def test_there_and_back(name):
    model = families.random_model(name)
    assert_same(filled(families.random_model(name, seed=1), arrays_of(model)), model)


def test_a_llama_lies_transposed():
    model = families.random_model("llama")
    there = arrays_of(model)
    query = model.blocks[1].attention.query.weight  # [inputs, outputs]
    np.testing.assert_array_equal(there["model.layers.1.self_attn.q_proj.weight"], query.T)
    np.testing.assert_array_equal(
        there["model.layers.1.input_layernorm.weight"], model.blocks[1].attention_norm.weight
    )
    np.testing.assert_array_equal(there["model.embed_tokens.weight"], model.embedding)
    np.testing.assert_array_equal(there["lm_head.weight"], model.head.weight.T)
    # 2 layers of 4 + 3 maps and 2 norms, and embedding, last norm, head
    assert len(there) == 2 * (4 + 3 + 2) + 3


def test_gpt2_lies_as_ours_with_queries_keys_and_values_side_by_side():
    model = families.random_model("gpt2")  # 16 wide
    there, attention = arrays_of(model), model.blocks[0].attention
    fused = there["transformer.h.0.attn.c_attn.weight"]
    assert fused.shape == (16, 48)
    np.testing.assert_array_equal(fused[:, 16:32], attention.key.weight)
    np.testing.assert_array_equal(there["transformer.h.0.attn.c_attn.bias"][32:], attention.value.bias)
    np.testing.assert_array_equal(there["transformer.h.0.mlp.c_fc.weight"], model.blocks[0].mlp.up.weight)


def test_gemmas_norm_after_attention_has_the_name_of_llamas_norm_before_the_mlp():
    llama, gemma = families.random_model("llama"), families.random_model("gemma2")
    name = "model.layers.0.post_attention_layernorm.weight"
    np.testing.assert_array_equal(arrays_of(llama)[name], llama.blocks[0].mlp_norm.weight)
    np.testing.assert_array_equal(arrays_of(gemma)[name], gemma.blocks[0].after_attention.weight)


@every_family
def test_a_reward_model_has_a_score_and_no_head(name):
    reward = families.random_like(new_reward_model(families.random_model(name), jax.random.key(0)))
    there = {n: t.array() for n, t in tensors_of(reward, reward.trunk.config, inside="trunk.").items()}
    assert there["score.weight"].shape == (1, 16) and "lm_head.weight" not in there
    back = with_tensors(
        families.random_like(reward, 1), reward.trunk.config, in_memory(there), "a-folder", inside="trunk."
    )
    assert_same(back, reward)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_prefix_may_be_absent(name):
    model = families.random_model(name)
    bare = {
        key.split(".", 1)[1] if key != "lm_head.weight" else key: x for key, x in arrays_of(model).items()
    }
    assert_same(filled(model, bare), model)


def test_the_prefix_may_not_be_both():
    model = families.random_model("llama")
    there = arrays_of(model)
    there["norm.weight"] = there["model.norm.weight"]
    assert "norm.weight twice" in refused(model, there)


WRAPPERS = ["module.", "_orig_mod.", "module._orig_mod.", "base_model.model.", "pretrained_model.", "model."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "qwen3"])
def test_a_wrappers_prefix_before_every_name_is_left_out(name, wrapper):
    """As data-parallel and compiled models, PEFT's and value-head wrappers, and training frameworks save."""
    model = families.random_model(name)
    there = arrays_of(model)
    assert_same(filled(model, {wrapper + key: x for key, x in there.items()}), model)
    bare = {key.removeprefix("model.").removeprefix("transformer."): x for key, x in there.items()}
    assert_same(filled(model, {wrapper + key: x for key, x in bare.items()}), model)


def test_a_wrapped_reward_model_and_its_buffers():
    reward = families.random_like(new_reward_model(families.random_model("gpt2"), jax.random.key(0)))
    there = {n: t.array() for n, t in tensors_of(reward, reward.trunk.config, inside="trunk.").items()}
    wrapped = {f"module.{key}": x for key, x in there.items()}
    wrapped["module.transformer.h.0.attn.bias"] = np.ones((1, 1, 32, 32), np.float32)
    back = with_tensors(
        families.random_like(reward, 1), reward.trunk.config, in_memory(wrapped), "a-folder", inside="trunk."
    )
    assert_same(back, reward)


def test_a_prefix_of_some_names_is_told_with_the_line_that_strips_it():
    model = families.random_model("llama")
    wrapped = {f"pretrained_model.{key}": x for key, x in arrays_of(model).items()}
    said = refused(model, wrapped | {"v_head.summary.weight": np.ones((1, 16), np.float32)})
    assert "a-folder holds v_head.summary.weight beside names that begin with 'pretrained_model.'" in said
    line = said.partition("save the inner model, with ")[2]
    assert line == "{name[17:]: x for name, x in state.items() if name.startswith('pretrained_model.')}"
    assert {name[17:] for name in wrapped} == {*arrays_of(model)}
    two = {f"{one}.{key}": x for one in ("actor", "critic") for key, x in arrays_of(model).items()}
    assert "holds critic.model.embed_tokens.weight beside names that begin with 'actor.'" in refused(
        model, two
    )


def test_adapters_that_were_not_folded_in_are_told():
    model, query = families.random_model("llama"), "model.layers.0.self_attn.q_proj"
    there = arrays_of(model)
    there[f"{query}.base_layer.weight"] = there.pop(f"{query}.weight")
    there[f"{query}.lora_A.default.weight"] = np.ones((2, 16), np.float32)
    wrapped = {f"base_model.model.{key}": x for key, x in there.items()}
    said = "layers.0.self_attn.q_proj has adapters beside it: save what PEFT's merge_and_unload() returns"
    assert said in refused(model, there) and said in refused(model, wrapped)


def test_computed_buffers_are_ignored():
    gpt2, llama = families.random_model("gpt2"), families.random_model("llama")
    mask = np.ones((1, 1, 32, 32), np.float32)
    old = {"h.0.attn.bias": mask, "transformer.h.1.attn.masked_bias": mask[0, 0, 0, 0]}
    assert_same(filled(gpt2, arrays_of(gpt2) | old), gpt2)
    speeds = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    assert_same(filled(llama, arrays_of(llama) | speeds), llama)


# ---- a head that is the embedding


def test_a_tied_head_may_be_there_too():
    model = families.random_model("llama-tied")
    there = arrays_of(model)
    assert "lm_head.weight" not in there
    there["lm_head.weight"] = there["model.embed_tokens.weight"].copy()
    assert_same(filled(model, there), model)


def test_a_tied_head_that_differs_is_no_tied_head():
    model = families.random_model("llama-tied")
    there = arrays_of(model)
    there["lm_head.weight"] = there["model.embed_tokens.weight"] + 1
    assert 'write "tie_word_embeddings": false' in refused(model, there)


def test_a_head_of_its_own_must_be_there():
    model = families.random_model("llama")
    there = arrays_of(model)
    del there["lm_head.weight"]
    assert "lm_head.weight is missing" in refused(model, there)


# ---- what does not fit


def test_missing_unexpected_and_wrong_tensors_are_named():
    model = families.random_model("llama")
    there = arrays_of(model)
    name = "model.layers.1.mlp.up_proj.weight"  # [24, 16]
    assert "layers.1.mlp.up_proj.weight is missing" in refused(
        model, {k: v for k, v in there.items() if k != name}
    )
    message = refused(model, there | {name: np.zeros((16, 24), np.float32)})
    assert "layers.1.mlp.up_proj.weight is [16, 24], but config.json asks for [24, 16]" in message
    broken = there[name].copy()
    broken[1, 2] = np.nan
    assert "layers.1.mlp.up_proj.weight is not finite" in refused(model, there | {name: broken})
    message = refused(model, there | {"model.layers.2.mlp.up_proj.weight": there[name]})
    assert "layers.2.mlp.up_proj.weight is not part of a llama model of 2 layers" in message
    assert "is a reward model" in refused(model, there | {"score.weight": np.zeros((1, 16), np.float32)})


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_vocabulary_that_does_not_fit_says_both_sizes(name):
    model = families.random_model("llama")
    message = refused(model, arrays_of(model) | {name: np.zeros((50, 16), np.float32)})
    assert "has 50 tokens, but config.json's vocab_size is 41" in message


def test_arrays_without_a_place_are_not_dropped_in_silence():
    model = families.random_model("llama-tied")
    with pytest.raises(UserError, match=r"critic.weight has no place in a llama model's files"):
        tensors_of({"model": model, "critic": model.norm}, model.config, inside="model.")


# ---- number formats


@pytest.mark.parametrize("disk", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_number_formats(tmp_path, disk):
    """Whatever is on the disk is read as float32, with no rounding but that of the format."""
    model = families.random_model("llama")
    write_tensors(tmp_path, tensors_of(model, model.config, disk), 10**9)
    with open_tensors(tmp_path) as tensors:
        assert {t.array().dtype for t in tensors.values()} == {np.dtype(disk)}
        back = with_tensors(model, model.config, tensors, tmp_path)
    expected = jax.tree.map(lambda x: jnp.asarray(np.asarray(x).astype(disk).astype(np.float32)), model)
    assert {x.dtype for x in jax.tree.leaves(back)} == {jnp.dtype(jnp.float32)}
    assert_same(back, expected)


def test_other_formats_are_refused(tmp_path):
    model = families.random_model("llama")
    safetensors.numpy.save_file(
        arrays_of(model) | {"model.norm.weight": np.ones(16, np.int8)}, tmp_path / "model.safetensors"
    )
    with open_tensors(tmp_path) as tensors, pytest.raises(UserError, match=r"model.norm.weight is I8"):
        with_tensors(model, model.config, tensors, tmp_path)


# ---- files


def test_the_library_reads_what_we_write(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(5, ml_dtypes.bfloat16)}
    kinds = {"b": "F32", "a": "BF16"}
    write_file(
        tmp_path / "x.safetensors",
        {n: Tensor(x.shape, kinds[n], lambda x=x: x) for n, x in arrays.items()},
        {"format": "pt"},
    )
    with safetensors.safe_open(tmp_path / "x.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    made = []

    def make():
        assert not any(reference() is not None for reference in made), "the one before is still there"
        array = np.ones((3, 3), np.float32)
        made.append(weakref.ref(array))
        return array

    write_tensors(tmp_path, {str(n): Tensor((3, 3), "F32", make) for n in range(5)}, 10**9)
    assert len(made) == 5


def test_shards_hold_no_more_than_they_may(tmp_path):
    model = families.random_model("llama")
    write_tensors(
        tmp_path, tensors_of(model, model.config), 4000
    )  # the embedding alone has 41 * 16 * 4 = 2624
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors" and len(files) > 3
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == 4 * sum(x.size for x in jax.tree.leaves(model))
    for file in files:
        arrays = safetensors.numpy.load_file(tmp_path / file)
        assert sum(x.nbytes for x in arrays.values()) <= 4000
    with open_tensors(tmp_path) as tensors:
        assert_same(with_tensors(model, model.config, tensors, tmp_path), model)


def test_a_weight_that_is_not_finite_is_not_written(tmp_path):
    model = families.random_model("llama")
    broken = eqx.tree_at(lambda m: m.norm.weight, model, jnp.full(16, jnp.nan))
    with pytest.raises(UserError, match=r"model.norm.weight is not finite"):
        write_tensors(tmp_path, tensors_of(broken, broken.config), 10**9)


@pytest.fixture
def sharded(tmp_path):
    model = families.random_model("llama")
    write_tensors(tmp_path, tensors_of(model, model.config), 4000)
    return tmp_path


def unreadable(folder):
    with pytest.raises(UserError) as caught, open_tensors(folder):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/a.safetensors", "a\\b.safetensors", "C:a.safetensors", "a.bin", 3]
)
def test_an_index_reaches_no_other_folder(sharded, file):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = file
    path.write_text(json.dumps(index))
    assert "which is not a file of this folder" in unreadable(sharded)


def test_an_index_that_does_not_fit(sharded):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    places = index["weight_map"]
    path.write_text(json.dumps({"weight_map": places | {"model.extra": places["model.norm.weight"]}}))
    assert "lacks model.extra" in unreadable(sharded)
    path.write_text(json.dumps({"weight_map": {k: v for k, v in places.items() if k != "model.norm.weight"}}))
    assert "holds model.norm.weight, but" in unreadable(sharded)
    path.write_text(json.dumps({"weight_map": places | {"model.norm.weight": "gone.safetensors"}}))
    assert "there is no" in unreadable(sharded)
    for content, said in (("[]", "holds no JSON object"), ("{}", "has no weight_map")):
        path.write_text(content)
        assert said in unreadable(sharded)
    path.write_text("{")
    assert "is not readable JSON" in unreadable(sharded)


def test_a_file_that_is_cut_or_no_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.ones(100, np.float32)}, path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:5], b"", b"\xff" * 8 + whole[8:]):
        path.write_bytes(content)
        assert "is not a readable safetensors file" in unreadable(tmp_path)


def test_weights_that_can_hold_code_are_not_read(tmp_path):
    assert "there is no" in unreadable(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin can hold code" in unreadable(tmp_path)


def test_shapes_are_enough_to_fill():
    """No random weights are computed only to be replaced."""
    model = families.random_model("qwen3")
    config = model_config(families.CONFIGS["qwen3"])
    template = eqx.filter_eval_shape(lambda: new_model(config, jax.random.key(0)))
    assert_same(filled(template, arrays_of(model)), model)
