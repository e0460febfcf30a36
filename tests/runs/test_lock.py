"""One process at a time writes a run folder."""

import subprocess
import sys

import pytest

import proximo
from proximo.errors import UserError
from proximo.runs.lock import Lock

pytest.importorskip("fcntl")
HELD = "import sys, time; from proximo.runs.lock import Lock; lock = Lock(sys.argv[1]); print(1, flush=True)"


def test_a_folder_is_held_once(tmp_path):
    lock = Lock(tmp_path)
    with pytest.raises(UserError, match="is in use by a run that is still running"):
        Lock(tmp_path)
    lock.release()
    again = Lock(tmp_path)
    del again  # forgotten is released too
    Lock(tmp_path)


def test_a_process_that_is_killed_holds_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HELD}; time.sleep(100)", str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"1\n"
    with pytest.raises(UserError):
        Lock(tmp_path)
    process.kill(), process.communicate()
    Lock(tmp_path)


def test_what_cannot_be_held_is_not(tmp_path):
    Lock(tmp_path / "nowhere")


def test_a_run_that_goes_on_cannot_be_resumed_elsewhere_at_once(tmp_path):
    options = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(4,))
    run = proximo.train("CartPole-v1", out=tmp_path / "run", steps=32, **options)
    with pytest.raises(UserError, match="is in use by"):
        lock = Lock(run.folder)  # as the process that writes it has
        try:
            proximo.resume(run.folder, steps=64)
        finally:
            lock.release()
    assert (run.folder / "model").is_dir()  # nothing was moved
    proximo.resume(run.folder, steps=64)
