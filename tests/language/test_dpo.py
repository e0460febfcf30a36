"""Direct Preference Optimization: what a pair costs, and that its best policy is the one of the theory."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

from proximo.core import ConservativeLoss, IPOLoss
from proximo.errors import UserError
from proximo.language.files.folder import load_model, save_model
from proximo.language.files.loading import add_adapters
from proximo.language.files.model_options import ModelOptions
from proximo.language.text.data import Preference
from proximo.language.text.tokenizer import word_tokenizer
from proximo.language.train.dpo import DPOOptions, check_reference, checked, dpo_trainer, preference_tuning
from proximo.language.train.job import training
from proximo.language.train.optimise import Optimisation

TOKENIZER = word_tokenizer([f"w{number}" for number in range(13)])
MODEL = small_model(vocabulary=16, layers=1)


def ids(*numbers):
    return np.array(numbers, np.int32)


def random_pairs(count):
    random = np.random.default_rng(0)

    def some(low, high):
        return random.integers(3, 16, random.integers(low, high)).astype(np.int32)

    return tuple(Preference(some(1, 8), some(1, 8), some(8, 12), 0.0) for _ in range(count))


PAIRS = random_pairs(10)


def options(**changes):
    defaults = dict(data="", batch_size=4, length=32, model=ModelOptions(model=""))
    fast = Optimisation(learning_rate=1e-2, schedule="constant")
    return DPOOptions(**{**defaults, "optimisation": fast, **changes})


def trainer(pairs=PAIRS, held_out=(), model=MODEL, **changes):
    return preference_tuning(options(**changes), model, TOKENIZER, pairs, held_out)


def close(ours, theirs, tolerance=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), ours, theirs)


# ---- what a step is


@pytest.fixture(scope="module")
def plain():
    """The first step of a run."""
    made = trainer()
    return made.iterate(made.begin(), 0)


def test_it_begins_at_log_2(plain):
    metrics = plain.metrics
    np.testing.assert_allclose(metrics["loss"], np.log(2.0), atol=1e-6)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        np.testing.assert_allclose(metrics[name], 0.0, atol=1e-5)


def test_log_probabilities_by_hand():
    """Of the answer's tokens alone, each given the prompt and those before it."""
    made = trainer()
    said = jax.jit(lambda ids: jax.nn.log_softmax(MODEL.logits(MODEL.hidden(ids))))
    for pair, found in zip(PAIRS, made.rows.reference, strict=True):
        for answer, log_prob in zip((pair.chosen_ids, pair.rejected_ids), found, strict=True):
            row, start = np.concatenate([pair.prompt_ids, answer]), len(pair.prompt_ids)
            logits = np.asarray(said(np.pad(row, (0, 32 - len(row)))[None])[0])
            wanted = sum(logits[place - 1, row[place]] for place in range(start, len(row)))
            np.testing.assert_allclose(log_prob, wanted, rtol=1e-5)


