"""Reward models: what a pair costs, that the gold score is found, and how far the answer can be believed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

from proximo.errors import UserError
from proximo.language.files.folder import load_reward_model, save_model
from proximo.language.files.loading import load_model_and_tokenizer
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.heads import new_reward_model
from proximo.language.text.data import Preference
from proximo.language.text.packing import PairRows, batch_indices
from proximo.language.text.tokenizer import word_tokenizer
from proximo.language.train.calibration import calibration, share_with_interval
from proximo.language.train.job import training
from proximo.language.train.optimise import Optimisation
from proximo.language.train.reward_model import (
    CALIBRATION,
    RewardModelOptions,
    checked,
    facts_of,
    preference_loss,
    reference_scorer,
    reward_model_trainer,
    reward_training,
    split_held_out,
)

TOKENIZER = word_tokenizer([f"w{number}" for number in range(13)])
MODEL = new_reward_model(small_model(vocabulary=16, layers=1), jax.random.key(1))
GOLD = np.linspace(-1.5, 1.5, 13)  # what each of 13 words is worth
LENGTH = 6


def gold_scores(pairs):
    """What answers are worth: the sum of their words'; [N, 2]."""
    return np.array([[GOLD[ids - 3].sum() for ids in (p.chosen_ids, p.rejected_ids)] for p in pairs])


def pairs_by_gold(seed, count):
    """Random answers, preferred as Bradley and Terry would have it: with probability sigmoid(difference)."""
    random = np.random.default_rng(seed)
    prompts = random.integers(3, 16, (count, 2)).astype(np.int32)
    answers = random.integers(3, 16, (count, 2, LENGTH)).astype(np.int32)
    difference = np.diff(GOLD[answers - 3].sum(axis=-1))[:, 0]
    second_wins = random.random(count) < 1 / (1 + np.exp(-difference))
    ordered = np.where(second_wins[:, None, None], answers[:, ::-1], answers)
    return tuple(
        Preference(prompt, chosen, rejected, 0.0)
        for prompt, (chosen, rejected) in zip(prompts, ordered, strict=True)
    )


PAIRS, HELD_OUT = pairs_by_gold(0, 6400), pairs_by_gold(1, 1000)


def options(**changes):
    defaults = dict(data="", batch_size=32, length=32, model=ModelOptions(model=""))
    fast = Optimisation(learning_rate=1e-2, schedule="linear")
    return RewardModelOptions(**{**defaults, "optimisation": fast, **changes})


def trainer(pairs=PAIRS, held_out=(), **changes):
    return reward_training(options(**changes), MODEL, TOKENIZER, pairs, held_out)


def scores(made, weights, pairs):
    """What these weights say of pairs, [N, 2]."""
    return made.columns(weights, PairRows(pairs, 32))["scores"]


def close(ours, theirs, tolerance=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), ours, theirs)


# ---- what a pair costs


def test_the_loss_by_hand():
    chosen, rejected, margin = (
        jnp.array([1.5, 0.0, 2.0]),
        jnp.array([0.5, 0.0, 0.0]),
        jnp.array([0.0, 0.0, 2.0]),
    )
    # sigmoid of 1 is 0.731059; of 0, and of 2 - 2, it is 1/2.
    wanted = -np.log([0.731059, 0.5, 0.5])
    np.testing.assert_allclose(preference_loss(chosen, rejected, margin), wanted, rtol=1e-5)


def test_the_slope_is_the_probability_of_the_other_answer():
    slope = jax.grad(lambda chosen: preference_loss(chosen, 0.5, 0.0))(1.5)
    np.testing.assert_allclose(slope, -(1 - 0.731059), rtol=1e-5)


def test_what_is_logged_by_hand():
    facts = facts_of(np.array([[1.0, 0.0], [-2.0, 3.0], [2.0, 2.0]]))
    assert facts == {
        "accuracy": pytest.approx(1 / 3),  # a tie is no success
        "margin": pytest.approx((1 - 5 + 0) / 3),
        "mean_reward": pytest.approx(1.0),
        "min_reward": -2.0,
        "max_reward": 3.0,
    }


def test_the_centring_penalty_by_hand():
    """(r(chosen) + r(rejected))^2, times its coefficient, on top of the preference's cost."""
    made, centred = trainer(), trainer(center_rewards_coefficient=0.01)
    plain, other = (one.iterate(one.begin(), 0).metrics for one in (made, centred))
    first = [PAIRS[index] for index in batch_indices(0, 0, 32, len(PAIRS))]
    penalty = 0.01 * np.mean(scores(made, made.first, first).sum(axis=1) ** 2)
    np.testing.assert_allclose(other["loss"] - plain["loss"], penalty, rtol=1e-3)


