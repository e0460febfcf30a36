"""`proximo runs` lists what there is and how it stands, without loading JAX."""

import json
import os
import subprocess
import sys

import pytest
from probes import Ends, Probe, small

from proximo.cli import main
from proximo.control.members import train_members
from proximo.control.run import train_config
from proximo.control.train import training
from proximo.errors import UpdateDiverged, UserError
from proximo.runs.lock import Lock, is_held
from proximo.runs.overview import Ensemble, overview, summary_of, table

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(4,), steps=64)


def made(path, last=None, outcome=None, date=1e9, **config):
    """A run folder, as far as the list reads one."""
    path.mkdir(parents=True)
    config = {"env": "CartPole-v1", "preset": "default", "seed": 0, "steps": 100, "update": {}} | config
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text('{"time/total_timesteps": 1}\n' + json.dumps(last or {}) + "\n{torn")
    os.utime(path / "metrics.jsonl", (date, date))
    if outcome:
        (path / "outcome.json").write_text(json.dumps({"state": outcome}))


LAST = {"time/total_timesteps": 60, "rollout/ep_rew_mean": 21.25}


def test_runs_are_listed_newest_first_with_ensembles_together(tmp_path):
    made(tmp_path / "old", LAST, "stopped", date=1e9)
    made(tmp_path / "new", LAST | {"time/total_timesteps": 100}, "finished", date=1.2e9, preset="paper")
    for seed, score in ((2, 10.0), (10, 30.0)):
        last = LAST | {"rollout/ep_rew_mean": score}
        made(tmp_path / "five" / f"seed-{seed}", last, "diverged", date=1.1e9, seed=seed)
    made(
        tmp_path / "lm",
        {"step": 7, "objective/scores": 0.5},
        "finished",
        9e8,
        command="ppo",
        options={"run": {"seed": 3}},
    )
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text("[]")
    new, five, old, language = overview(tmp_path)
    assert (new.env, new.preset, new.steps, new.state) == ("CartPole-v1", "paper", 100, "finished")
    assert isinstance(five, Ensemble) and five.score == 20.0 and five.state == "diverged"
    assert [run.seed for run in five.runs] == [2, 10]
    assert (old.kind, old.seed, old.steps, old.planned, old.score) == ("control", 0, 60, 100, 21.25)
    assert (language.kind, language.env, language.seed, language.steps) == ("language", "lm ppo", 3, 7)
    assert (language.metric, language.score) == ("reward", 0.5)
    head, *rows = table(overview(tmp_path), tmp_path)
    assert [row.split()[0] for row in rows] == ["new", "five", "seed-2", "seed-10", "old", "lm"]
    assert "60 of 100" in rows[4] and "return 21.2" in rows[4] and "mean return 20.0" in rows[1]
    starts = {row.index(word) for row, word in zip(rows, ["control"] * 5 + ["language"], strict=True)}
    assert starts == {head.index("kind")}  # aligned


def test_the_state_is_that_of_the_runs_end(tmp_path):
    config = small(Ends, **TINY)
    run = train_config(config, out=tmp_path / "run")
    assert summary_of(run.folder).state == "finished"
    turns = train_members(config, 2, out=tmp_path / "all")
    next(turns)
    assert overview(tmp_path / "all")[0].state == "running"
    turns.close()
    assert [one.state for one in overview(tmp_path / "all")] == ["stopped", "stopped"]
    held = Lock(run.folder)
    assert summary_of(run.folder).state == "running"
    held.release()
    assert not is_held(run.folder)


class Huge(Probe):
    """The second rollout's rewards leave what float32 holds."""

    clock = 0

    def turn(self, action):
        self.clock += 1
        return 1e38 * (self.clock > 20), True, False


def test_a_run_that_diverged_is_listed_so(tmp_path):
    config = small(Huge, **{**TINY, "learning_rate": 1.0})
    with pytest.raises(UpdateDiverged):
        list(training(config))
    with pytest.raises(UpdateDiverged):
        train_config(config, out=tmp_path / "run")
    assert summary_of(tmp_path / "run").state == "diverged"


def test_a_run_that_was_killed_or_is_of_an_older_version_is_told_by_its_steps(tmp_path):
    made(tmp_path / "whole", LAST | {"time/total_timesteps": 100})
    made(tmp_path / "part", LAST)
    made(tmp_path / "reached", LAST, until=20.0)
    made(tmp_path / "nothing")
    states = {run.path.name: run.state for run in overview(tmp_path)}
    assert states == {"whole": "finished", "part": "stopped", "reached": "finished", "nothing": "stopped"}


def test_the_command_line_lists_them_without_jax(tmp_path, capsys, monkeypatch):
    made(tmp_path / "runs" / "a", LAST, "stopped")
    made(tmp_path / "runs" / "b" / "seed-0", LAST, "stopped", seed=0)
    made(tmp_path / "runs" / "b" / "seed-1", LAST, "stopped", seed=1)
    code = "import sys, proximo.cli; proximo.cli.main(['runs', '--json']); sys.exit('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)
    assert [(row["path"], row["ensemble"]) for row in rows] == [
        ("runs/a", None),
        ("runs/b/seed-0", "runs/b"),
        ("runs/b/seed-1", "runs/b"),
    ]
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0 and capsys.readouterr().out.count("\n") == 5
    assert main(["runs", "none"]) == 2 and "there is no folder" in capsys.readouterr().err
    assert main(["runs", "--bad"]) == 2 and capsys.readouterr().err.count("\n") == 1
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert main(["runs"]) == 2 and "`proximo train CartPole-v1` creates it" in capsys.readouterr().err


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        overview(tmp_path / "none")
