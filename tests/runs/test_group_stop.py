"""SIGTERM to all processes of a run, as SLURM and systemd send it, is an orderly end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from proximo.control.files import load_checkpoint
from proximo.envs.vector.parallel import spare_workers
from proximo.runs.checkpoints import finished, newest_valid

OPTIONS = ("--num-envs", "2", "--horizon", "64", "--quiet")


def members(session):
    """The processes of a session that still run."""
    found = subprocess.run(["ps", "-eo", "sess=,pid=,stat="], capture_output=True, text=True).stdout
    rows = [line.split() for line in found.splitlines()]
    return [int(pid) for sess, pid, state in rows if int(sess) == session and not state.startswith("Z")]


@pytest.mark.skipif(not hasattr(os, "killpg") or not spare_workers(2), reason="needs groups, and two cores")
@pytest.mark.parametrize(("mode", "workers"), [("parallel", 1), ("async", 2)])
def test_all_processes_that_are_told_to_end_end_in_good_order(mode, workers, tmp_path, request):
    run = tmp_path / "run"
    words = (
        "train",
        "Pendulum-v1",
        "--vectorization-mode",
        mode,
        *OPTIONS,
        "--steps",
        "10000000",
        "--out",
        str(run),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "proximo", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    request.addfinalizer(process.kill)  # where a line below fails, it would go on for hours
    log, deadline = run / "metrics.jsonl", time.monotonic() + 100
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.05)
    # The environments have processes of their own, beside the learner and what multiprocessing adds to it.
    assert len(members(process.pid)) == 2 + workers
    assert len(finished(run / "checkpoints")) <= 1  # the first iteration's, so the one below is the end's
    for member in members(process.pid):
        os.kill(member, signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 143, complaint
    assert f"proximo train --resume {run}" in complaint and "Traceback" not in complaint
    last = json.loads(log.read_text().splitlines()[-1])
    assert newest_valid(run, load_checkpoint)[1][1].steps == last["time/total_timesteps"]
    assert last["rollout/restarts"] == 0 and "restarted" not in complaint
    deadline = time.monotonic() + 10
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)