def test_a_margin_is_asked_for():
    one = PAIRS[0]
    with_margin = Preference(one.prompt_ids, one.chosen_ids, one.rejected_ids, 1.0)
    made = trainer((one,) * 32)
    plain = made.iterate(made.begin(), 0).metrics
    asked = trainer((with_margin,) * 32)
    more = asked.iterate(asked.begin(), 0).metrics
    np.testing.assert_allclose(more["loss"], np.logaddexp(0.0, 1.0 - plain["margin"]), rtol=1e-5)


def test_micro_batches_do_not_change_a_step():
    whole, parts = trainer(), trainer(micro_batch_tokens=8 * 2 * 32)
    ours, theirs = (one.iterate(one.begin(), 0) for one in (parts, whole))
    close(ours.state, theirs.state)
    close(ours.metrics, theirs.metrics)


# ---- learning


@pytest.fixture(scope="module")
def learnt():
    made = trainer(held_out=HELD_OUT, epochs=2)
    return made, list(training(made))


def test_it_finds_the_gold_score(learnt):
    """It agrees with the labels nearly as often as the gold score itself, which nothing can surpass."""
    _, rows = learnt
    gold = gold_scores(HELD_OUT)
    possible = np.mean(gold[:, 0] > gold[:, 1])
    last = rows[-1].metrics
    assert 0.8 < possible < 0.95  # labels are noisy
    assert last["eval_accuracy"] > possible - 0.03
    assert last["eval_accuracy_low"] < last["eval_accuracy"] < last["eval_accuracy_high"]
    bayes = np.mean(np.logaddexp(0.0, gold[:, 1] - gold[:, 0]))
    assert last["eval_loss"] < bayes + 0.05


def test_its_rate_falls_over_the_run(learnt):
    _, rows = learnt
    rates = [row.metrics["learning_rate"] for row in rows]
    done = (np.arange(len(rows)) + 0.5) / len(rows)
    np.testing.assert_allclose(rates, 1e-2 * (1 - done), rtol=1e-4)


def test_its_probabilities_can_be_believed(learnt, tmp_path):
    made, rows = learnt
    made.save(rows[-1].state, tmp_path / "model")
    report = json.loads((tmp_path / CALIBRATION).read_text())
    assert report["count"] == 1000
    assert report["accuracy"]["value"] == pytest.approx(rows[-1].metrics["eval_accuracy"])
    assert report["expected_calibration_error"] < 0.06
    assert sum(row["count"] for row in report["bins"]) == 1000


def test_it_is_saved_with_mean_0_and_standard_deviation_1(learnt, tmp_path):
    made, rows = learnt
    made.save(rows[-1].state, tmp_path / "model")
    again = reward_training(made.options, load_reward_model(tmp_path / "model"), TOKENIZER, PAIRS[:512])
    ours, theirs = scores(again, again.first, PAIRS[:512]), scores(made, rows[-1].state.weights, PAIRS[:512])
    np.testing.assert_allclose([ours.mean(), ours.std()], [0.0, 1.0], atol=1e-4)
    scale = json.loads((tmp_path / CALIBRATION).read_text())["scale"]
    np.testing.assert_allclose(np.diff(ours) * scale, np.diff(theirs), atol=1e-3)  # the log odds are kept


def test_a_resumed_run_is_the_whole_run_bit_for_bit(learnt):
    _, rows = learnt
    begun_at = len(rows) - 3
    state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), rows[begun_at - 1].state)
    rest = list(training(trainer(held_out=HELD_OUT, epochs=2), state, begun_at))
    assert [row.metrics for row in rest] == [row.metrics for row in rows[begun_at:]]
    jax.tree.map(np.testing.assert_array_equal, rest[-1].state, rows[-1].state)


# ---- how far it can be believed


def test_calibration_by_hand():
    """0.3 that something happens is 0.7 that it does not, and falls into the same bin."""
    report = calibration(np.array([0.3, 0.72, 0.74, 0.95]), np.array([0, 1, 0, 1]), bins=5)
    middle, top = report["bins"]
    assert (middle["low"], middle["high"]) == (pytest.approx(0.7), pytest.approx(0.8))
    assert middle["count"] == 3 and top["count"] == 1
    assert middle["predicted"] == pytest.approx((0.7 + 0.72 + 0.74) / 3)
    assert middle["observed"] == pytest.approx(2 / 3)  # it did not happen, it did, it did not
    # 3/4 of the cases are 0.72 - 2/3 away, 1/4 are 1 - 0.95 away.
    assert report["expected_calibration_error"] == pytest.approx(0.75 * (0.72 - 2 / 3) + 0.25 * 0.05)
    assert report["accuracy"]["value"] == pytest.approx(3 / 4)
    assert report["log_loss"] == pytest.approx(-np.log([0.7, 0.72, 0.26, 0.95]).mean())


