"""What a command was not asked to change is as it was: the numbers' width, and how the model generates."""

import json
from dataclasses import replace

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from small_models import small_model
from workplace import SYMBOLS, lines

import proximo.language as language
from proximo.language.files.folder import load_model, save_model
from proximo.language.running import COMMANDS, method
from proximo.language.text.tokenizer import character_tokenizer
from proximo.options import options_from

TOKENIZER = character_tokenizer(SYMBOLS)
MODEL = small_model(vocabulary=TOKENIZER.vocab_size, layers=1)
DEFAULTS = {
    "bos_token_id": 2,
    "do_sample": True,
    "eos_token_id": [1, 5],
    "repetition_penalty": 1.05,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
    "transformers_version": "5.0.0",
}
DATA = {
    "sft": [{"text": "1 2"}] * 4,
    "reward": [{"prompt": "1 ", "chosen": "1", "rejected": "2"}] * 4,
    "dpo": [{"prompt": "1 ", "chosen": "1", "rejected": "2"}] * 4,
    "ppo": [{"prompt": "1 "}] * 4,
    "grpo": [{"prompt": "1 "}] * 4,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder in bfloat16 with generation defaults, as on the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "base"
    config = replace(MODEL.config, generation=json.dumps(DEFAULTS), dtype="bfloat16")
    save_model(folder, replace(MODEL, config=config), replace(TOKENIZER, eos_ids=(1, 5)))
    return folder


def saved(command, base, place, **given):
    """A command's trainer and what it saves, before anything is learned."""
    kind, build = method(command)
    asked = {"data": str(lines(place / "data.jsonl", DATA[command])), "model": str(base)} | given
    sampling = {"response_length": 8, "episodes": 64} if command in ("ppo", "grpo") else {}
    trainer = build(options_from(kind, asked | sampling), *([[len]] if sampling else []))
    state = trainer.begin()
    trainer.save(state, place / "model")
    return state, place / "model"


def kinds(folder):
    with safetensors.safe_open(folder / "model.safetensors", framework="numpy") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118, it is no dict


def in_json(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}], ids=["whole", "adapters"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_is_saved_as_wide_as_it_came(base, tmp_path, command, lora):
    state, folder = saved(command, base, tmp_path, **lora)
    assert kinds(folder) == {"BF16"} and in_json(folder, "config")["dtype"] == "bfloat16"
    size, before = ((place / "model.safetensors").stat().st_size for place in (folder, base))
    assert size < 1.1 * before
    # What learns is float32, and so is every checkpoint, which a run goes on from bit for bit.
    assert {x.dtype for x in jax.tree.leaves(state.weights)} == {jnp.dtype(jnp.float32)}
    if lora and command != "reward":
        with safetensors.safe_open(tmp_path / "adapter/adapter_model.safetensors", framework="numpy") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118


@pytest.mark.parametrize("command", COMMANDS)
def test_how_a_model_generates_stays(base, tmp_path, command):
    _, folder = saved(command, base, tmp_path)
    assert in_json(folder, "generation_config") == DEFAULTS | {"pad_token_id": 0}
    (tmp_path / "other").mkdir()
    _, again = saved(command, base, tmp_path / "other", eos_token="5")
    assert in_json(again, "generation_config")["eos_token_id"][0] == TOKENIZER.backend.token_to_id("5")
    assert in_json(again, "generation_config")["temperature"] == 0.6


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"save_dtype": "float32"}, "F32"),
        ({"save_dtype": "float16"}, "F16"),
        ({"from_scratch": True}, "F32"),
        ({"from_scratch": True, "save_dtype": "bfloat16"}, "BF16"),
        ({"precision": "bfloat16"}, "BF16"),
    ],
    ids=str,
)
def test_the_width_can_be_said(base, tmp_path, given, kind):
    _, folder = saved("sft", base, tmp_path, **given)
    assert kinds(folder) == {kind}
    assert in_json(folder, "generation_config")["temperature"] == 0.6


def test_a_float32_model_stays_one(tmp_path):
    save_model(tmp_path / "base", MODEL, TOKENIZER)
    _, folder = saved("sft", tmp_path / "base", tmp_path, precision="bfloat16")
    assert kinds(folder) == {"F32"}


def test_a_model_from_python_is_saved_as_it_came_and_transformers_reads_it(base, tmp_path):
    import torch

    language.load(base).save(tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    theirs = families.transformers().AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert theirs.dtype == torch.bfloat16
    said = theirs.generation_config
    assert (said.temperature, said.top_p, said.top_k, said.bos_token_id) == (0.6, 0.95, 20, 2)
    assert (said.eos_token_id, said.pad_token_id) == ([1, 5], 0)


def test_what_float16_cannot_hold_is_saved_in_float32_and_said(tmp_path):
    """Float16 ends at 65504. At a run's end it is no time to refuse."""
    large = replace(MODEL, embedding=MODEL.embedding.at[3, 0].set(1e5))
    save_model(tmp_path / "base", large, TOKENIZER)
    with pytest.warns(UserWarning, match="embedding is too large for float16: the model is saved in float32"):
        _, folder = saved("sft", tmp_path / "base", tmp_path, save_dtype="float16")
    assert kinds(folder) == {"F32"}
    np.testing.assert_array_equal(load_model(folder).embedding, large.embedding)


def test_mixed_widths_are_those_of_most_numbers(base, tmp_path):
    """Norms in float32 among matrices in bfloat16, as some folders have them."""
    arrays = {}
    with safetensors.safe_open(base / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118, it is no dict
            arrays[name] = file.get_tensor(name).float() if "norm" in name else file.get_tensor(name)
    from safetensors.torch import save_file

    folder = families.write_config(tmp_path / "mixed", in_json(base, "config"))
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    assert kinds(folder) == {"BF16", "F32"} and load_model(folder).config.dtype == "bfloat16"
