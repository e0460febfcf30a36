"""Run folders that version 0.1 wrote (`tests/data/version-0.1`): read, played, reported and gone on with."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import proximo
from proximo.cli import main

FOLDERS = Path(__file__).parent.parent / "data" / "version-0.1"
EXPECTED = json.loads((FOLDERS / "expected.json").read_text())  # what version 0.1 said of the same folders
OBSERVATIONS = {
    "cartpole": [[0.01, 0.02, 0.03, 0.04], [-0.1, 0.5, -0.05, -0.4]],
    "pendulum": [[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]],
}


@pytest.fixture
def copied(tmp_path):
    """A run folder of that version, which may be written to."""
    return lambda name: shutil.copytree(FOLDERS / name, tmp_path / name)


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("of_a_checkpoint", [False, True])
def test_a_policy_acts_as_it_did(name, of_a_checkpoint, copied):
    folder = copied(name)
    if of_a_checkpoint:
        shutil.rmtree(folder / "model")  # the newest checkpoint is the same policy
    agent, observations = proximo.load(folder), np.array(OBSERVATIONS[name], np.float32)
    np.testing.assert_allclose(agent.act(observations), EXPECTED[name]["act"], atol=1e-6)
    np.testing.assert_allclose(agent.value(observations), EXPECTED[name]["value"], atol=1e-6)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_run_goes_on(name, copied):
    folder = copied(name)
    done = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["time/total_timesteps"]
    with warnings.catch_warnings():  # another machine or version is told of
        warnings.simplefilter("ignore")
        run = proximo.resume(folder, steps=done + 200)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["time/total_timesteps"] >= done + 200
    assert rows[0]["time/iterations"] == 1  # its own log is still there


def test_a_language_model_answers_as_it_did():
    model = proximo.language.load(FOLDERS / "lm-ppo")
    assert model.generate("1 ", greedy=True, max_new_tokens=6) == [EXPECTED["lm-ppo"]["greedy"]]


def test_a_report_of_them(copied, tmp_path, capsys):
    assert main(["report", str(copied("cartpole")), "--out", str(tmp_path / "page.html")]) == 0
    assert "CartPole-v1" in (tmp_path / "page.html").read_text()
