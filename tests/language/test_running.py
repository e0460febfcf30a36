"""The run folder of a language model: what is logged, what is kept, and going on after any end."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_trainer import Toy, files

from proximo.errors import CheckpointDamaged, UserError
from proximo.language.running import read_config, record_iterations, restore
from proximo.language.train.job import training
from proximo.runs.folder import RunFolder

HERE = Path(__file__).parent


def new_run(path, trainer=None):
    return RunFolder.create(files(trainer or Toy()), path)


def finish(trainer, path, every=1e9):
    """A whole run in a new folder; its last iteration."""
    return list(record_iterations(trainer, new_run(path, trainer), every))[-1]


def go_on(trainer, path, every=1e9):
    run, state, number = restore(path, files(trainer), trainer)
    return list(record_iterations(trainer, run, every, state, number))


def log(path, name="metrics.jsonl"):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def numbers(path):
    return sorted(int(checkpoint.name) for checkpoint in (path / "checkpoints").glob("[0-9]*"))


def same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


# ---- one iteration after the other


def test_training_begins_where_it_is_told_to():
    whole = [iteration.state for iteration in training(Toy())]
    rest = [iteration.state for iteration in training(Toy(), whole[1], 2)]
    assert len(rest) == 3
    same(rest, whole[2:])


def test_a_metric_that_is_no_number_ends_the_training():
    with pytest.raises(UserError, match="loss is nan in iteration 3, which is discarded: lower --learning"):
        list(training(Toy(worse=2)))


# ---- the folder


def test_what_a_run_leaves(tmp_path):
    last = finish(Toy(), tmp_path / "run")
    assert [row["step"] for row in log(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert log(tmp_path / "run")[-1]["loss"] == last.metrics["loss"]
    assert log(tmp_path / "run", "completions.jsonl")[1] == {"step": 2, "completion": "number 1"}
    assert numbers(tmp_path / "run") == [5]
    assert (tmp_path / "run/model/walk.txt").read_text() == repr(float(last.state["walk"][0]))


def test_a_run_is_described(tmp_path):
    new_run(tmp_path / "run")
    said = read_config(tmp_path / "run")
    assert said["command"] == "toy"
    assert said["options"]["size"] == 3 and said["options"]["run"]["seed"] == 4
    assert json.loads((tmp_path / "run/config.json").read_text())["versions"]["jax"] == jax.__version__


def test_a_run_that_never_began_leaves_its_folder_free(tmp_path):
    new_run(tmp_path / "run").lock.release()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    finish(Toy(), tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run"):
        new_run(tmp_path / "run")


@pytest.mark.parametrize("content", [None, "[]", '{"command": 3, "options": {}}', '{"command": "sft"}', "{"])
def test_what_is_no_run_is_not_described(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not"):
        read_config(tmp_path)


# ---- checkpoints


def test_the_newest_two_are_kept(tmp_path):
    finish(Toy(), tmp_path, every=0.0)
    assert numbers(tmp_path) == [4, 5]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_now_and_then(tmp_path):
    run = new_run(tmp_path)
    iterations = record_iterations(Toy(), run, every=1e9)
    next(iterations)
    assert numbers(tmp_path) == []  # not due for long
    iterations.close()
    assert numbers(tmp_path) == [1]  # but nothing is lost when we are told to stop


def test_a_state_that_is_not_finite_is_not_kept(tmp_path):
    with pytest.raises(UserError, match="walk is not finite"):
        finish(Toy(infinite=3), tmp_path, every=0.0)
    assert numbers(tmp_path) == [2, 3]


def test_a_failed_iteration_leaves_the_one_before(tmp_path):
    with pytest.raises(UserError, match="iteration 4"):
        finish(Toy(worse=3), tmp_path)
    assert numbers(tmp_path) == [3]
    whole = list(training(Toy()))[-1]
    same(go_on(Toy(), tmp_path)[-1].state, whole.state)


# ---- going on


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_the_whole_run(tmp_path, stop):
    whole = finish(Toy(), tmp_path / "whole")
    stopped = record_iterations(Toy(), new_run(tmp_path / "run"), 1e9)
    list(itertools.islice(stopped, stop))
    stopped.close()
    same(go_on(Toy(), tmp_path / "run")[-1].state, whole.state)

    def without_times(rows):
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]

    assert without_times(log(tmp_path / "run")) == without_times(log(tmp_path / "whole"))
    assert (tmp_path / "run/model/walk.txt").read_text() == (tmp_path / "whole/model/walk.txt").read_text()


def test_the_clock_goes_on(tmp_path):
    run = new_run(tmp_path)
    run._started -= 1000.0
    list(record_iterations(Toy(total=2), run, 1e9))
    go_on(Toy(total=3), tmp_path)
    assert log(tmp_path)[-1]["time/time_elapsed"] > 1000.0


def test_what_comes_after_the_checkpoint_is_not_logged_twice(tmp_path):
    finish(Toy(total=3), tmp_path, every=0.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')  # killed while it wrote
    go_on(Toy(total=5), tmp_path)
    assert [row["step"] for row in log(tmp_path)] == [1, 2, 3, 4, 5]
    assert (tmp_path / "superseded/metrics.jsonl").read_text().endswith('"step": 5, "lo\n')


def test_lines_that_are_no_json_are_set_aside(tmp_path):
    finish(Toy(total=3), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo{"step": 4}\nnull\n{}\n')
    go_on(Toy(total=4), tmp_path)
    assert [row["step"] for row in log(tmp_path)] == [1, 2, 3, 4]


def test_a_run_that_was_killed_just_before_its_model(tmp_path):
    finish(Toy(), tmp_path)
    saved = (tmp_path / "model/walk.txt").read_text()
    shutil.rmtree(tmp_path / "model")
    assert go_on(Toy(), tmp_path) == []
    assert (tmp_path / "model/walk.txt").read_text() == saved


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path):
    whole = finish(Toy(), tmp_path, every=0.0)
    flip_a_byte(tmp_path / "checkpoints/000000000005/state.safetensors")
    with pytest.warns(CheckpointDamaged, match="an older checkpoint is used instead"):
        run, state, number = restore(tmp_path, files(Toy()), Toy())
    assert numbers(tmp_path) == [4] == [number]  # the damaged one would outrank new ones
    again = list(record_iterations(Toy(), run, 0.0, state, number))
    assert [iteration.number for iteration in again] == [5]
    same(again[-1].state, whole.state)
    assert numbers(tmp_path) == [4, 5]


def test_a_run_without_a_whole_checkpoint_does_not_start_over(tmp_path):
    new_run(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint"):
        restore(tmp_path, files(Toy()), Toy())
    list(record_iterations(Toy(total=2), RunFolder(tmp_path, files(Toy())), 0.0))
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        flip_a_byte(checkpoint / "state.safetensors")
    with pytest.raises(UserError, match=r"none of 2 checkpoints .* can be used; the newest: .*SHA-256"):
        restore(tmp_path, files(Toy()), Toy())


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    finish(Toy(size=3), tmp_path)
    message = r"the newest: .*walk is float32\[3\], but its description asks for float32\[4\]"
    with pytest.raises(UserError, match=message):
        restore(tmp_path, files(Toy(size=4)), Toy(size=4))


# ---- killed


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def test_killed_while_it_writes_checkpoints(tmp_path):
    """Twice, at a moment when a checkpoint is half on the disk; what it had done then is on the way."""
    new_run(tmp_path)
    for _ in range(2):
        done = max(numbers(tmp_path), default=0)
        process = subprocess.Popen(
            [sys.executable, HERE / "toy_trainer.py", tmp_path],
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
        )
        try:
            wait_for(lambda done=done: max(numbers(tmp_path), default=0) >= done + 2)
            wait_for(lambda: list((tmp_path / "checkpoints").glob(".*.partial")))
        finally:
            process.kill()
            process.wait()
    trainer = Toy(total=10**6, size=10**6)
    _, state, number = restore(tmp_path, files(trainer), trainer)
    assert number == max(numbers(tmp_path)) >= 4
    whole = next(itertools.islice(training(trainer), number - 1, None))
    same(state, whole.state)
    assert [row["step"] for row in log(tmp_path)] == list(range(1, number + 1))
    assert jnp.isfinite(state["walk"]).all()
