"""Several seeds side by side: a folder each, as if each had run alone."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from probes import Aim, BetterAction, close

import proximo
from proximo import UserError
from proximo.cli import main
from proximo.control.ensemble import ensemble, member_configs
from proximo.control.members import member_folders, recorded_members, train_members
from proximo.control.train import training
from proximo.runs.checkpoints import finished
from proximo.runs.statistics import mean_of

TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=2, steps=64, hidden=(4,))


def episodes(folder):
    with (folder / "episodes.csv").open() as file:
        return [float(row["return"]) for row in csv.DictReader(file)]


def test_every_member_has_the_folder_it_would_have_had_alone(tmp_path):
    runs = proximo.train_ensemble(Aim, seeds=3, seed=4, out=tmp_path / "all", **TINY)
    assert [run.folder for run in runs] == [tmp_path / "all" / f"seed-{seed}" for seed in (4, 5, 6)]
    for seed, run in zip((4, 5, 6), runs, strict=True):
        alone = proximo.train(Aim, seed=seed, out=tmp_path / f"alone-{seed}", **TINY)
        names, others = ({p.name for p in folder.rglob("*")} for folder in (run.folder, alone.folder))
        assert names == others
        assert json.loads((run.folder / "config.json").read_text())["seed"] == seed
        np.testing.assert_allclose(episodes(run.folder), episodes(alone.folder), rtol=1e-4)
        obs = np.zeros(1, np.float32)
        loaded = proximo.load(run.folder)
        np.testing.assert_array_equal(loaded.act(obs), run.agent.act(obs))
        np.testing.assert_allclose(loaded.act(obs), alone.agent.act(obs), atol=1e-4)


def test_members_that_stop_early_keep_their_last_policy(tmp_path):
    options = {**TINY, "steps": 6000, "until": 0.9}
    runs = proximo.train_ensemble(BetterAction, seeds=2, out=tmp_path / "all", **options)
    for run in runs:
        last = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["rollout/ep_rew_mean"] >= 0.9 and last["time/total_timesteps"] < 6000
        assert proximo.load(run.folder).act(np.zeros(1, np.float32)) == 1


def test_a_loop_that_is_left_saves_every_member_and_each_can_go_on(tmp_path):
    config = proximo.with_options(proximo.Config("CartPole-v1"), **TINY)
    turns = train_members(config, 2, out=tmp_path / "all")
    next(turns)
    turns.close()
    for seed in (0, 1):
        folder = tmp_path / "all" / f"seed-{seed}"
        assert proximo.load(folder).act(np.zeros(4, np.float32)).shape == ()
        alone = list(training(member_configs(config, 2)[seed]))
        assert close(proximo.resume(folder).agent.policy, alone[-1].agent.policy, 1e-4)
        assert episodes(folder) == [e.episode_return for iteration in alone for e in iteration.episodes]


def test_a_crash_costs_a_member_what_came_after_its_checkpoint(tmp_path):
    config = proximo.with_options(proximo.Config("CartPole-v1"), **TINY)
    configs = member_configs(config, 2)
    folders = member_folders(configs, tmp_path)

    def crashing():
        turns = ensemble(configs)
        yield next(turns)
        yield next(turns)
        raise RuntimeError("a crash")

    with pytest.raises(RuntimeError):
        list(recorded_members(crashing(), folders, checkpoint_every=0))
    for config, folder in zip(configs, folders, strict=True):
        assert finished(folder.path / "checkpoints")
        again, alone = proximo.resume(folder.path), list(training(config))
        assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == len(alone) > 2
        assert close(again.agent.policy, alone[-1].agent.policy, 1e-4)


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        (0, {}, "seeds is 0: it must be at least 1"),
        (2, {"env": Aim(), "num_envs": 1}, "environments of their own"),
        (
            2,
            {"env": "CartPole-v1", "preset_name": "cem", "num_envs": 24},
            "cross-entropy is already an ensemble of actors",
        ),
        (2, {"env": "CartPole-v1", "vectorization_mode": "vector_entry_point"}, "one seed for all"),
    ],
)
def test_what_cannot_be(tmp_path, seeds, options, message):
    with pytest.raises(UserError, match=message):
        proximo.train_ensemble(**{"env": Aim, "seeds": seeds, "out": tmp_path / "all", **TINY, **options})
    assert not (tmp_path / "all").exists()  # nothing in the way of the corrected command


def test_the_command_line(tmp_path):
    words = ["train", "CartPole-v1", "--seeds", "2", "--steps", "2048", "--out", str(tmp_path / "all")]
    done = subprocess.run(
        [sys.executable, "-m", "proximo", *words, "--quiet", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert [row["run"] for row in rows] == [str(tmp_path / "all" / f"seed-{seed}") for seed in (0, 1)]
    assert all(row["steps"] >= 2048 and row["ep_rew_mean"] > 8 for row in rows)
    again = subprocess.run(
        [sys.executable, "-m", "proximo", *words], capture_output=True, text=True, check=False
    )
    assert again.returncode == 2 and "already holds a run" in again.stderr
    assert again.stderr.count("\n") == 1


def test_a_member_that_diverges_is_named_and_the_status_tells(tmp_path):
    words = ["train", "Pendulum-v1", "--seeds", "2", "--steps", "2048", "--learning-rate", "1e38"]
    done = subprocess.run(
        [sys.executable, "-m", "proximo", *words, "--quiet", "--out", str(tmp_path / "all")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("diverged") == 2
    assert proximo.load(tmp_path / "all" / "seed-0").act(np.zeros(3, np.float32)).shape == (1,)


def test_a_member_that_cannot_be_saved_does_not_cost_the_others(tmp_path, monkeypatch):
    configs = member_configs(proximo.with_options(proximo.Config("CartPole-v1"), **TINY), 2)
    folders = member_folders(configs, tmp_path)

    def refused(entry):
        raise UserError("no room")

    monkeypatch.setattr(folders[1], "save", refused)
    with pytest.raises(UserError, match="no room"):
        list(recorded_members(ensemble(configs), folders, 0.0))
    assert proximo.load(folders[0].path / "model").act(np.zeros(4, np.float32)).shape == ()


def test_evaluate_of_an_ensembles_folder_sums_up_with_an_interval_over_the_runs(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    runs = proximo.train_ensemble("CartPole-v1", seeds=3, **TINY)
    (folder,) = (tmp_path / "runs").iterdir()  # one for all, where none is named
    assert folder.name.startswith("CartPole-v1-3-seeds-")
    assert [run.folder for run in runs] == [folder / f"seed-{seed}" for seed in range(3)]
    assert main(["evaluate", str(folder), "--episodes", "4", "--save", "--out", "all.json"]) == 0
    *each, whole = capsys.readouterr().out.splitlines()
    means = [run.evaluate(episodes=4).mean for run in runs]
    assert [line.split()[0] for line in each] == ["seed-0", "seed-1", "seed-2"]
    assert all(f"mean return {mean:,.2f}" in line for mean, line in zip(means, each, strict=True))
    found = mean_of(means)
    assert whole == f"mean of 3 runs {found.value:,.2f} ({found.interval('{:,.2f}'.format)}, over runs)"
    saved = json.loads((tmp_path / "all.json").read_text())
    assert (saved["mean"], saved["low"], saved["high"]) == (found.value, found.low, found.high)
    assert [one["mean"] for one in saved["runs"]] == means
    assert json.loads((folder / "seed-2" / "evaluation.json").read_text())["mean"] == means[2]
    assert main(["evaluate", str(folder), "--episodes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == saved


def test_runs_that_are_no_ensemble_are_not_summed_up(tmp_path, capsys):
    for name, options in (("a", {}), ("b", {"gamma": 0.5})):
        proximo.train("CartPole-v1", out=tmp_path / name, **TINY, **options)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "holds runs with different options: name one run" in capsys.readouterr().err
    proximo.train("Acrobot-v1", out=tmp_path / "c", **TINY)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "holds runs of several environments (Acrobot-v1, CartPole-v1)" in capsys.readouterr().err
