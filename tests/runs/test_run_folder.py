"""The folder of any run: whose it is, and what is written when. Nothing is trained here."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from proximo.errors import UserError
from proximo.runs.checkpoints import finished, require_finite, state_files
from proximo.runs.files import Entry, RunFiles
from proximo.runs.folder import RunFolder
from proximo.runs.logs import step_under
from proximo.runs.record import Record, record


def entry(iteration, seconds):
    """What is written of a number: one after 3 is not sound, and the model is the number."""

    def save(folder):
        folder.mkdir(exist_ok=True)
        (folder / "number").write_text(str(iteration.steps))

    return Entry(
        steps=iteration.steps,
        metrics={"half": iteration.steps / 2},
        logs={"metrics.jsonl": json.dumps({"step": iteration.steps, "time/time_elapsed": seconds}) + "\n"},
        checkpoint=lambda: state_files({}, {"number": iteration.steps}),
        save=save,
        last=iteration.steps == 5,
        sound=iteration.steps != 4,
        lasting=iteration.lasting,
        described=lambda: {"known": True},
    )


FILES = RunFiles(
    name="counting-0",
    resume="proximo count --resume",
    described={"upto": 5, "known": False},
    entry=entry,
    logs={"metrics.jsonl": step_under("step"), "others.csv": lambda line: -1},
    heads={"others.csv": "number\r\n"},
    keep=2,
)


def counting(upto=5, lasting=False):
    return (SimpleNamespace(steps=number, lasting=lasting) for number in range(1, upto + 1))


def kept(path):
    return [int(checkpoint.name) for checkpoint in reversed(finished(path / "checkpoints"))]


def described(path):
    return json.loads((path / "config.json").read_text())


# ---- whose it is


def test_a_run_that_never_began_leaves_its_folder_free(tmp_path):
    first = RunFolder.create(FILES, tmp_path / "run")
    assert {path.name for path in first.path.iterdir()} == {"config.json", "others.csv"}
    with pytest.raises(UserError, match="a run that is still running"):
        RunFolder.create(FILES, tmp_path / "run")
    first.lock.release()
    second = RunFolder.create(FILES._replace(described={"upto": 7}), tmp_path / "run")
    assert described(second.path)["upto"] == 7
    list(record(counting(), second))
    with pytest.raises(UserError, match="already holds a run: choose another --out"):
        RunFolder.create(FILES, tmp_path / "run")


def test_a_configuration_alone_is_somebody_elses(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run"):
        RunFolder.create(FILES, tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not an empty folder"):
        RunFolder.create(FILES, tmp_path)
    with pytest.raises(UserError, match="is not an empty folder"):
        RunFolder.create(FILES, tmp_path / "letter.txt")
    with pytest.raises(UserError, match="cannot make the run folder"):
        RunFolder.create(FILES, tmp_path / "letter.txt" / "run")


@pytest.mark.parametrize("locks", [True, False])
def test_runs_that_begin_at_once_have_folders_of_their_own(tmp_path, monkeypatch, locks):
    monkeypatch.chdir(tmp_path)
    if not locks:
        monkeypatch.setattr("proximo.runs.lock.fcntl", None)  # as on Windows
    with ThreadPoolExecutor(12) as pool:  # all in one second, as the tasks of a job array are
        folders = list(pool.map(lambda _: RunFolder.create(FILES), range(12)))
    assert len({folder.path for folder in folders}) == 12
    assert all(folder.path.parent == tmp_path / "runs" for folder in folders)
    assert all(folder.path.name.startswith("counting-0-") for folder in folders)


def test_a_folder_that_several_runs_ask_for_goes_to_one(tmp_path, monkeypatch):
    monkeypatch.setattr("proximo.runs.lock.fcntl", None)
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run", FILES)._begin_logs("x")  # the other one, between a look and a step
    monkeypatch.setattr("proximo.runs.folder.Path.iterdir", lambda path: iter(()))
    with pytest.raises(UserError, match="was just taken by another run: choose another --out"):
        RunFolder.create(FILES, tmp_path / "run")


def test_a_full_disk_is_named_with_the_command_that_goes_on(tmp_path, monkeypatch):
    folder = RunFolder.create(FILES, tmp_path / "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proximo.runs.checkpoints.write_folder", full)
    message = (
        rf"cannot write in {re.escape(str(tmp_path))}/run \(No space .*\): .*`proximo count --resume /.*`"
    )
    with pytest.raises(UserError, match=message):
        Record(folder, 0).add(next(counting()))


# ---- what is written when


def test_what_a_run_leaves(tmp_path):
    told = []
    folder = RunFolder.create(FILES, tmp_path / "run")
    folder.sinks = SimpleNamespace(
        log=lambda metrics, iteration: told.append((metrics, iteration.steps)), close=lambda: told.append(())
    )
    list(record(counting(), folder, checkpoint_every=1e9))
    assert [json.loads(line)["step"] for line in (folder.path / "metrics.jsonl").open()] == [1, 2, 3, 4, 5]
    assert (folder.path / "others.csv").read_bytes() == b"number\r\n"
    assert told == [*(({"half": number / 2}, number) for number in (1, 2, 3, 4, 5)), ()]
    assert described(folder.path)["known"] and described(folder.path)["fingerprint"]["x64"] in (True, False)
    assert kept(folder.path) == [1, 5]  # the last one before it is asked for another, which it has not
    assert (folder.path / "model/number").read_text() == "5"
    RunFolder(folder.path, FILES)  # the lock is released


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize(
    ("every", "upto", "fails", "numbers"),
    [
        (1e9, 5, False, {False: [1, 5], True: [5]}),  # what does not last is kept at once; and the last one
        (1e9, 3, False, {False: [1, 3], True: [3]}),  # its reader has had enough: it can go on from there
        (1e9, 3, True, {False: [1], True: [3]}),  # a failure in the fourth: where that began, it is over
        (0.0, 3, False, {False: [2, 3], True: [2, 3]}),
        (0.0, 4, False, {False: [2, 3], True: [2, 3]}),  # what diverged is nothing to go on from
    ],
)
def test_when_checkpoints_are_written(tmp_path, lasting, every, upto, fails, numbers):
    folder = RunFolder.create(FILES, tmp_path / "run")

    def iterations():
        yield from counting(upto, lasting)
        if fails:
            raise UserError("in the next one")

    rows = record(iterations(), folder, every)
    if fails:
        with pytest.raises(UserError, match="in the next one"):
            list(rows)
    else:
        for _ in range(upto):
            next(rows)
        rows.close()
    assert kept(folder.path) == numbers[lasting]
    assert (folder.path / "model/number").read_text() == str(upto)


def test_the_model_is_written_where_only_that_was_missing(tmp_path):
    folder = RunFolder.create(FILES, tmp_path / "run")
    begun = SimpleNamespace(steps=5, lasting=True)
    assert list(record(iter(()), folder, 0.0, begun)) == []
    assert (folder.path / "model/number").read_text() == "5" and kept(folder.path) == []


def test_a_state_that_is_not_finite_is_no_checkpoint():
    require_finite({"steps": np.arange(3), "key": np.zeros(2, np.uint32), "weights": np.ones(2)}, "5 steps")
    with pytest.raises(UserError, match="weights is not finite after 5 steps: no checkpoint was written"):
        require_finite({"steps": np.arange(3), "weights": np.array([1.0, np.inf])}, "5 steps")


# ---- going on


def test_a_run_that_goes_on_keeps_what_was_said_of_it(tmp_path):
    folder = RunFolder.create(FILES._replace(described={"upto": 3, "preset": "paper"}), tmp_path / "run")
    list(record(counting(3), folder, 0.0))
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9}\n{"ste')
    taken = finished(folder.path / "checkpoints")[0]
    again = RunFolder.reopen(folder.path, taken, 3, FILES)
    said = described(again.path)
    assert (said["upto"], said["preset"], said["known"]) == (
        5,
        "paper",
        False,
    )  # known again from an iteration
    assert len((again.path / "metrics.jsonl").read_text().splitlines()) == 3
    assert (again.path / "superseded/metrics.jsonl").read_text() == '{"step": 9}\n{"ste\n'
    assert (
        again.seconds
        >= json.loads((again.path / "metrics.jsonl").read_text().splitlines()[-1])["time/time_elapsed"]
    )
