"""Runs that are killed, asked to stop, out of time or out of disk, and go on."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from probes import Aim, BetterAction, equal, small

import proximo
from proximo.control.files import checkpoint_files, load_checkpoint
from proximo.control.resume import resume_run
from proximo.control.run import train_config
from proximo.control.train import training
from proximo.errors import CheckpointDamaged, EpisodesRestarted, MachineChanged, StateNotSaved, UserError
from proximo.runs.checkpoints import Checkpoints, finished, newest_valid
from proximo.runs.record import record

TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=2, steps=128, hidden=(4,))
OPTIONS = ("--steps", "20000", "--seed", "1", "--quiet")


def proximo_train(*words, **options):
    command = [sys.executable, "-m", "proximo", "train", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def ended(process, status):
    out, complaint = process.communicate(timeout=120)
    assert process.returncode == status, complaint
    return out, complaint


def wait_for_checkpoints(run, count, process):
    """Until so many checkpoints were written since the call."""
    seen = set()
    deadline = time.monotonic() + 100
    while len(seen) < count and time.monotonic() < deadline and process.poll() is None:
        seen |= {path.name for path in finished(run / "checkpoints")}
        time.sleep(0.002)
    assert len(seen) >= count


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended(proximo_train("CartPole-v1", *OPTIONS, "--out", out), 0)
    return out


def test_killed_three_times_it_is_still_the_same_run(tmp_path, whole):
    run = tmp_path / "run"
    process = proximo_train("CartPole-v1", *OPTIONS, "--out", run, "--checkpoint-every", 0)
    for _ in range(3):
        wait_for_checkpoints(run, 3, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = proximo_train("--resume", run, "--checkpoint-every", 0, "--quiet")
    ended(process, 0)
    for name in ("model.safetensors", "model.json", "manifest.json"):
        assert (run / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    assert (run / "episodes.csv").read_bytes() == (whole / "episodes.csv").read_bytes()
    mine, other = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (run, whole)
    )
    for row in (*mine, *other):
        del row["time/time_elapsed"], row["time/fps"]
    assert mine == other


def test_a_finished_run_has_nothing_left_and_can_be_given_more(tmp_path, whole):
    complaint = ended(proximo_train("--resume", whole), 2)[1]
    assert "has finished its 20,000 steps: ask for more with --steps" in complaint
    out = tmp_path / "longer"
    ended(proximo_train("--resume", whole, "--steps", 22000, "--out", out, "--quiet"), 0)
    steps = [json.loads(line)["time/total_timesteps"] for line in (out / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] >= 22000
    assert json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["time/total_timesteps"] < 22000


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(tmp_path, number, status):
    run = tmp_path / "run"
    process = proximo_train("CartPole-v1", "--steps", 10**7, "--out", run, "--quiet", "--checkpoint-every", 0)
    wait_for_checkpoints(run, 2, process)
    process.send_signal(number)
    _, complaint = ended(process, status)
    assert f"proximo train --resume {run}" in complaint and "Traceback" not in complaint
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert newest_valid(run, load_checkpoint)[1][1].steps == last["time/total_timesteps"]
    assert (run / "model").is_dir()


def test_out_of_time_it_ends_before_the_limit(tmp_path):
    run = tmp_path / "run"
    started = time.monotonic()
    process = proximo_train("CartPole-v1", "--steps", 10**8, "--out", run, "--quiet", "--max-time", 8)
    _, complaint = ended(process, 3)
    assert "--resume" in complaint and time.monotonic() - started < 60
    assert newest_valid(run, load_checkpoint)[1][1].steps > 0


# ---- a full disk


def test_a_full_disk_costs_nothing_that_was_saved(tmp_path):
    # A limit on the size of files stands in for a full disk: the write fails in the same place.
    script = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from probes import Aim, BetterAction, equal, small
from proximo.errors import UserError
from proximo.control.train import training
from proximo.runs.folder import RunFolder
from proximo.runs.record import record
from proximo.control.files import control_files
config = small(Aim, num_envs=2, horizon=8, minibatch_size=8, steps=10**6, hidden=(64, 64))
folder = RunFolder.create(control_files(config), Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = record(training(config), folder, checkpoint_every=0)
try:
    for number, _ in enumerate(rows):
        if number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
except UserError as error:
    print(error)
"""
    tests = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run"), tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot write in") and "--resume" in done.stdout
    assert done.stdout.count("\n") == 1
    path, (_, snapshot, _) = newest_valid(tmp_path / "run", load_checkpoint)
    assert snapshot.number == 3
    assert not any(entry.name.startswith(".") for entry in path.parent.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


# ---- logs


@pytest.mark.parametrize(
    ("name", "torn"),
    [
        ("metrics.jsonl", "[" * 100_000),
        ("metrics.jsonl", '{"time/total_timesteps": 1e999}'),
        ("episodes.csv", "12,0,-1.5,3\r,1"),
        ("episodes.csv", "1" * 200_000),
    ],
)
def test_no_line_of_a_log_is_a_reason_to_fail(tmp_path, name, torn):
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY).folder
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole + torn.encode() + b"\n")
    resumed = resume_run(run, steps=256)
    assert (run / name).read_bytes() == whole
    assert torn.encode() in (run / "superseded" / name).read_bytes()
    assert resumed.start.steps >= 128


