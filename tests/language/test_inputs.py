"""A run resumes with the files that it started with, or not at all."""

import json
from dataclasses import dataclass, field

import pytest

from proximo.errors import UserError
from proximo.language.inputs import refuse_other_inputs, sums_of_inputs


@dataclass(frozen=True)
class Paid:
    reward_model: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    model: str
    data: str
    evaluation_data: str | None = None
    rewards: Paid = field(default_factory=Paid)
    other: str = "prompts.jsonl"


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n')
    for name in ("base", "judge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(bytes(8))
    return Options("base", "texts.jsonl", rewards=Paid(("judge",)))


def test_every_file_and_folder_counts(options):
    assert set(sums_of_inputs(options)) == {"base", "texts.jsonl", "judge"}
    assert sums_of_inputs(options) == sums_of_inputs(options)


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("texts.jsonl", b'{"text": "b"}\n'),
        ("base/config.json", b'{"vocab_size": 3}'),
        ("judge/model.safetensors", bytes(9)),
        ("judge/model-2.safetensors", bytes(8)),
    ],
)
def test_a_change_is_refused(options, tmp_path, place, content):
    began_with = json.loads(json.dumps(sums_of_inputs(options)))
    refuse_other_inputs(began_with, options)
    (tmp_path / place).write_bytes(content)
    with pytest.raises(UserError, match=f"{place.split('/')[0]} has changed since the run started"):
        refuse_other_inputs(began_with, options)


def test_a_model_of_ours_is_known_by_its_manifest(options, tmp_path):
    # Weights of the same size, trained further: config.json and sizes are the same, the manifest is not.
    (tmp_path / "base" / "manifest.json").write_text('{"sha256": {"model.safetensors": "1"}}')
    began_with = sums_of_inputs(options)
    (tmp_path / "base" / "manifest.json").write_text('{"sha256": {"model.safetensors": "2"}}')
    with pytest.raises(UserError, match="base has changed since the run started"):
        refuse_other_inputs(began_with, options)


def test_adapters_are_another_model_on_another_base(options, tmp_path):
    (tmp_path / "adapter").mkdir()
    described = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(described))
    adapted = Options("adapter", "texts.jsonl")
    began_with = sums_of_inputs(adapted)
    refuse_other_inputs(began_with, adapted)
    (tmp_path / "base" / "model.safetensors").write_bytes(bytes(9))
    with pytest.raises(UserError, match="adapter has changed since the run started"):
        refuse_other_inputs(began_with, adapted)


def test_a_run_of_an_earlier_version_is_let_through(options):
    refuse_other_inputs(None, options)


def test_a_file_that_is_gone(options, tmp_path):
    (tmp_path / "texts.jsonl").unlink()
    with pytest.raises(UserError, match=r"texts.jsonl cannot be read \(No such file or directory\)"):
        sums_of_inputs(options)


def test_another_revision_of_the_hub_is_another_model(options, tmp_path, monkeypatch):
    # The same names and sizes: what differs is what the Hub's revision is called.
    for revision in ("a1", "b2"):
        (tmp_path / revision).mkdir()
        (tmp_path / revision / "config.json").write_text("{}")
    fetched = {"owner/model": tmp_path / "a1"}
    monkeypatch.setattr("proximo.language.inputs.local_folder", fetched.get)
    hub = Options("owner/model", "texts.jsonl")
    began_with = sums_of_inputs(hub)
    refuse_other_inputs(began_with, hub)
    fetched["owner/model"] = tmp_path / "b2"
    with pytest.raises(UserError, match="owner/model has changed since the run started"):
        refuse_other_inputs(began_with, hub)
