"""What happens within a worker process: members end one by one, and a broken one alone."""

import json

import pytest
from stand_in import (
    GRID,
    STEPS,
    fill,
    finished,
    train,
    train_and_complain,
    train_and_complain_at_once,
    train_and_diverge,
    train_and_fault,
    train_and_refuse,
    train_for_ever,
)

from proximo.errors import EnvironmentFault, UserError
from proximo.experiments import worker
from proximo.experiments.grid import Group, cells
from proximo.experiments.worker import Failed, Finished, OutputFolders, Progress

ONE = {"environments": ["CartPole-v1"], "settings": ["high"]}


def result(folder, name):
    return json.loads((folder / "results" / "tiny" / f"{name}.json").read_text())


def test_every_member_becomes_a_file(tmp_path):
    told = fill(tmp_path, **ONE)
    assert finished(tmp_path) == ["CartPole-v1/high-0", "CartPole-v1/high-1"]
    assert told[-1] == Progress(steps=2 * STEPS, cells=2)
    assert result(tmp_path, "CartPole-v1/high-1")["members"] == 2


def test_a_member_is_written_when_it_is_done_not_when_all_are(tmp_path):
    def interrupted(configs):
        for number, turn in enumerate(train_for_ever(configs)):
            if number == 6:
                raise KeyboardInterrupt  # seed 0 ended after the fourth turn, seed 1 never
            yield turn

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, train=interrupted, **ONE)
    assert finished(tmp_path) == ["CartPole-v1/high-0"]


def test_a_member_that_diverges_is_a_result_and_the_others_go_on(tmp_path):
    told = fill(tmp_path, train=train_and_diverge, **ONE)
    whole, broken = (result(tmp_path, f"CartPole-v1/high-{seed}") for seed in (0, 1))
    assert (whole["steps"], "diverged" in whole) == (400, False)
    assert (broken["steps"], broken["diverged"], broken["episodes"]) == (200, 200, 20)
    assert broken["score"] == 92.5  # 91 + (1 + 2) / 2
    assert told[-1] == Progress(steps=2 * STEPS, cells=2)  # nobody waits for the rest


def test_a_member_alone_that_diverges(tmp_path):
    fill(tmp_path, train=train_and_complain, seeds=[1], **ONE)
    broken = result(tmp_path, "CartPole-v1/high-1")
    assert (broken["diverged"], broken["episodes"]) == (200, 20)  # as among several


def test_a_member_alone_that_diverges_in_its_first_update(tmp_path):
    fill(tmp_path, train=train_and_complain_at_once, seeds=[1], **ONE)
    broken = result(tmp_path, "CartPole-v1/high-1")
    assert (broken["diverged"], broken["episodes"]) == (100, 10)


def test_another_mistake_is_no_divergence(tmp_path):
    with pytest.raises(UserError, match="has not ended"):
        fill(tmp_path, train=train_and_refuse, seeds=[1], **ONE)
    assert finished(tmp_path) == []


def test_an_environment_that_fails_is_no_result(tmp_path):
    with pytest.raises(EnvironmentFault, match="nan in its reward"):
        fill(tmp_path, train=train_and_fault, seeds=[1], **ONE)
    assert finished(tmp_path) == []


def test_a_training_that_ends_too_early_is_no_result(tmp_path):
    def short(configs):
        yield next(train(configs))

    with pytest.raises(RuntimeError, match="high-1 ended after 100 steps"):
        fill(tmp_path, train=short, seeds=[1], **ONE)
    assert finished(tmp_path) == []


def test_what_goes_wrong_becomes_a_message(tmp_path):
    task = Group(tuple(cells(GRID, seeds=[0], **ONE)))
    places = OutputFolders(tmp_path / "results", tmp_path / "episodes", {"tiny": []})

    def wrong(configs):
        raise ZeroDivisionError("no\ndenominator")

    failed = worker.outcome(task, places, wrong, print)
    assert isinstance(failed, Failed) and "Traceback" in failed.trace
    assert failed.message == "tiny/CartPole-v1/high-0 failed (ZeroDivisionError: no denominator)"
    (tmp_path / "results").write_text("in the way")
    failed = worker.outcome(task, places, train, print)
    assert "cannot write" in failed.message and "\n" not in failed.message
    (tmp_path / "results").unlink()
    assert worker.outcome(task, places, train, lambda progress: None) == Finished()
