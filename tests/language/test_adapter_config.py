"""Which of PEFT's adapters are W + alpha / rank * B A, by what their `adapter_config.json` says."""

import json

import pytest

from proximo.errors import UserError
from proximo.language.files.adapter_config import adapter_config, of_map
from proximo.language.files.adapter_files import base_folder

# Every field that PEFT 0.21 writes for plain adapters.
PLAIN = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers"},
    "base_model_name_or_path": "base",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}


def read(tmp_path, **fields):
    (tmp_path / "adapter_config.json").write_text(json.dumps(PLAIN | fields))
    return adapter_config(tmp_path)


def refusal(tmp_path, **fields):
    with pytest.raises(UserError) as caught:
        read(tmp_path, **fields)
    said = str(caught.value)
    assert "\n" not in said and len(said) - len(str(tmp_path)) < 300
    return said


# Adapters that PEFT begins in one of these ways change nothing of the base: its logits are ours, to 6e-6.
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"init_lora_weights": False},
        {"init_lora_weights": None},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "rank_pattern": {"q_proj": 6}},
        {"init_lora_weights": "mica"},
        {"use_rslora": True, "use_rslora_of_another_name": None, "a_list_of_another_version": []},
        {"exclude_modules": ["layers.0"], "layers_to_transform": [1], "target_modules": ".*q_proj"},
    ],
    ids=str,
)
def test_adapters_that_leave_the_base_as_it_was_are_plain(tmp_path, fields):
    assert read(tmp_path, **fields)["r"] == 4


@pytest.mark.parametrize(
    "begun",
    ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "of_next_year", {"a": 1}],
    ids=str,
)
def test_adapters_that_changed_the_base_are_refused(tmp_path, begun):
    """W = residual + B A when they begin: the residual is nowhere, and W + B A counts B A twice."""
    said = refusal(tmp_path, init_lora_weights=begun)
    assert f"init_lora_weights {begun!r} changed the base model's own weights: save the adapters as" in said
    assert "path_initial_model_for_weight_conversion" in said and "merge_and_unload" in said


MERGED = "merge it with PEFT (merge_and_unload) and give the merged model"


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("use_dora", True, MERGED),
        ("use_qalora", True, MERGED),
        ("modules_to_save", ["score"], MERGED),
        ("bias", "all", MERGED),
        ("bias", "lora_only", MERGED),
        ("lora_bias", True, MERGED),
        ("layer_replication", [[0, 2], [1, 2]], MERGED),
        ("trainable_token_indices", [3], MERGED),
        ("target_parameters", ["q_proj.weight"], MERGED),
        ("kasa_config", {"beta": 1e-4, "gamma": 1e-3}, MERGED),
        ("monteclora_config", {"num_samples": 2}, MERGED),
        ("velora_config", {"num_groups": 2}, MERGED),
        ("use_bdlora", {"nblocks": 2}, MERGED),
        ("megatron_config", {"hidden_size": 8}, MERGED),
        ("alora_invocation_tokens", [3, 4], "so it cannot be merged: train a plain LoRA"),
        ("arrow_config", {"top_k": 3}, "give one of them"),
        ("a_field_of_next_year", 0.5, MERGED),
    ],
)
def test_a_field_that_is_not_on_the_list_is_refused_by_name(tmp_path, field, value, instead):
    said = refusal(tmp_path, **{field: value})
    assert f"adapter_config.json: {field} " in said and said.endswith(instead)
    assert "is not plain LoRA" in said


def test_a_switch_that_is_a_word_is_refused(tmp_path):
    assert "use_rslora is 'false': it must be true or false" in refusal(tmp_path, use_rslora="false")


def test_the_base_is_taken_in_the_version_that_the_adapters_name(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, revision=None, **_):
        asked.update(name=name, revision=revision)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    place = tmp_path / "adapters"
    place.mkdir()
    read(place, base_model_name_or_path="somebody/something", revision="v1.1")
    assert base_folder(place) == tmp_path
    assert asked == {"name": "somebody/something", "revision": "v1.1"}


@pytest.mark.parametrize(("hub", "rank"), [("0.attn.q_proj", 4), ("q_proj", 4), ("0.up_proj", 8), ("k", 8)])
def test_a_pattern_is_whole_names_at_the_end(hub, rank):
    assert of_map(hub, {"rank_pattern": {"q_proj": 4, "proj": 2, "attn": 1}}, "rank_pattern", 8) == rank