def test_it_does_not_matter_which_answer_comes_first():
    random = np.random.default_rng(0)
    said, happened = random.random(50), random.integers(0, 2, 50)
    swapped = calibration(1 - said, 1 - happened)
    for name, value in calibration(said, happened).items():
        if name != "bins":
            assert swapped[name] == pytest.approx(value)


def test_honest_probabilities_are_calibrated_and_boasts_are_not():
    random = np.random.default_rng(0)
    honest = random.random(4000)
    happened = (random.random(4000) < honest).astype(int)
    assert calibration(honest, happened)["expected_calibration_error"] < 0.03
    boasted = np.where(honest > 0.5, 0.99, 0.01)
    assert calibration(boasted, happened)["expected_calibration_error"] > 0.2


def test_certainty_is_a_number_too():
    report = calibration(np.array([0.0, 1.0, 0.5]), np.array([0, 1, 1]))
    assert report["expected_calibration_error"] == pytest.approx(0.5 / 3)
    assert np.isfinite(calibration(np.array([0.0]), np.array([1]))["log_loss"])


def test_an_interval_by_hand():
    assert share_with_interval(8, 10) == pytest.approx((0.8, 0.490, 0.943), abs=5e-4)
    assert share_with_interval(0, 5)[:2] == (0.0, 0.0)


# ---- from files


def test_a_share_is_held_out():
    kept, out = split_held_out(PAIRS[:40], 0.1, seed=3)
    assert len(out) == 4 and len(kept) == 36
    assert {*kept} | {*out} == {*PAIRS[:40]}
    assert split_held_out(PAIRS[:40], 0.1, seed=3)[1] == out
    assert split_held_out(PAIRS[:40], 0.1, seed=4)[1] != out
    assert split_held_out(PAIRS[:5], 0.0, seed=3) == (PAIRS[:5], ())


def test_from_files_to_a_folder(tmp_path):
    save_model(tmp_path / "small", small_model(vocabulary=16, layers=1), TOKENIZER)
    records = [{"prompt": "w1", "chosen": f"w{i} w2", "rejected": f"w3 w{i}"} for i in range(4, 12)]
    records.append({"prompt": "w1", "chosen": " ".join(["w2"] * 99), "rejected": "w3"})
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = options(
        data=str(data), evaluation_share=0.25, model=ModelOptions(model=str(tmp_path / "small"), lora_rank=2)
    )
    made = reward_model_trainer(asked)
    assert (len(made.rows), len(made.held_out)) == (6, 2)
    assert made.notes[-1].endswith("0 records truncated, 1 dropped as too long")
    made.save(made.begin(), tmp_path / "model")
    assert load_reward_model(tmp_path / "model").trunk.config.family == "llama"


@pytest.mark.parametrize(
    "wrong", [dict(evaluation_share=1.0), dict(center_rewards_coefficient=-1.0), dict(epochs=0)], ids=str
)
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        checked(options(**wrong))


def made_from_files(folder, **changes):
    """A trainer on a small model's folder and eight pairs."""
    save_model(folder / "small", small_model(vocabulary=16, layers=1), TOKENIZER)
    records = [{"prompt": f"w{i}", "chosen": "w1 w2", "rejected": f"w{i} w3"} for i in range(4, 12)]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    model = ModelOptions(model=str(folder / "small"))
    return reward_model_trainer(options(data=str(data), batch_size=8, model=model, **changes))


def test_samples_of_the_model_that_it_began_from_can_be_the_measure(tmp_path):
    """Mean 0 and standard deviation 1 on what that model says, not on the answers of the data."""
    made = made_from_files(tmp_path, normalise="samples", sample_length=6)
    state = made.begin()
    made.save(state, tmp_path / "model")
    small, _ = load_model_and_tokenizer(made.options.model, jax.random.key(0))
    prompts = [pair.prompt_ids for pair in made.rows.pairs]
    scores = reference_scorer(small, TOKENIZER, prompts, made.options)
    on_samples = scores(load_reward_model(tmp_path / "model"))
    assert on_samples.shape == (512,)
    np.testing.assert_allclose([on_samples.mean(), on_samples.std()], [0.0, 1.0], atol=1e-4)
    plain = made_from_files(tmp_path)
    plain.save(state, tmp_path / "plain")
    on_samples = scores(load_reward_model(tmp_path / "plain"))
    assert abs(on_samples.mean()) > 0.05 or abs(on_samples.std() - 1.0) > 0.05


def test_a_model_that_scores_all_alike_is_kept_too(tmp_path):
    made = made_from_files(tmp_path)
    made.save(jax.tree.map(jnp.zeros_like, made.begin()), tmp_path / "model")
    assert not np.any(load_reward_model(tmp_path / "model").score.weight)


def test_samples_need_room(tmp_path):
    with pytest.raises(UserError, match="sample_length is 1000: no prompt leaves this much room"):
        made_from_files(tmp_path, normalise="samples", sample_length=1000)
