"""Finished runs on disk: what is in them, what is refused, and that they are whole or not there."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stand_in import GRID, TURN, fill, finished, iteration, run, write_random

from proximo.control.config import Config
from proximo.core import Clip
from proximo.envs import Episode
from proximo.errors import UserError
from proximo.experiments import cells as files
from proximo.experiments.grid import cells
from proximo.experiments.worker import OutputFolders, RandomPolicy, run_random
from proximo.options import with_options

CELL = cells(GRID, ["Pendulum-v1"], ["high"], [1])[0]  # gamma 0.9, so returns are 90 + 1 + iteration
KNOWN = sorted(files.flat(Config("ENV")))


def record():
    whole = files.Record(CELL)
    for number in range(1, 5):
        whole.add(iteration(CELL.config, number))
    return whole


# ---- what is in a file


def test_a_result():
    result = record().result(KNOWN, seconds=1.234, members=3)
    assert {name: result[name] for name in ("format", "grid", "env", "setting", "seed")} == {
        "format": 1, "grid": "tiny", "env": "Pendulum-v1", "setting": "high", "seed": 1
    }  # fmt: skip
    assert (result["steps"], result["episodes"], result["seconds"], result["members"]) == (400, 40, 1.2, 3)
    # All of the 40 episodes are among the last 100: 91 + (1 + 2 + 3 + 4) / 4.
    assert result["score"] == 93.5
    assert result["command"] == CELL.command and CELL.command.startswith("proximo train Pendulum-v1 ")
    assert "diverged" not in result


def test_the_score_is_of_the_last_100_episodes():
    long = files.Record(CELL)
    long.returns, long.ends = [0.0] * 50 + [1.0] * 100, [1] * 150
    assert long.result(KNOWN, 0.0, 1)["score"] == 1


def test_a_curve():
    # 100 steps in 50 parts of 2: steps 1 and 2 are the first, 3 and 4 the second, 100 and later the last.
    curve = files.curve([1, 2, 3, 100, 104], [10.0, 20.0, 5.0, 1.0, 2.0], steps=100)
    assert curve[:3] == [15, 5, None] and curve[-1] == 1.5 and len(curve) == 50


def test_an_episode_ends_within_its_rollout():
    # Ten episodes in a hundred steps end after 10, 20, ..., 100 of them.
    assert record().ends[:10] == list(range(10, TURN + 1, 10)) and record().ends[-1] == 400
    # A generation of several rollouts is counted as a whole: rows are of its last rollout.
    several = replace(CELL, config=with_options(CELL.config, horizon=5))
    one = files.Record(several)
    one.add(replace(iteration(several.config, 1), episodes=[Episode(0, 2, 1.0, 3, True)]))
    assert one.ends == [100]


def test_a_run_that_leaves_the_finite_numbers_keeps_what_it_had():
    broken = files.Record(CELL)
    broken.add(iteration(CELL.config, 1))
    assert not broken.over
    broken.add(iteration(CELL.config, 2, loss=np.inf))
    assert broken.over
    result = broken.result(KNOWN, 1.0, 1)
    assert (result["diverged"], result["steps"], result["episodes"], result["score"]) == (200, 200, 20, 92.5)


def test_a_run_without_an_episode_has_no_score():
    assert files.Record(CELL).result(KNOWN, 1.0, 1)["score"] is None


def test_files_are_small_and_hold_every_episode_elsewhere(tmp_path):
    record().save(tmp_path / "results", tmp_path / "episodes", KNOWN, 1.0, 1)
    path = tmp_path / "results" / "tiny" / "Pendulum-v1" / "high-1.json"
    assert path.read_text().count("\n") == 1 and path.stat().st_size < 1500
    packed = tmp_path / "episodes" / "tiny" / "Pendulum-v1" / "high-1.json.gz"
    episodes = json.loads(gzip.decompress(packed.read_bytes()))
    assert len(episodes["return"]) == len(episodes["end_step"]) == len(episodes["length"]) == 40
    assert episodes["return"][0] == 92 and episodes["command"] == CELL.command
    again = packed.read_bytes()
    record().save(tmp_path / "results", tmp_path / "episodes", KNOWN, 1.0, 1)
    assert packed.read_bytes() == again  # no date in it


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5678, 5, "1234.6"), (1000.0, 4, "1000"), (-0.000123456, 3, "-0.000123"), (99999.9, 4, "100000")],
)
def test_rounded(value, digits, text):
    assert json.dumps(files.round_significant(value, digits)) == text


def test_the_random_policy(tmp_path):
    run_random(RandomPolicy("tiny", "CartPole-v1"), OutputFolders(tmp_path, tmp_path, {}))
    path = files.random_path(tmp_path, "tiny", "CartPole-v1")
    first = files.read(path)
    assert first["episodes"] == 100 and 18 < first["score"] < 28  # about 22 steps until the pole falls
    run_random(RandomPolicy("tiny", "CartPole-v1"), OutputFolders(tmp_path, tmp_path, {}))
    assert files.read(path) == first


# ---- what is refused


def test_another_configuration_is_refused(tmp_path):
    fill(tmp_path)
    changed = replace(GRID, settings=[replace(s, options={**s.options, "gamma": 0.5}) for s in GRID.settings])
    with pytest.raises(
        UserError, match=r"low-0\.json was made with another configuration .*move low-0\.json"
    ):
        run(tmp_path, changed)


def test_another_format_is_refused(tmp_path):
    fill(tmp_path)
    path = tmp_path / "results" / "tiny" / "CartPole-v1" / "high-0.json"
    path.write_text(path.read_text().replace('"format":1', '"format":2'))
    with pytest.raises(UserError, match=r"high-0\.json is not in format 1.*choose another --results"):
        run(tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=r"high-0\.json cannot be read"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [("grid.json", "versions"), ("grid.json", "options"), ("CartPole-v1/high-0.json", "score")],
)
def test_a_file_that_lacks_something_is_refused(tmp_path, file, name):
    fill(tmp_path)
    path = tmp_path / "results" / "tiny" / file
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{path.name} was changed: it has no {name}: move {path.name} away"):
        run(tmp_path)


def test_other_versions_are_refused_for_new_runs_alone(tmp_path, monkeypatch):
    write_random(tmp_path)
    fill(tmp_path, environments=["CartPole-v1"])
    monkeypatch.setattr(files, "versions", lambda: dict.fromkeys(files.VERSIONS, "9"))
    assert run(tmp_path, only=["CartPole-v1"]) == 0  # nothing to run
    with pytest.raises(UserError, match=r"was made with proximo .*, but 9 is installed here: install "):
        run(tmp_path)


def test_a_digest_covers_every_option_there_was():
    config = CELL.config
    same = files.digest(config, KNOWN)
    assert same == files.digest(replace(config), KNOWN) and len(same) == 12
    for options in ({"gamma": 0.91}, {"seed": 2}, {"steps": 401}, {"objective": Clip(0.3)}, {"hidden": (8,)}):
        assert files.digest(with_options(config, **options), KNOWN) != same, options


def test_an_option_that_is_new_leaves_finished_runs_valid_while_nobody_uses_it(monkeypatch):
    before = [name for name in KNOWN if name != "target_kl"]  # as if that one had come later
    flat = files.flat
    monkeypatch.setattr(files, "flat", lambda config: {k: v for k, v in flat(config).items() if k in before})
    then = files.digest(CELL.config, before)
    monkeypatch.undo()
    assert files.digest(CELL.config, before) == then
    assert files.digest(with_options(CELL.config, target_kl=0.01), before) != then


def test_where_it_chooses_how_to_step_a_run_is_the_one_that_it_was():
    modes = ("auto", "parallel", "sync")
    auto, parallel, sync = (
        files.digest(with_options(CELL.config, vectorization_mode=mode), KNOWN) for mode in modes
    )
    assert auto == parallel != sync


def test_machines_are_noted_once_each(tmp_path):
    files.ensure_description(tmp_path, "tiny")
    for cpu in ("a", "b", "a"):
        files.add_machine(tmp_path, "tiny", {"cpu": cpu})
    assert files.read_description(tmp_path, "tiny")["machines"] == [{"cpu": "a"}, {"cpu": "b"}]


def test_what_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*the same command continues with the rest"):
        files.write_json(tmp_path / "file" / "below" / "grid.json", {})


def test_a_full_disk_keeps_no_half_file(tmp_path, monkeypatch):
    written = Path.write_bytes

    def full(path, content):
        written(path, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.write_json(tmp_path / "grid.json", {})
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_counts(tmp_path):
    fill(tmp_path, seeds=[0])
    # What a killed process may leave: a file under its temporary name.
    (tmp_path / "results" / "tiny" / "CartPole-v1" / ".low-1.json.partial").write_text('{"format":')
    assert len(finished(tmp_path)) == 4
    fill(tmp_path)
    assert len(finished(tmp_path)) == 8
