"""`proximo inspect`: an update of a run made again, on the real command line."""

import contextlib
import io
import json
import re

import jax
import numpy as np
import pytest

import proximo
from proximo.cli import main
from proximo.commands.inspect import parsed_changes
from proximo.control.inspection import changed, moment_of, plan
from proximo.core import Clip
from proximo.errors import UserError
from proximo.learn.options import UpdateOptions
from proximo.learn.update import update

TINY = (
    *("--num-envs", "4", "--horizon", "32", "--minibatch-size", "64", "--epochs", "2"),
    *("--hidden", "8", "--steps", "1280", "--quiet"),
)


def typed(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eleven updates of CartPole; the first and the last have a checkpoint."""
    out = tmp_path_factory.mktemp("inspected") / "run"
    assert typed("train", "CartPole-v1", *TINY, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def numbers(run, tmp_path_factory):
    """What is printed of update 4 and two that might have been."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    words = ("--update", 4, "--what-if", "clip:0.01", "epochs:5 learning_rate:0.02", "--episodes", 6)
    stdout = _captured("inspect", run, *words, "--out", out, "--json", "--quiet")
    return json.loads(stdout), out.read_text()


def _captured(*words):
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        assert typed(*words) == 0
    return stdout.getvalue()


@pytest.mark.parametrize("number", [1, 2, 7, 11])
def test_every_update_of_a_run_is_made_again_bit_for_bit(run, number):
    """From its beginning or from a checkpoint, whichever there is."""
    moment = moment_of(plan(run, number))
    assert (moment.number, moment.same, moment.fresh) == (number, "bits", None)
    assert moment.remaining == pytest.approx(1 - (moment.steps - moment.experience.mask.sum()) / 1280)


def test_the_last_update_ends_with_the_model_of_the_run(run):
    moment = moment_of(plan(run, 11))
    after, _ = update(moment.learner, moment.experience, moment.config.update, moment.remaining)
    for ours, theirs in zip(*map(jax.tree.leaves, (after.policy, proximo.load(run).policy)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_by_default_a_short_run_is_inspected_in_its_middle(run):
    found = plan(run)
    assert (found.number, found.start.number, found.updates_before) == (5, 1, 3)


def test_the_folder_of_the_run_gets_the_page_and_nothing_else(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert typed("inspect", run, "--update", 2, "--episodes", 0) == 0
    page = run / "inspect-2.html"
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert after.pop(page) and after == before
    assert "return after it" not in page.read_text()
    page.unlink()


def test_numbers_and_page_tell_the_same(numbers):
    found, page = numbers
    labels = ["as the run made it", "clip:0.01", "epochs:5 learning_rate:0.02"]
    assert [one["label"] for one in found["versions"]] == labels
    own, narrow, wide = (one["means"] for one in found["versions"])
    assert (len(own["kl"]), len(narrow["kl"]), len(wide["kl"])) == (3, 3, 6)  # and before the first
    assert narrow["no_slope"][-1] > own["no_slope"][-1]  # in a narrow range most samples soon have no slope
    assert wide["kl"][-1] > 5 * own["kl"][-1]  # twenty times the learning rate
    assert all(one["score"] > 0 for one in found["versions"])
    gain = found["versions"][2]["score"] - found["versions"][0]["score"]
    assert found["versions"][2]["gain"]["value"] == pytest.approx(gain)
    assert found["versions"][0]["gain"] is None
    assert "its logged numbers are the same, bit for bit" in page
    assert all(label in page for label in labels)
    assert len(re.findall("histogram of ratios", page)) == 2 + 3  # epochs, then the versions


def test_the_page_is_one_file_without_scripts_or_requests(numbers):
    _, page = numbers
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<section>") == page.count("</section>") == 7


def test_the_page_says_how_to_make_it_again(numbers):
    _, page = numbers
    command = re.search(r"<code>(proximo inspect .*?)</code>", page)[1].replace("&#x27;", "'")
    assert "--update 4 --what-if clip:0.01 'epochs:5 learning_rate:0.02' --episodes 6" in command


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("clip:0.1", {"objective": Clip(0.1)}),
        ("epochs:30 lr:0.01", {"epochs": 30, "learning_rate": 0.01}),
        ("anneal:false", {"anneal": False}),
        ("n_epochs:4", {"epochs": 4}),
        ("target_kl:0.02", {"target_kl": 0.02}),
    ],
)
def test_changes_are_written_as_options_of_train(words, changes):
    assert parsed_changes(words, UpdateOptions()) == changes


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--update", "12"], "ends with update 11: there is no update 12"),
        (["--update", "0"], "update is 0: the first one is 1"),
        (["--episodes", "-1"], "episodes is -1: it must be at least 0"),
        (["--what-if", "clip=0.1"], "--what-if clip=0.1 is not of the form OPTION:VALUE, such as clip:0.1"),
        (["--what-if", "hidden:3"], "--what-if hidden:3: "),
        (["--what-if", "epochs:0"], "--what-if epochs:0: "),
        (["--what-if", "epochs:2"], "--what-if epochs:2: that is what the run has"),
        (["--what-if", "minibatch_size:50"], "minibatch_size"),
        (["--what-if", "normalise_observations:false"], "normalise_observations cannot change: the rollout"),
        (["--reward", "a:b"], "--reward says nothing about a run of `proximo train`: leave it out"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, words, problem):
    assert typed("inspect", run, *words) == 2
    complaint = capsys.readouterr().err
    assert problem in complaint and complaint.count("\n") == 1, complaint


def test_what_is_no_run_is_said(tmp_path, capsys):
    assert typed("inspect", tmp_path / "nowhere") == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_the_cross_entropy_method_has_no_epochs(tmp_path, capsys):
    assert typed("train", "CartPole-v1", "--preset", "cem", "--steps", 400, "--out", tmp_path, "--quiet") == 0
    assert typed("inspect", tmp_path) == 2
    assert "has no update of epochs and minibatches" in capsys.readouterr().err


def test_environments_that_cannot_tell_their_state_give_a_new_rollout_and_it_is_said(tmp_path):
    run = tmp_path / "run"
    assert typed("train", "LunarLander-v3", *TINY, "--out", run) == 0
    found = json.loads(_captured("inspect", run, "--update", 3, "--episodes", 0, "--json", "--quiet"))
    (note,) = found["notes"]
    assert note.startswith("LunarLander-v3 cannot save its state")
    assert "a new rollout of the run's policy, not the one that the run learned from" in note
    assert "Not quite the update that the run made" in (run / "inspect-3.html").read_text()
    moment = moment_of(plan(run, 1))  # from the run's beginning all of it is the same
    assert (moment.same, moment.fresh) == ("bits", None)


def test_a_rate_that_follows_the_kl_is_not_set_by_a_what_if():
    config = proximo.preset("default", "CartPole-v1")
    following = proximo.with_options(config, learning_rate_kl=0.01)
    with pytest.raises(UserError, match="learning_rate cannot change: it has followed learning_rate_kl"):
        changed(following, {"learning_rate": 0.1})
    assert changed(following, {"learning_rate_kl": 0.02}).update.learning_rate_kl == 0.02
    assert changed(config, {"learning_rate": 0.1}).update.learning_rate == 0.1
