"""Checkpoints are whole or not there; which are kept, and which is taken. Nothing is trained here."""

import pytest

from proximo.errors import CheckpointDamaged, UserError
from proximo.runs.checkpoints import Checkpoints, finished, newest_valid, quarantine, read_state, state_files


def save(checkpoints, steps, score=None):
    return checkpoints.save(steps, state_files({}, {"steps": steps, "mean_return": score}))


def load(path):
    return read_state(path, lambda description, arrays, files: description["steps"])


def kept(checkpoints):
    return [int(path.name) for path in finished(checkpoints.path)]


def damage(path):
    content = bytearray((path / "state.json").read_bytes())
    content[-1] ^= 1
    (path / "state.json").write_bytes(content)


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for steps, score in ((1, None), (2, 9.5), (3, -1.0), (4, 9.0), (5, None)):
        save(checkpoints, steps, score)
    assert kept(checkpoints) == [5, 4, 2]
    assert kept(Checkpoints(checkpoints.path)) == [5, 4, 2]  # the scores are read from the files
    save(Checkpoints(checkpoints.path, keep=2), 6)
    assert kept(checkpoints) == [6, 5, 2]
    assert [path.name for path in checkpoints.path.iterdir() if path.name.startswith(".")] == []


def test_without_scores_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for steps in (1, 2, 3):
        checkpoints.save(steps, state_files({}, {}))
    assert kept(checkpoints) == [3, 2]


def test_at_least_two_are_kept(tmp_path):
    assert Checkpoints(tmp_path, keep=1).keep == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    older, newest = (save(checkpoints, steps) for steps in (8, 16))
    damage(newest)
    with pytest.warns(
        CheckpointDamaged, match=f"{newest.name} has changed since it was saved.*older checkpoint"
    ):
        assert newest_valid(tmp_path, load) == (older, 8)


def test_the_same_steps_can_be_damaged_and_hidden_again_and_again(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    taken = save(checkpoints, 8)
    for _ in range(3):
        newest = save(checkpoints, 16)
        quarantine(tmp_path, taken)
        assert finished(tmp_path / "checkpoints") == [taken]
    hidden = sorted(path.name for path in taken.parent.glob(".*"))
    assert hidden == sorted(f".{newest.name}{number}.damaged" for number in ("", "-2", "-3"))


def test_one_that_was_half_removed_before_is_no_obstacle(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for name in ("000000000001", "000000000002"):  # as a kill after the renaming would leave it
        left = checkpoints.path / f".{name}.gone"
        left.mkdir(parents=True)
        (left / "state.json").write_text("{}")
    for steps in (1, 2, 3, 4):
        save(checkpoints, steps)
    assert kept(checkpoints) == [4, 3] and not list(checkpoints.path.glob(".*.gone"))


def test_a_run_never_starts_over_in_silence(tmp_path):
    with pytest.raises(UserError, match=r"there is no checkpoint in .*: start a new run with another --out"):
        newest_valid(tmp_path, load)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    damage(save(checkpoints, 1))
    with pytest.raises(UserError, match=r"the only checkpoint of .* cannot be used; the newest: .*SHA-256"):
        newest_valid(tmp_path, load)
    damage(save(checkpoints, 2))
    with pytest.raises(UserError, match=r"none of 2 checkpoints of .* can be used; the newest: .*SHA-256"):
        newest_valid(tmp_path, load)


def test_what_is_being_written_is_no_checkpoint(tmp_path):
    path = save(Checkpoints(tmp_path / "checkpoints"), 5)
    for name in (f".{path.name}.partial", f".{path.name}.old", "latest", "123"):
        (path.parent / name).mkdir()
    assert finished(path.parent) == [path]


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    path = Checkpoints(tmp_path).save(1, state_files({}, {"format": 9, "steps": 1}))
    with pytest.raises(UserError, match="is not in checkpoint format 1, which this version reads"):
        load(path)
