"""A folder of another kind of run is not half read: the command for it is named."""

import json

import pytest

from proximo.cli import main

LANGUAGE = {"command": "sft", "options": {}}


@pytest.fixture
def folder(tmp_path):
    """A run of a language model, as far as its kind can be told."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(LANGUAGE))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    return tmp_path


def refused(capsys, *words):
    """What is said in one line instead."""
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("command", ["evaluate", "watch", "export"])
def test_a_run_of_a_language_model_goes_to_its_own_commands(folder, capsys, command):
    more = ["--onnx"] if command == "export" else []
    said = refused(capsys, command, folder, *more)
    assert f"{folder} is a run of `proximo lm sft`: `proximo lm eval {folder}` measures it" in said
    assert f"`proximo lm chat {folder}` chats with it" in said


def test_it_is_resumed_by_its_own_command(folder, capsys):
    said = refused(capsys, "train", "--resume", folder)
    assert f"resume it with `proximo lm sft --resume {folder}`" in said


def test_a_reward_model_writes_nothing(folder, capsys):
    (folder / "config.json").write_text(json.dumps(LANGUAGE | {"command": "reward"}))
    assert "lm chat" not in refused(capsys, "evaluate", folder)


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_model_of_the_hub_is_one_too(tmp_path, capsys, name):
    (tmp_path / name).write_text(json.dumps({"model_type": "gpt2"}))
    assert "holds a language model: `proximo lm eval" in refused(capsys, "evaluate", tmp_path)


def test_a_model_of_the_hub_is_no_run_to_report_on(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert "a report needs runs, but" in refused(capsys, "report", tmp_path)


def test_of_several_runs_one_is_to_be_named(tmp_path, capsys):
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "config.json").write_text("{}")
    said = refused(capsys, "watch", tmp_path)  # `evaluate` sums several up
    assert f"holds 2 runs: name one of them ({tmp_path / 'seed-0'}, {tmp_path / 'seed-1'})" in said


def test_what_stands_in_a_file_is_no_command(folder, capsys):
    (folder / "config.json").write_text(json.dumps(LANGUAGE | {"command": "sft`; rm -rf ~\n"}))
    assert "`proximo lm sftrmrf`" in refused(capsys, "evaluate", folder)


@pytest.mark.parametrize(
    "words",
    [
        ("lm", "eval", "RUN", "--data", "x.jsonl"),
        ("lm", "generate", "RUN", "--prompt", "x"),
        ("lm", "chat", "RUN"),
        ("lm", "sft", "RUN", "--data", "x.jsonl"),
        ("lm", "ppo", "--resume", "RUN"),
    ],
    ids=lambda words: words[1],
)
@pytest.mark.parametrize("kind", ["run", "model"])
def test_a_policy_is_no_language_model(tmp_path, capsys, words, kind):
    pytest.importorskip("tokenizers")
    if kind == "run":
        (tmp_path / "config.json").write_text(json.dumps({"env": "CartPole-v1", "update": {}}))
    else:
        (tmp_path / "model.json").touch()
    said = refused(capsys, *(tmp_path if word == "RUN" else word for word in words))
    assert f"is a run of `proximo train`, not a language model: `proximo evaluate {tmp_path}` meas" in said
