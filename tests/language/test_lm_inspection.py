"""`proximo inspect` of language models: every token of an update made again, on the real command line."""

import contextlib
import io
import json
import os

import jax
import numpy as np
import pytest
from policies import grpo, options, ppo
from workplace import workplace

from proximo.cli import main
from proximo.language.train.microscope import ledger, replay
from proximo.language.train.options import GRPOOptions
from proximo.language.train.sampling import update


def both(trainer):
    """What `update` makes of the third iteration, its epochs, and its ledger."""
    state = trainer.begin()
    for number in range(2):
        state = trainer.iterate(state, number).state
    rollout, arguments = trainer.before_update(state, 2)
    learner, metrics = update(*arguments)
    return learner, metrics, list(replay(*arguments)), ledger(*arguments), rollout


SEVERAL = dict(steps=dict(epochs=3, minibatches=2))
TRAINERS = {
    "ppo": lambda: ppo(options(**SEVERAL)),
    "two critics": lambda: ppo(options(**SEVERAL), critics=2 * (small(),)),
    "adapters, grouped by length": lambda: ppo(
        options(steps=dict(epochs=2, minibatches=2, group_by_length=True, micro_batch_tokens=32)), lora=2
    ),
    "grpo": lambda: grpo(options(GRPOOptions, **SEVERAL)),
}


def small():
    from small_models import small_model

    return small_model(layers=1)


@pytest.mark.parametrize("make", TRAINERS.values(), ids=TRAINERS)
def test_the_replay_ends_with_the_weights_of_the_update_bit_for_bit(make):
    learner, metrics, epochs, _, _ = both(make())
    for ours, theirs in zip(*map(jax.tree.leaves, (epochs[-1].weights, learner.weights)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    norms = np.concatenate([epoch.steps["grad_norm"] for epoch in epochs[1:]])
    np.testing.assert_allclose(norms.mean(), metrics["policy/grad_norm"], rtol=1e-5)


@pytest.fixture(scope="module")
def plain():
    return both(ppo(options(**SEVERAL)))


def test_before_the_first_epoch_nothing_has_moved(plain):
    _, _, (before, *_), _, _ = plain
    np.testing.assert_allclose(before.tokens.log_ratio, 0.0, atol=1e-5)
    assert all(abs(float(before.means[name])) < 1e-5 for name in ("k1", "k2", "k3", "outside"))


def test_a_token_s_reward_is_the_score_at_the_end_less_the_kl_paid(plain):
    """r_t = [t is the last] score - beta (log p - log p_ref), so a response's rewards add up to

    score - beta KL(response), with the KL of the metrics.
    """
    _, metrics, _, found, rollout = plain
    total = np.asarray(found.reward + found.paid).sum(axis=1)
    penalty = -float(metrics["objective/non_score_reward"])  # its mean over responses
    np.testing.assert_allclose(np.asarray(found.paid).sum(axis=1).mean(), penalty, rtol=1e-4, atol=1e-7)
    finished = np.asarray(rollout.responses.finished)
    np.testing.assert_allclose(total[finished], rollout.score[finished], atol=1e-5)
    gap = np.asarray(found.log_prob - found.reference)
    paying = np.abs(gap) > 1e-4
    ratios = np.asarray(found.paid)[paying] / gap[paying]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-2)  # beta, one for all tokens


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run of six iterations of PPO."""
    folder = workplace(tmp_path_factory.mktemp("inspected"))
    words = "--data prompts.jsonl --reward rewards_of_mine:ones --batch-size 8 --episodes 48 --quiet"
    sizes = "--response-length 6 --num-ppo-epochs 2 --learning-rate 0.003 --out run"
    with contextlib.chdir(folder):
        assert main(["lm", "ppo", "--model", "base", *words.split(), *sizes.split()]) == 0
    return folder


def inspected(folder, *words):
    stdout = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(stdout):
        status = main(["inspect", "run", *words])
    return status, stdout.getvalue()


def test_an_iteration_is_made_again_and_its_tokens_are_told(run):
    words = ("--reward", "rewards_of_mine:ones", "--update", "4", "--what-if", "learning_rate:0.03 clip:0.1")
    status, told = inspected(run, *words, "--episodes", "8", "--json", "--quiet")
    assert status == 0
    found = json.loads(told)
    own, other = found["versions"]
    assert other["means"]["k3"][-1] > own["means"]["k3"][-1] > 0.0
    assert len(own["means"]["k3"]) == 3 and "kl" not in own["means"]
    page = (run / "run" / "inspect-4.html").read_text()
    assert "its logged numbers are the same, bit for bit" in page
    assert "--episodes 8 --reward rewards_of_mine:ones</code>" in page  # with all that it needs
    assert page.count("of the reference") == 4 and "Sampled answers" in page


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "this run used --reward rewards_of_mine:ones (given now: none)"),
        (("--update", "9"), "update is 9: the run has 6, from 1"),
        (("--what-if", "minibatches:3"), "minibatches is 3: it must divide the 8 responses"),
        (("--what-if", "epochs:2"), "that is what the run has"),
        (("--seed", "3"), "--seed says nothing about a run of `proximo lm ppo`: leave it out"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, words, problem):
    reward = ("--reward", "rewards_of_mine:ones") if words else ()
    status, _ = inspected(run, *reward, *words)
    complaint = capsys.readouterr().err
    assert status == 2 and problem in complaint and complaint.count("\n") == 1


def test_runs_that_sample_nothing_have_nothing_to_inspect(run, capsys):
    words = ["--model", "base", "--data", "texts.jsonl", "--epochs", "1", "--quiet", "--out", "sft"]
    with contextlib.chdir(run):
        assert main(["lm", "sft", *words]) == 0
        assert main(["inspect", "sft"]) == 2
    assert "a run of `proximo lm sft`: only ppo and grpo can be inspected" in capsys.readouterr().err
    assert not os.path.exists(run / "sft" / "inspect-1.html")