def test_episodes_that_were_lost_begin_anew_with_their_head(tmp_path):
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY).folder
    (run / "episodes.csv").unlink()
    proximo.resume(run, steps=256)
    assert (run / "episodes.csv").read_text().startswith("step,env,return,length,terminated\n")


# ---- what a user gets wrong


def test_what_cannot_be_resumed(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        resume_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no checkpoint in"):
        resume_run(tmp_path)
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY)
    with pytest.raises(UserError, match=r"is of CartPole-v1, not of Pendulum-v1"):
        resume_run(run.folder, env="Pendulum-v1", steps=10_000)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not an empty folder"):
        resume_run(run.folder, out=tmp_path / "full", steps=10_000)
    with pytest.raises(UserError, match="learning_rate cannot change in a run that is resumed"):
        resume_run(run.folder, learning_rate=1.0)


def test_an_environment_of_ones_own_is_named_again(tmp_path):
    run = proximo.train(Aim, out=tmp_path / "run", **TINY)
    with pytest.raises(UserError, match=r"Aim needs code of your own, .*: pass the environment"):
        resume_run(run.folder, steps=10_000)
    resumed = resume_run(run.folder, env=Aim, steps=256)
    assert resumed.config.env is Aim and resumed.start.steps >= 128
    with pytest.raises(UserError, match="is in use by a run that is still running"):
        resume_run(run.folder, env=Aim, steps=256)
    resumed.folder.lock.release()
    again = proximo.resume(run.folder, env=Aim, steps=256)
    assert again.agent.act(np.zeros(1, np.float32)).shape == (1,)


def test_damaged_checkpoints_do_not_outrank_the_ones_that_follow(tmp_path):
    # All three newest are damaged, the best and older one is taken; what is saved next must be kept.
    config = small("CartPole-v1", **{**TINY, "steps": 512})
    run = train_config(config, out=tmp_path / "run")
    checkpoints = Checkpoints(run.folder / "checkpoints", keep=9)
    for iteration in training(config):
        checkpoints.save(iteration.steps, checkpoint_files(iteration, config))
    kept = finished(run.folder / "checkpoints")
    for path in kept[:3]:
        (path / "manifest.json").write_text("{}")
    with pytest.warns(CheckpointDamaged):
        resumed = resume_run(run.folder)
    assert resumed.start.steps == int(kept[3].name)
    assert finished(run.folder / "checkpoints")[0] == kept[3]  # the damaged ones are out of the way, not lost
    assert all((path.parent / f".{path.name}.damaged").is_dir() for path in kept[:3])
    rows = record(training(resumed.config, resumed.start), resumed.folder, checkpoint_every=0)
    next(rows), rows.close()
    assert finished(run.folder / "checkpoints")[0].name > kept[3].name


