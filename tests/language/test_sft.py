"""Supervised fine-tuning: what carries loss, what a step is, and that it learns."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

from proximo.errors import UserError
from proximo.language.files.folder import load_model, save_model
from proximo.language.files.loading import (
    add_adapters,
    combine,
    load_model_and_tokenizer,
    partition_trainable,
)
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.adapters import merge_adapters
from proximo.language.text.data import TrainingText, read_training_texts
from proximo.language.text.tokenizer import word_tokenizer
from proximo.language.train.job import training
from proximo.language.train.labelled import epoch_ends
from proximo.language.train.optimise import Optimisation, learning_rate_at, remaining_at
from proximo.language.train.sft import SFTOptions, checked, fine_tuning, sft_trainer

TOKENIZER = word_tokenizer([f"w{number}" for number in range(13)])
MODEL = small_model(vocabulary=16, layers=1)
FAST = Optimisation(learning_rate=1e-2, schedule="constant")


def text(seed, length, learnt):
    """Random tokens of which the last `learnt` carry loss."""
    ids = np.random.default_rng(seed).integers(3, 16, length).astype(np.int32)
    return TrainingText(ids, np.arange(length) >= length - learnt)


TEXTS = tuple(text(seed, 6 + 3 * (seed % 5), 1 + 2 * (seed % 3)) for seed in range(8))


def options(**changes):
    defaults = dict(data="", batch_size=8, length=32, packing=False, model=ModelOptions(model=""))
    return SFTOptions(**{**defaults, "optimisation": FAST, **changes})


def trainer(texts=TEXTS, held_out=(), model=MODEL, **changes):
    return fine_tuning(options(**changes), model, TOKENIZER, tuple(texts), held_out)


def first_step(**changes):
    made = trainer(**changes)
    return made.iterate(made.begin(), 0)


@pytest.fixture(scope="module")
def plain():
    """A step on all texts at once."""
    return first_step()


def evaluated(made, rows):
    """What a trainer's loss says of rows, before the first step."""
    return made.loss.evaluation(made.columns(made.first, rows))


def close(ours, theirs, tolerance=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), ours, theirs)


# ---- what a step is


def test_the_loss_by_hand(plain):
    """-log p of every token that carries loss, each counted alike, whatever text it stands in."""
    logits = jax.jit(lambda ids: jax.nn.log_softmax(MODEL.logits(MODEL.hidden(ids))))
    losses, hits = [], []
    for one in TEXTS:
        said = np.asarray(logits(np.pad(one.ids, (0, 32 - len(one.ids)))[None])[0])
        for place in np.flatnonzero(one.learn):
            losses.append(-said[place - 1, one.ids[place]])
            hits.append(said[place - 1].argmax() == one.ids[place])
    assert len(losses) == 1 + 3 + 5 + 1 + 3 + 5 + 1 + 3
    np.testing.assert_allclose(plain.metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(plain.metrics["mean_token_accuracy"], np.mean(hits), rtol=1e-5)
    assert 0.0 < plain.metrics["entropy"] < np.log(16)


def test_the_numbers_of_a_run():
    """8 texts in steps of 3: 6 steps for 2 epochs of 6 + 9 + 12 + 15 + 18 + 6 + 9 + 12 = 87 tokens."""
    rows = list(training(trainer(batch_size=3, epochs=2)))
    assert len(rows) == 6
    np.testing.assert_allclose([row.metrics["epoch"] for row in rows], np.arange(1, 7) * 3 / 8)
    assert [row.metrics["num_tokens"] for row in rows] == [row.tokens for row in rows]
    seen_twice = rows[-1].metrics["num_tokens"]  # and two rows of a third pass, which fill the last step up
    assert 2 * 87 + 2 * 6 <= seen_twice <= 2 * 87 + 2 * 18


def test_micro_batches_do_not_change_a_step(plain):
    """8 rows of 1 to 5 learnt tokens, all at once or two by two: the same weights, to rounding."""
    parts = first_step(micro_batch_tokens=2 * 32)
    close(parts.state, plain.state)
    close(parts.metrics, plain.metrics)


def test_packed_texts_do_not_see_each_other():
    packed, alone = (trainer(packing=packing) for packing in (True, False))
    assert len(packed.rows) == 3 and len(alone.rows) == 8  # 87 tokens in rows of 32
    ours, theirs = (evaluated(one, one.rows) for one in (packed, alone))
    close(ours, theirs)


def test_what_is_not_learnt_is_only_read():
    """A prompt's tokens are no targets; yet what follows them depends on them."""
    prompt_only = TrainingText(TEXTS[4].ids, np.zeros(18, bool))
    changed = TrainingText(np.where(TEXTS[4].learn, TEXTS[4].ids, 3).astype(np.int32), TEXTS[4].learn)
    made = trainer()
    alone, beside, other = (
        evaluated(made, trainer(texts).rows)["loss"]
        for texts in ((TEXTS[4],), (TEXTS[4], prompt_only), (changed,))
    )
    close(beside, alone)
    assert abs(other - alone) > 0.01


def test_fewer_bits_and_recomputed_layers(plain):
    again = first_step(optimisation=Optimisation(**vars(FAST) | {"gradient_checkpointing": True}))
    close(again.state, plain.state)
    coarse = first_step(optimisation=Optimisation(**vars(FAST) | {"precision": "bfloat16"}))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(coarse.state.weights))
    np.testing.assert_allclose(coarse.metrics["loss"], plain.metrics["loss"], rtol=0.02)
    assert coarse.metrics["loss"] != plain.metrics["loss"]


# ---- learning


