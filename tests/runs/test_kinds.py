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


@pytest.mark.parametrize("command", ["evaluate", "watch", "export", "report"])
def test_a_run_of_a_language_model_goes_to_its_own_commands(folder, capsys, command):
    more = ["--onnx"] if command == "export" else []
    said = refused(capsys, command, folder, *more)
    assert f"{folder} is a run of `proximo lm sft`: `proximo lm eval {folder}` measures it" in said
    assert not (folder / "report.html").exists()


def test_it_is_resumed_by_its_own_command(folder, capsys):
    assert f"`proximo lm sft --resume {folder}` goes on" in refused(capsys, "train", "--resume", folder)


def test_a_reward_model_writes_nothing(folder, capsys):
    (folder / "config.json").write_text(json.dumps(LANGUAGE | {"command": "reward"}))
    assert "lm generate" not in refused(capsys, "evaluate", folder)


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_model_of_the_hub_is_one_too(tmp_path, capsys, name):
    (tmp_path / name).write_text(json.dumps({"model_type": "gpt2"}))
    assert "holds a language model: `proximo lm eval" in refused(capsys, "evaluate", tmp_path)


def test_among_other_runs_it_is_left_out_of_a_report(folder, tmp_path_factory, capsys):
    runs = tmp_path_factory.mktemp("runs")
    (runs / "language").mkdir()
    (runs / "language" / "config.json").write_text(json.dumps(LANGUAGE))
    (runs / "policy").mkdir()
    (runs / "policy" / "config.json").write_text(json.dumps({"env": "CartPole-v1", "seed": 0, "update": {}}))
    assert main(["report", str(runs), "--json"]) == 0
    said = capsys.readouterr().out
    assert "CartPole-v1" in said and "language" not in said


def test_of_several_runs_one_is_to_be_named(tmp_path, capsys):
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "config.json").write_text("{}")
    said = refused(capsys, "evaluate", tmp_path)
    assert f"holds 2 runs: name one of them ({tmp_path / 'seed-0'}, {tmp_path / 'seed-1'})" in said


def test_what_stands_in_a_file_is_no_command(folder, capsys):
    (folder / "config.json").write_text(json.dumps(LANGUAGE | {"command": "sft`; rm -rf ~\n"}))
    assert "`proximo lm sftrmrf`" in refused(capsys, "evaluate", folder)


def test_a_policy_is_no_language_model(tmp_path, capsys):
    pytest.importorskip("tokenizers")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "config.json").write_text(json.dumps({"env": "CartPole-v1", "update": {}}))
    said = refused(capsys, "lm", "generate", tmp_path, "--prompt", "x")
    assert f"is a run of `proximo train`, no language model: `proximo evaluate {tmp_path}`" in said
