"""Model folders: whole or not there, checked, and nothing in them is executed."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.errors import UserError
from proximo.language.files import folder
from proximo.language.files.folder import (
    load_config,
    load_model,
    load_reward_model,
    local_folder,
    save_model,
    save_reward_model,
)
from proximo.language.model.adapters import LoRA, with_adapters
from proximo.language.model.heads import RewardModel, new_reward_model
from proximo.language.text.tokenizer import load_tokenizer, word_tokenizer
from proximo.runs.named import named_leaves
from proximo.runs.sealed import atomic_folder, read_folder


@pytest.fixture(scope="module")
def model():
    return families.random_model("llama")


@pytest.fixture(scope="module")
def reward(model):
    return families.random_like(new_reward_model(model, jax.random.key(0)))


@pytest.fixture
def saved(model, tmp_path):
    save_model(tmp_path / "model", model)
    return tmp_path / "model"


def came_with(model, **said):
    """The model as if its folder had said so."""
    return replace(model, config=replace(model.config, **said))


def assert_same(one, other):
    for name, array in named_leaves(one).items():
        np.testing.assert_array_equal(array, named_leaves(other)[name], err_msg=name)


def refused(act, *arguments):
    with pytest.raises(UserError) as caught:
        act(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(folder, **fields):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | fields))
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


# ---- what is written


def test_there_and_back(model, saved):
    back = load_model(saved)
    assert_same(back, model)
    assert load_config(saved) == back.config


def test_the_files(model, tmp_path):
    tokenizer = word_tokenizer(["up", "down"])
    save_model(tmp_path / "m", came_with(model, generation='{"temperature": 0.7}'), tokenizer)
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors", "manifest.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["dtype"] == "float32"
    assert (config["pad_token_id"], config["eos_token_id"]) == (tokenizer.pad_id, tokenizer.eos_id)
    ends = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
    generation = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert generation == {"temperature": 0.7} | ends
    assert load_tokenizer(tmp_path / "m").encode("up down") == tokenizer.encode("up down")


def test_every_end_of_a_response_comes_back(model, tmp_path):
    tokenizer = replace(word_tokenizer(["up", "down"]), eos_ids=(1, 4))
    save_model(tmp_path / "m", model, tokenizer)
    assert load_tokenizer(tmp_path / "m").eos_ids == (1, 4)


def test_the_manifest_is_that_of_every_sealed_folder(saved):
    read_folder(saved, ["config.json", "model.safetensors"])


def test_transformers_loads_shards_of_half_the_size(model, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(folder, "SHARD", 3000)
    save_model(tmp_path / "m", came_with(model, dtype="bfloat16"))
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 2
    theirs = families.transformers().AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert theirs.dtype == torch.bfloat16
    rounded = model.blocks[1].mlp.down.weight.astype(jnp.bfloat16).T
    down = theirs.model.layers[1].mlp.down_proj.weight
    np.testing.assert_array_equal(down.float().detach().numpy(), rounded.astype(jnp.float32))


def test_a_model_with_adapters_is_not_saved_as_if_it_had_none(model, tmp_path):
    adapted = with_adapters(model, LoRA(rank=2), jax.random.key(0))
    assert "has no place in a llama model's files: merge adapters" in refused(
        save_model, tmp_path / "m", adapted
    )
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(model, tmp_path):
    tokenizer = word_tokenizer([f"word{n}" for n in range(41)])  # and PAD and EOS
    assert "but the model only 41" in refused(save_model, tmp_path / "m", model, tokenizer)


# ---- whole or not there


def test_a_failed_write_leaves_what_was_there(model, saved):
    broken = eqx.tree_at(lambda m: m.norm.weight, model, jnp.full(16, jnp.inf))
    assert "model.norm.weight is not finite" in refused(save_model, saved, broken)
    assert_same(load_model(saved), model)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_rename_that_fails_leaves_what_was_there(model, saved, monkeypatch):
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        save_model(saved, families.random_model("llama", seed=1))
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert_same(load_model(saved), model)


def test_an_older_model_is_replaced_whole(model, saved, monkeypatch):
    """Three files became one: none of the old ones may stay behind."""
    with monkeypatch.context() as patch:
        patch.setattr(folder, "SHARD", 3000)
        save_model(saved, model)
    assert not (saved / "model.safetensors").exists()
    other = families.random_model("llama", seed=1)
    save_model(saved, other)
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors", "manifest.json"}
    assert_same(load_model(saved), other)


def test_files_of_others_are_not_replaced(model, saved, tmp_path):
    (saved / "notes.txt").write_text("mine")
    assert "holds other files (notes.txt)" in refused(save_model, saved, model)
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(save_model, tmp_path / "file", model)


def test_a_crash_between_the_two_renames_is_mended(model, saved):
    saved.rename(saved.with_name(".model.old"))
    with atomic_folder(saved) as partial:
        assert_same(load_model(saved), model)  # the old one is back
        (partial / "new").write_text("")
    assert (saved / "new").exists()


def test_what_was_changed_since_is_noticed(model, saved):
    path = saved / "model.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1  # one bit of one weight, which no shape would show
    path.write_bytes(whole)
    assert "has changed since it was saved" in refused(load_model, saved)
    (saved / "manifest.json").unlink()  # as a folder of the Hub, which has none
    load_model(saved)


def test_a_manifest_that_does_not_fit(saved):
    path = saved / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"name": "a manifest of somebody else"}))
    load_model(saved)
    path.write_text(json.dumps(content | {"manifest_sha256": "0"}))
    assert "has changed since it was saved" in refused(load_model, saved)
    path.write_text(json.dumps(content))
    (saved / "model-00001-of-00001.safetensors").write_bytes(b"")
    assert "was added after" in refused(load_model, saved)
    (saved / "model-00001-of-00001.safetensors").unlink()
    (saved / "config.json").unlink()
    assert "config.json cannot be read" in refused(load_model, saved)


# ---- reward models


def test_a_reward_model_there_and_back(reward, tmp_path):
    model = RewardModel(reward.trunk, reward.score, -1.25)
    save_reward_model(tmp_path / "m", model)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"} and config["proximo_reward_shift"] == -1.25
    back = load_reward_model(tmp_path / "m")
    assert back.shift == -1.25 and back.trunk.head is None
    assert_same(back, model)


def test_reward_models_and_language_models_are_not_confused(reward, saved, tmp_path):
    assert "score.weight is missing (it is not a reward model" in refused(load_reward_model, saved)
    save_reward_model(tmp_path / "r", reward)
    assert "lm_head.weight is missing" in refused(load_model, tmp_path / "r")
    tied = families.random_like(new_reward_model(families.random_model("llama-tied"), jax.random.key(0)))
    save_reward_model(tmp_path / "t", tied)
    assert "is a reward model" in refused(load_model, tmp_path / "t")
    assert "has no head for tokens" in refused(save_model, tmp_path / "l", reward.trunk)


def test_a_language_model_made_from_a_reward_model_is_no_classifier(tmp_path):
    save_reward_model(
        tmp_path / "r",
        families.random_like(new_reward_model(families.random_model("llama-tied"), jax.random.key(0))),
    )
    save_model(tmp_path / "l", load_reward_model(tmp_path / "r").trunk)
    config = json.loads((tmp_path / "l" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not {"id2label", "label2id", "proximo_reward_shift"} & set(config)


def test_two_labels_are_no_reward(reward, tmp_path):
    two = eqx.tree_at(lambda m: m.score.weight, reward, jnp.ones((16, 2)))
    save_reward_model(tmp_path / "m", two)
    assert "score.weight is [2, 16], but config.json asks for [1, 16]" in refused(
        load_reward_model, tmp_path / "m"
    )


def test_a_reward_model_needs_to_name_its_padding(tmp_path):
    config = {k: v for k, v in families.CONFIGS["llama"].items() if k != "pad_token_id"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.CONFIGS, "no-padding", config)
        reward = families.random_like(
            new_reward_model(families.random_model("no-padding"), jax.random.key(0))
        )
    assert "must name PAD" in refused(save_reward_model, tmp_path / "m", reward)
    save_reward_model(tmp_path / "m", reward, word_tokenizer(["up", "down"]))


@pytest.mark.parametrize("shift", ["1", None, float("nan"), [1]])
def test_a_shift_that_is_no_number(reward, tmp_path, shift):
    save_reward_model(tmp_path / "m", reward)
    folder = changed(tmp_path / "m", proximo_reward_shift=shift)
    assert "proximo_reward_shift is" in refused(load_reward_model, folder)


# ---- what is refused


def test_nothing_in_a_folder_is_executed(saved, tmp_path):
    code = f"open({str(tmp_path / 'executed')!r}, 'w')"
    (saved / "modeling_evil.py").write_text(code)
    folder = changed(saved, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    save_model(tmp_path / "again", load_model(folder))
    assert not (tmp_path / "executed").exists()
    assert "auto_map" not in (tmp_path / "again" / "config.json").read_text()


def test_folders_without_a_model(tmp_path):
    assert "it has no config.json" in refused(load_model, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "these are adapters" in refused(load_model, tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "holds no JSON object" in refused(load_model, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ["llama"]}')
    assert "is not supported: use one of gpt2, llama" in refused(load_model, tmp_path)


def test_quantised_models_are_refused(saved):
    assert "quantised" in refused(load_model, changed(saved, quantization_config={"bits": 4}))


UNSUPPORTED = {
    "rope_type 'dynamic' is not supported": (
        "llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    ),
    "partial_rotary_factor": ("llama", {"partial_rotary_factor": 0.5}),
    "hidden_act 'relu'": ("llama", {"hidden_act": "relu"}),
    "has no 'hidden_size'": ("llama", {"hidden_size": None}),
    "cannot be read": ("llama", {"num_attention_heads": 0, "head_dim": None}),
    "do not divide 4 heads": ("llama", {"num_key_value_heads": 3}),
    "bidirectional": ("gemma2", {"use_bidirectional_attention": True}),
    "cross": ("gpt2", {"add_cross_attention": True}),
    "layer_types": ("gemma3", {"layer_types": ["full_attention"]}),
}


@pytest.mark.parametrize("message", UNSUPPORTED)
def test_architectures_that_are_not_supported(message, tmp_path):
    name, fields = UNSUPPORTED[message]
    config = families.CONFIGS[name] | fields
    families.write_config(tmp_path, {k: v for k, v in config.items() if v is not None})
    assert message in refused(load_config, tmp_path)


# ---- the Hub


def test_only_harmless_files_are_fetched(saved, monkeypatch):
    """As huggingface_hub filters a repository that has everything a repository can have."""
    from huggingface_hub.utils import filter_repo_objects

    asked = {}

    def snapshot_download(name, allow_patterns, ignore_patterns, **_):
        asked.update(name=name, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load_model("somebody/something-0.5B")
    assert asked.pop("name") == "somebody/something-0.5B"
    good = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "merges.txt",
    ]
    bad = [
        "modeling.py",
        "pytorch_model.bin",
        "model.pt",
        "onnx/model.json",
        "original/a.safetensors",
        "x.pkl",
    ]
    assert list(filter_repo_objects([*good, *bad], **asked)) == good


def test_no_network_is_one_line(monkeypatch, tmp_path):
    def snapshot_download(*_, **__):
        raise ConnectionError("no route\nto the Hub")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    message = refused(load_model, "somebody/something")
    assert (
        "there is no folder somebody/something, and the Hub's download failed (no route to the Hub)"
        in message
    )


def test_no_library_is_one_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install" in refused(load_model, "somebody/something")


@pytest.mark.parametrize("name", ["missing", "/missing/folder", "../up/here", "a/b/c", "a b/c"])
def test_what_is_no_id_is_not_asked_for(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace())  # would fail otherwise
    monkeypatch.chdir(tmp_path)
    assert "it is no id of the Hub" in refused(local_folder, name)
