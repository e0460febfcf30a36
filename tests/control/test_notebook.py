"""What a run, an agent and the rest say of themselves in Python and in a notebook."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import proximo
from proximo import PPO, Config, with_options
from proximo.control.run import Run

OLD = Path(__file__).parents[1] / "data" / "version-0.1" / "cartpole"
TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=1, hidden=(4,))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Run(Path(shutil.copytree(OLD, "run")), proximo.load(OLD), "CartPole-v1")


@pytest.fixture(scope="module")
def model():
    return PPO("CartPole-v1", seed=0, **TINY).learn(16)


def test_a_run_tells_its_metrics_as_arrays_of_one_length(run):
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    metrics = run.metrics
    assert metrics["steps"].tolist() == [line["time/total_timesteps"] for line in lines]
    assert {len(column) for column in metrics.values()} == {len(lines)}
    assert metrics["train/loss"].tolist() == [line["train/loss"] for line in lines]


def test_a_metric_that_an_iteration_does_not_have_is_nan_there(run):
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    first = {k: v for k, v in json.loads(lines[0]).items() if k != "rollout/ep_rew_mean"}
    (run.folder / "metrics.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    returns = run.metrics["rollout/ep_rew_mean"]
    assert np.isnan(returns[0]) and np.isfinite(returns[1:]).all()


def test_a_run_tells_its_episodes(run):
    rows = [line.split(",") for line in (run.folder / "episodes.csv").read_text().splitlines()[1:]]
    assert run.episodes["returns"].tolist() == [float(row[2]) for row in rows]
    assert run.episodes["lengths"].tolist() == [int(row[3]) for row in rows]
    assert run.episodes["steps"].tolist() == [int(row[0]) for row in rows]


def test_a_run_writes_its_page(run):
    path = run.report()
    assert path == run.folder / "report.html" and "CartPole-v1" in path.read_text()


def test_each_says_in_one_short_line_what_it_is(run, model, tmp_path):
    config = with_options(Config("CartPole-v1"), steps=5, gamma=0.9)
    assert repr(config) == "Config('CartPole-v1', steps=5, gamma=0.9)"
    assert re.fullmatch(
        r"Run\('run': CartPole-v1, seed \d+, steps \d+, mean return .*, seconds \d+\)", repr(run)
    )
    assert repr(run.agent).startswith("Agent('CartPole-v1': Discrete(2) actions, ")
    assert re.fullmatch(r"PPO\('CartPole-v1', 16 steps, mean return .*\)", repr(model))
    assert repr(PPO("CartPole-v1")) == "PPO('CartPole-v1', not trained yet)"
    assert re.fullmatch(r"Iteration\(1: 16 steps, mean return .*, \d episodes ended\)", repr(model.last))
    model.save(tmp_path / "model")
    assert repr(PPO.load(tmp_path / "model")) == "PPO('CartPole-v1', loaded)"


def test_a_run_whose_folder_is_gone_can_still_be_printed(run):
    shutil.rmtree(run.folder)
    assert repr(run) == "Run('run': unknown environment, steps 0)"
    assert "no episode has ended yet" in run._repr_html_()


def test_a_notebook_shows_a_table_and_the_learning_curve_without_a_style_sheet(run):
    page = ElementTree.fromstring(run._repr_html_())  # well-formed
    cells = [cell.text for cell in page.iter("td")]
    assert cells[0] == "CartPole-v1" and cells[-1] == "run"
    (line,) = page.iter("polyline")
    assert len(line.get("points").split()) == len(run.metrics["rollout/ep_rew_mean"])
    assert line.get("stroke") == "currentColor"


def test_what_a_notebook_shows_is_escaped(run, tmp_path):
    config = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps(config | {"env": "<script>alert(1)</script>"}))
    evil = Run(run.folder.rename("<b>run"), run.agent, None)._repr_html_()
    assert "<script" not in evil and "<b>" not in evil
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in evil and "&lt;b&gt;run" in evil


def test_pandas_reads_a_run(run):
    """Where it is not installed: one JSON object in each line is what `read_json(..., lines=True)` reads."""
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    pd = pytest.importorskip("pandas")
    table = pd.read_json(path, lines=True)
    assert table["time/total_timesteps"].tolist() == run.metrics["steps"].tolist()