def test_a_sequence_is_memorised():
    data = [{"text": "w3 w1 w4 w1 w5 w9 w2 w6"}]
    texts = read_training_texts(data * 8, TOKENIZER, 32).records
    last = list(training(trainer(texts, epochs=80)))[-1]
    assert last.metrics["loss"] < 0.05 and last.metrics["mean_token_accuracy"] == 1.0


def test_a_run_of_one_step_learns(plain):
    """Its rate is that of the schedule's middle, not the 0 that a warm-up begins with."""
    rising = Optimisation(learning_rate=1.0, schedule="linear", warmup=0.25)
    # Of one step: 1/2 of the run, 1/3 of the fall behind it. Of ten: 1/20, 5/20, 9/20.
    rates = [learning_rate_at(rising, remaining_at(*step)) for step in ((0, 1), (0, 10), (2, 10), (4, 10))]
    np.testing.assert_allclose(rates, [2 / 3, 0.2, 1.0, 11 / 15], rtol=1e-6)
    assert plain.metrics["learning_rate"] == pytest.approx(0.01)


def test_adapters_learn_and_nothing_else(plain):
    asked = ModelOptions(model="", lora_rank=2)
    model = add_adapters(MODEL, asked, jax.random.key(1))
    made = trainer(model=model, epochs=3)
    *_, last = training(made)
    learnt = combine(last.state.weights, made.frozen)
    assert len(jax.tree.leaves(last.state.weights)) == 4  # down and up, of queries and of values
    close(partition_trainable(learnt)[1], partition_trainable(model)[1], 0.0)
    hidden = jax.jit(lambda model: model.hidden(jnp.asarray(TEXTS[4].ids[None])))
    close(hidden(merge_adapters(learnt)), hidden(learnt))
    assert last.metrics["loss"] < plain.metrics["loss"]


# ---- what is held out


def test_an_evaluation_counts_every_token_once():
    """5 rows in batches of 3, or of 8: the last is filled up with rows that do not count again."""
    held_out = TEXTS[:5]
    few, all_at_once = (trainer(held_out=held_out, batch_size=size) for size in (3, 8))
    close(few.evaluate_held_out(few.first), all_at_once.evaluate_held_out(few.first))


def test_an_evaluation_comes_with_each_epoch():
    rows = list(training(trainer(held_out=TEXTS[:2], batch_size=3, epochs=2)))
    # After 9, 16 and 18 rows; epochs end at 8 and 16, the run at 18.
    assert [row.number for row in rows if "eval_loss" in row.metrics] == [3, 6]


@pytest.mark.parametrize(
    ("rows", "count", "total", "ends"),
    [(4, 8, 4, [1, 3]), (3, 8, 6, [2, 5]), (1, 2, 3, [1, 2]), (5, 3, 2, [0, 1])],
)
def test_where_epochs_end(rows, count, total, ends):
    assert [number for number in range(total) if epoch_ends(number, rows, count, total)] == ends


# ---- going on


def test_a_resumed_run_is_the_whole_run_bit_for_bit():
    made = trainer(batch_size=3, epochs=6, packing=True)
    whole = list(training(made))
    kept = jax.tree.map(np.asarray, whole[1].state)
    again = trainer(batch_size=3, epochs=6, packing=True)
    rest = list(training(again, jax.tree.map(jnp.asarray, kept), 2))
    assert len(rest) == 4
    assert [row.metrics for row in rest] == [row.metrics for row in whole[2:]]
    jax.tree.map(np.testing.assert_array_equal, rest[-1].state, whole[-1].state)


# ---- from files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small"
    save_model(path, MODEL, TOKENIZER)
    return path


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_from_files_to_a_folder(folder, tmp_path):
    data = written(
        tmp_path / "data.jsonl",
        [{"prompt": "w1 w2", "completion": "w3 w4"}] * 4
        + [{"prompt": "w1", "completion": " ".join(["w2"] * 99)}],
    )
    asked = options(
        data=data, evaluation_data=data, model=ModelOptions(model=str(folder)), packing=True, batch_size=2
    )
    made = sft_trainer(asked)
    assert made.notes[-1] == f"{data}: 1 record truncated, 0 dropped as too long"
    *_, last = training(made)
    assert last.metrics["eval_loss"] > 0
    made.save(last.state, tmp_path / "out")
    close(load_model(tmp_path / "out"), last.state.weights, 0.0)


def test_a_model_from_scratch_has_the_folders_shape(folder):
    plain, _ = load_model_and_tokenizer(ModelOptions(model=str(folder)), jax.random.key(0))
    fresh, _ = load_model_and_tokenizer(ModelOptions(model=str(folder), from_scratch=True), jax.random.key(0))
    other, _ = load_model_and_tokenizer(ModelOptions(model=str(folder), from_scratch=True), jax.random.key(1))
    close(jax.tree.leaves(plain), jax.tree.leaves(MODEL), 0.0)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, plain)
    assert not np.allclose(fresh.embedding, plain.embedding)
    assert not np.allclose(fresh.embedding, other.embedding)


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    save_model(tmp_path / "mixed", MODEL, TOKENIZER)
    for name, content in word_tokenizer([f"w{number}" for number in range(20)]).files().items():
        (tmp_path / "mixed" / name).write_bytes(content)
    with pytest.raises(UserError, match="the tokenizer has 23 ids, but the model only 16"):
        load_model_and_tokenizer(
            ModelOptions(model=str(tmp_path / "mixed"), from_scratch=True), jax.random.key(0)
        )


@pytest.mark.parametrize(
    "wrong", [dict(epochs=0), dict(batch_size=2.5), dict(length=-1), dict(micro_batch_tokens=0)], ids=str
)
def test_counts_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        checked(options(**wrong))