def test_what_is_logged_by_hand():
    """After a step the rewards are beta times how far the log-probabilities have moved."""
    made = trainer(pairs=PAIRS[:4])
    first = made.iterate(made.begin(), 0)
    second = made.iterate(first.state, 1)
    moved = made.columns(first.state.weights, made.rows)["log_probs"]
    rewards = 0.1 * (moved - made.rows.reference)
    wanted = {
        "logps/chosen": moved[:, 0].mean(),
        "logps/rejected": moved[:, 1].mean(),
        "rewards/chosen": rewards[:, 0].mean(),
        "rewards/rejected": rewards[:, 1].mean(),
        "rewards/margins": (rewards[:, 0] - rewards[:, 1]).mean(),
        "rewards/accuracies": (rewards[:, 0] > rewards[:, 1]).mean(),
        "loss": np.logaddexp(0.0, rewards[:, 1] - rewards[:, 0]).mean(),
        "learning_rate": 0.01,
        "epoch": 2.0,
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(second.metrics[name], value, rtol=1e-4, atol=1e-5)
    assert second.metrics["loss"] < first.metrics["loss"]


def test_micro_batches_do_not_change_a_step(plain):
    parts = trainer(micro_batch_tokens=2 * 2 * 32)
    found = parts.iterate(parts.begin(), 0)
    close(found.state, plain.state)
    for name in found.metrics.keys() - {"rewards/accuracies"}:  # which of two zeros is larger is rounding
        np.testing.assert_allclose(found.metrics[name], plain.metrics[name], rtol=1e-5, atol=1e-5)


def test_means_over_tokens_by_hand():
    """IPO sees log ratios per token: a chosen answer of 2, a rejected one of 4."""
    pair = Preference(ids(5), ids(6, 7), ids(8, 9, 10, 11), 0.0)
    made = trainer((pair,) * 4, loss=IPOLoss())
    away = np.array([[3.0, -2.0]] * 4, np.float32)  # as if the reference were so much less, and more
    made.rows.reference = made.rows.reference - away
    columns = made.columns(made.first, made.rows)
    np.testing.assert_allclose(columns["log_ratios"], [[3.0 / 2, -2.0 / 4]] * 4, rtol=1e-4)
    np.testing.assert_allclose(columns["loss"], (3.0 / 2 + 2.0 / 4 - 5.0) ** 2, rtol=1e-4)


def test_another_reference_is_noticed():
    facts = {"log_ratios": np.array([[0.0, 1e-5]]), "log_probs": np.array([[-9.0, -50.0]])}
    check_reference(facts)
    for wrong in (0.5, np.nan):
        with pytest.raises(UserError, match="policy and reference differ"):
            check_reference(facts | {"log_ratios": np.array([[0.0, wrong]])})


# ---- learning

# Rewards 0, log 2 and log 4 of three answers: preferred 2 to 1, 4 to 1 and 2 to 1.
A, B, C = 4, 5, 6
REWARD = np.log([1.0, 2.0, 4.0])
BANDIT = tuple(
    Preference(ids(3), ids(better), ids(worse), 0.0)
    for better, worse in [(B, A), (B, A), (A, B), *[(C, A)] * 4, (A, C), (C, B), (C, B), (B, C)]
)


def test_its_best_policy_is_that_of_the_theory():
    """One-token answers, preferred exactly as Bradley and Terry would have it: pi = ref exp(r / beta) / Z.

    Only the three answers occur, so it is their probabilities among each other that are known.
    """
    beta = 0.5
    made = trainer(BANDIT, batch_size=len(BANDIT), epochs=250, beta=beta)
    *_, last = training(made)
    said = jax.jit(lambda model: jax.nn.log_softmax(model.logits(model.hidden(ids(3)[None]))[0, 0]))
    policy, reference = (said(model)[jnp.array([A, B, C])] for model in (last.state.weights, MODEL))
    best = jax.nn.softmax(reference + REWARD / beta)
    np.testing.assert_allclose(jax.nn.softmax(policy), best, atol=0.005)
    assert np.abs(jax.nn.softmax(reference) - best).max() > 0.1  # there was something to learn
    # The least that pairs of which a third, or a fifth, go the other way can cost.
    least = (6 * np.log(3) - 4 * np.log(2) + 5 * np.log(5) - 4 * np.log(4)) / 11
    np.testing.assert_allclose(last.metrics["loss"], least, atol=1e-4)


def test_adapters_have_the_frozen_model_as_reference(plain):
    asked = ModelOptions(model="", lora_rank=2)
    made = trainer(model=add_adapters(MODEL, asked, jax.random.key(1)))
    close(made.rows.reference, trainer().rows.reference, 1e-4)
    rows = list(training(made))
    np.testing.assert_allclose(rows[0].metrics["loss"], np.log(2.0), atol=1e-6)
    assert rows[-1].metrics["rewards/margins"] > 0
    assert plain.metrics["logps/chosen"] == pytest.approx(rows[0].metrics["logps/chosen"], rel=1e-5)


# ---- going on


def test_a_resumed_run_is_the_whole_run_bit_for_bit():
    changes = dict(held_out=PAIRS[:3], epochs=2)
    whole = list(training(trainer(**changes)))
    state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), whole[1].state)
    rest = list(training(trainer(**changes), state, 2))
    assert len(whole) == 5 and len(rest) == 3
    assert [row.metrics["num_tokens"] for row in whole] == [row.tokens for row in whole]
    assert [row.metrics for row in rest] == [row.metrics for row in whole[2:]]
    jax.tree.map(np.testing.assert_array_equal, rest[-1].state, whole[-1].state)
    assert [row.number for row in whole if "eval_rewards/accuracies" in row.metrics] == [3, 5]


# ---- from files


def test_from_files_to_a_folder(tmp_path):
    save_model(tmp_path / "small", MODEL, TOKENIZER)
    records = [{"prompt": "w1", "chosen": f"w{i} w2", "rejected": f"w3 w{i}"} for i in range(4, 12)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    made = dpo_trainer(options(data=str(data), model=ModelOptions(model=str(tmp_path / "small"))))
    assert (len(made.rows), made.total) == (8, 2)
    made.save(made.begin(), tmp_path / "model")
    close(load_model(tmp_path / "model").embedding, MODEL.embedding, 0.0)


@pytest.mark.parametrize("wrong", [dict(beta=0.0), dict(loss=ConservativeLoss(0.5)), dict(epochs=0)], ids=str)
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match="must be"):
        checked(options(**wrong))