def test_another_machine_is_told(tmp_path):
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY)
    config = json.loads((run.folder / "config.json").read_text())
    config["fingerprint"]["cpu"], config["versions"]["jax"] = "Z80", "0.0.1"
    (run.folder / "config.json").write_text(json.dumps(config))
    message = (
        r"the run started on another machine or with other versions \(jax 0\.0\.1 -> .*, cpu Z80 -> .*\): "
        r"it continues, but perhaps not bit"
    )
    with pytest.warns(MachineChanged, match=message):
        resume_run(run.folder, steps=256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume_run(run.folder, steps=512)  # from here on, it is at home here


def test_a_run_that_reached_its_goal_can_be_given_a_higher_one(tmp_path):
    config = small(BetterAction, **{**TINY, "steps": 6000, "until": 0.9})
    run = train_config(config, out=tmp_path / "run")
    before = int(finished(run.folder / "checkpoints")[0].name)
    again = proximo.resume(run.folder, env=BetterAction, until=2.0, steps=before + 50)
    assert int(finished(again.folder / "checkpoints")[0].name) >= before + 50


def test_a_run_that_goes_on_is_known_by_its_checkpoints(tmp_path):
    config = small("CartPole-v1", **TINY)
    run = train_config(config, out=tmp_path / "run")
    stopped = proximo.load(run.folder)
    resumed = resume_run(run.folder, steps=256)
    assert equal(proximo.load(run.folder).policy, stopped.policy)  # the newest checkpoint is that policy
    assert (run.folder / "superseded" / "model").is_dir()
    rows = record(training(resumed.config, resumed.start), resumed.folder, checkpoint_every=0)
    last = next(rows)  # and then the machine loses its power: nothing is closed
    assert equal(proximo.load(run.folder).policy, last.agent.policy)
    checkpoint = finished(run.folder / "checkpoints")[0]
    assert equal(proximo.load(checkpoint).policy, last.agent.policy)
    rows.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*: fix that, then resume again"):
        resume_run(run.folder, out=tmp_path / "file" / "inside", steps=256)


class Moody(Aim):
    """Tells its state, or fails to; takes it back, or fails to."""

    fails = ()

    def get_state(self):
        assert "get_state" not in self.fails
        return {}

    def set_state(self, state):
        assert "set_state" not in self.fails


@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_a_state_that_fails_costs_the_state_and_no_checkpoint(tmp_path, monkeypatch, mode):
    config = small(Moody, **TINY, vectorization_mode=mode)
    monkeypatch.setattr(Moody, "fails", ("get_state",))
    with pytest.warns(StateNotSaved, match="Moody failed to save its state") as told:
        run = train_config(config, out=tmp_path / "run")
    assert len(told) == 1 and len(finished(run.folder / "checkpoints")) == 2  # the first and the last
    monkeypatch.setattr(Moody, "fails", ())
    with pytest.warns(EpisodesRestarted, match="Moody cannot save its state .*: .* are restarted"):
        again = proximo.resume(run.folder, env=Moody, steps=256)
    # Now the state is there; that it is not taken back costs no more.
    monkeypatch.setattr(Moody, "fails", ("set_state",))
    with pytest.warns(
        EpisodesRestarted, match=r"Moody failed to restore its saved state \(.*AssertionError"
    ) as told:
        again = proximo.resume(run.folder, env=Moody, steps=384)
    assert len(told) == 1
    steps = [json.loads(line)["time/total_timesteps"] for line in (again.folder / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] >= 384


@pytest.mark.parametrize("content", ['{"versions": null, "fingerprint": [3]}', "[]", "{", "[" * 100_000])
def test_what_cannot_be_compared_is_no_other_machine(tmp_path, content):
    run = proximo.train("CartPole-v1", out=tmp_path / "run", **TINY)
    (run.folder / "config.json").write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resume_run(run.folder, steps=256).start.steps >= 128
