"""`proximo reproduce`, as a user meets it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in import GRID, fill, finished, run, train_and_die, write_random

from proximo.cli import main
from proximo.core import Clip
from proximo.experiments import cells as files
from proximo.experiments import grids
from proximo.experiments.grid import Grid, Setting, cells
from proximo.experiments.reproduce import run_missing, write_summary
from proximo.runs.lock import Lock

# A few hundred real steps of two members that share an ensemble.
REAL = Grid(
    name="real",
    title="real runs of a moment",
    settings=[
        Setting(
            f"clip-{epsilon}",
            f"epsilon = {epsilon}",
            options={"objective": Clip(epsilon), "horizon": 32, "minibatch_size": 64, "epochs": 1},
        )
        for epsilon in (0.1, 0.2)
    ],
    environments=["CartPole-v1"],
    seeds=[0],
    steps=600,
    baseline="clip-0.2",
)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """All runs of a tiny grid are there, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grids, "GRIDS", (*grids.GRIDS, GRID))
    write_random(tmp_path, score=3.5)
    fill(tmp_path)
    return tmp_path


def test_results_that_are_there_are_printed_without_running_anything(tiny, capsys):
    assert main(["reproduce", "tiny"]) == 0
    said = capsys.readouterr()
    assert "a grid for tests: 8 of 8 runs" in said.out and "counts as 0" in said.out and said.err == ""
    kept = json.loads((tiny / "results" / "tiny" / "summary.json").read_text())
    assert main(["reproduce", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kept
    assert main(["reproduce", "tiny", "--markdown"]) == 0
    assert capsys.readouterr().out.count("\n| --- | ---: |") == 2


def test_a_summary_is_rewritten_only_where_it_is_of_other_runs(tiny):
    write_summary(GRID, tiny / "results")
    path = tiny / "results" / "tiny" / "summary.json"
    kept = json.loads(path.read_text())
    kept["settings"][0]["score"][1] += 0.001  # as another SciPy may round it
    path.write_text(json.dumps(kept))
    write_summary(GRID, tiny / "results")
    assert json.loads(path.read_text()) == kept
    run = tiny / "results" / "tiny" / "CartPole-v1" / "low-0.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "score": 77.0}))
    write_summary(GRID, tiny / "results")
    found = json.loads(path.read_text())
    assert found["environments"]["CartPole-v1"]["settings"]["low"]["scores"]["0"] == 77.0


COMMITTED = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("grid", [grid.name for grid in grids.GRIDS if (COMMITTED / grid.name).is_dir()])
def test_to_reproduce_what_is_committed_changes_no_file(tmp_path, monkeypatch, grid):
    monkeypatch.chdir(tmp_path)
    for name in {grid, *(cell.grid for cell in cells(grids.find_grid(grid)))}:
        shutil.copytree(COMMITTED / name, tmp_path / "results" / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["reproduce", grid]) == 0 and len(before) > 10
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_two_commands_do_not_run_one_grid_at_once(tiny, capsys):
    (tiny / "results" / "tiny" / "CartPole-v1" / "low-0.json").unlink()
    other = files.lock(tiny / "results", "tiny")  # as the command holds it that runs what is missing
    said = mistake(capsys, "tiny")
    assert "results/tiny is in use by another `proximo reproduce` that is still running" in said
    assert main(["reproduce", "tiny", "--setting", "high"]) == 0  # nothing is missing there: it is only read
    other.release()


def test_what_another_command_has_just_finished_is_not_run_again(tmp_path, monkeypatch):
    write_random(tmp_path)

    def lock(results, name):
        fill(tmp_path)  # it came to its end after we had looked
        return Lock(results / name)

    monkeypatch.setattr(files, "lock", lock)
    assert run(tmp_path, train=train_and_die) == 0  # nothing is trained
    Lock(tmp_path / "results" / "tiny")  # and nothing is held any more


def test_figures_go_where_no_file_is_committed(tiny, capsys):
    pytest.importorskip("matplotlib")
    assert main(["reproduce", "tiny", "--plots"]) == 0
    assert (tiny / "runs/figures/tiny.png").exists() and not (tiny / "docs").exists()
    assert main(["reproduce", "tiny", "--plots", "--figures", "pictures"]) == 0
    assert (tiny / "pictures" / "tiny.svg").exists() and "figure: pictures" in capsys.readouterr().err


def mistake(capsys, *words):
    """The one line on standard error."""
    assert main(["reproduce", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("proximo reproduce: ")
    return said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table2"], "did you mean table1"),
        (["table1", "--only", "HalfChetah-v5"], "did you mean HalfCheetah-v5"),
        (["table1", "--setting", "clip-0.25"], "did you mean clip-0.2"),
        (["table1", "--seeds", "0", "7"], "take one of 0, 1, 2"),
        (["table1", "--processes", "0"], "processes is 0"),
        (["table1", "--members", "-1"], "members is -1"),
        (["table1", "--figure"], "--figure"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in mistake(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_fit_is_one_line(tiny, capsys, monkeypatch):
    monkeypatch.setattr(grids, "GRIDS", (replace(GRID, steps=500),))
    assert "high-0.json was made with another configuration" in mistake(capsys, "tiny", "--setting", "high")


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "--help"])
    assert not end.value.code
    said = capsys.readouterr().out
    for name in ("--only", "--setting", "--seeds", "--processes", "--members", "--results", "--no-plots"):
        assert name in said


def test_real_runs(tmp_path):
    places = {"results": tmp_path / "results", "episodes": tmp_path / "episodes"}
    assert run_missing(REAL, cells(REAL), **places, processes=1) == 0
    numbers = write_summary(REAL, tmp_path / "results")
    assert numbers["runs"] == 2
    runs = [json.loads(path.read_text()) for path in (tmp_path / "results/real/CartPole-v1").glob("clip-*")]
    for one in runs:
        assert one["members"] == 2 and 600 <= one["steps"] < 600 + 8 * 32
        assert 9 < one["score"] < 60 and one["episodes"] > 5


def test_an_end_of_the_whole_group(tmp_path):
    # As `timeout` and schedulers do it: the workers get the signal too, and must leave it to the command.
    words = ["table1-quick", "--only", "Reacher-v5", "--setting", "clip-0.2", "--processes", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "proximo", "reproduce", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "results/table1-quick/Reacher-v5/random.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143 and out == ""
    assert err.splitlines()[-1].startswith("proximo reproduce: interrupted; finished runs are kept")
    assert "Traceback" not in err and finished(tmp_path) == []
