"""The grid's runner, with real worker processes and stand-ins for the training."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from stand_in import (
    GRID,
    fill,
    finished,
    run,
    train_and_die,
    train_and_fault,
    train_and_note,
    train_for_ever,
    write_random,
)

from proximo.errors import UserError
from proximo.experiments import cells as files

ALL = sorted(
    f"{env}/{name}-{seed}" for env in GRID.environments for name in ("low", "high") for seed in (0, 1)
)


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """What was trained since it was last asked."""
    path = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(path))

    def read():
        lines = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


def test_only_what_is_missing_is_run(tmp_path, notes):
    assert run(tmp_path, train=train_and_note, processes=2) == 0
    assert finished(tmp_path) == ALL and len(notes()) == 8
    for env in GRID.environments:
        assert files.read(files.random_path(tmp_path / "results", "tiny", env))["episodes"] == 100
    machines = files.read_description(tmp_path / "results", "tiny")["machines"]
    assert len(machines) == 1 and machines[0]["backend"] == "cpu"

    assert run(tmp_path, train=train_and_note) == 0
    assert notes() == []
    (tmp_path / "results" / "tiny" / "Pendulum-v1" / "low-1.json").unlink()
    assert run(tmp_path, train=train_and_note) == 0
    assert notes() == ["Pendulum-v1 Unclipped 1"] and finished(tmp_path) == ALL


def test_a_part_alone(tmp_path, notes):
    write_random(tmp_path)
    assert run(tmp_path, train=train_and_note, only=["Pendulum-v1"], setting=["high"], seeds=[1]) == 0
    assert notes() == ["Pendulum-v1 Clip 1"] and finished(tmp_path) == ["Pendulum-v1/high-1"]


def test_a_worker_that_dies_is_reported_and_what_is_finished_stays(tmp_path):
    write_random(tmp_path)
    with pytest.raises(UserError, match=r"exit status 7 at tiny/Pendulum-v1/\S+ and 1 more.*same command"):
        run(tmp_path, train=train_and_die)
    assert finished(tmp_path) == ["CartPole-v1/low-0", "CartPole-v1/low-1"]  # the ensemble before


def test_a_run_that_fails_is_reported(tmp_path):
    write_random(tmp_path)
    with pytest.raises(UserError, match="nan in its reward") as caught:
        run(tmp_path, train=train_and_fault)
    assert any("Traceback" in note for note in caught.value.__notes__)  # for --debug
    assert finished(tmp_path) == []


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    write_random(tmp_path)

    def interrupt():
        while not finished(tmp_path):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    assert run(tmp_path, train=train_for_ever) == 130
    assert time.monotonic() - started < 60
    assert len(finished(tmp_path)) == 1
    fill(tmp_path)
    assert finished(tmp_path) == ALL


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from stand_in import run, train_for_ever
run(Path({folder!r}), train=train_for_ever, progress=True)
"""


def test_workers_end_when_the_one_that_started_them_is_killed(tmp_path):
    write_random(tmp_path)
    source = SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", source])
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("this system does not list the children of a process")
        deadline = time.monotonic() + 60
        while not finished(tmp_path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = children.read_text().split()
        assert workers
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
