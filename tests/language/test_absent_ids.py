"""Rows of a model that no token has: never drawn, and without a probability, whoever asks."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import options
from small_models import small_model
from workplace import lines

import proximo.language as language
from proximo.language.files.folder import load_model, save_model, save_reward_model
from proximo.language.files.loading import load_model_and_tokenizer
from proximo.language.files.model_options import ModelOptions
from proximo.language.language_model import LanguageModel
from proximo.language.model.heads import new_reward_model
from proximo.language.model.likelihood import score_tokens
from proximo.language.model.sampler import Sampling, sample
from proximo.language.model.transformer import with_tokens
from proximo.language.text.tokenizer import character_tokenizer
from proximo.language.train.building import sampling_trainer
from proximo.language.train.options import RewardOptions

TOKENIZER = character_tokenizer("0123456789 abc")  # 17 tokens with its own three
SPARE = 24  # rows of the model


def likes_what_is_absent():
    """A model whose rows without a token have the highest logits, by far."""
    model = small_model(vocabulary=SPARE, layers=1, tie_word_embeddings=False)
    head = model.head.weight.at[:, 17:].set(10 * jnp.sign(model.hidden(jnp.array([[3]]))[0, 0])[:, None])
    return replace(model, head=replace(model.head, weight=head))


MODEL = likes_what_is_absent()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spare")
    save_model(folder / "base", MODEL, TOKENIZER)
    lines(folder / "prompts.jsonl", [{"prompt": "1"}, {"prompt": "23"}])
    lines(folder / "texts.jsonl", [{"text": "1 2 3"}] * 4)
    return folder


def test_ids_without_a_token_are_ranges():
    model = small_model(vocabulary=8, layers=1)
    assert with_tokens(model, [0, 1, 3, 4]).config.absent == ((2, 3), (5, 8))  # a hole, and the end
    assert with_tokens(model, [1, 2, 3, 4, 5, 6, 7]).config.absent == ((0, 1),)
    assert with_tokens(model, range(8)).config.absent == with_tokens(model, range(9)).config.absent == ()


def test_what_is_absent_has_no_probability_and_the_rest_has_all():
    hidden = MODEL.hidden(jnp.array([[3, 4, 5]]))
    plain = np.asarray(MODEL.logits(hidden), np.float64)
    assert np.all(plain[0, 0].argmax() >= 17)
    ids = [*range(9), *range(10, 17)]
    model = with_tokens(MODEL, ids)
    probability = np.asarray(jax.nn.softmax(model.logits(hidden)))
    assert not probability[..., [9, *range(17, SPARE)]].any()
    expected = np.exp(plain[..., ids]) / np.exp(plain[..., ids]).sum(-1, keepdims=True)
    np.testing.assert_allclose(probability[..., ids], expected, atol=1e-6)
    # The log-probability of a text, and the entropy, are of that distribution.
    log_prob, entropy, _ = score_tokens(model, hidden, jnp.array([[4, 5, 6]]), temperature=1.0)
    place = [[ids.index(4), ids.index(5), ids.index(6)]]
    chosen = np.take_along_axis(expected, np.array(place)[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob, np.log(chosen), atol=1e-5)
    np.testing.assert_allclose(entropy, -(expected * np.log(expected)).sum(-1), atol=1e-5)
    # Nothing pulls at a row that is absent.
    slope = jax.grad(lambda m: jnp.sum(score_tokens(m, hidden, jnp.array([[4, 5, 6]]))[0]))(model)
    assert not slope.head.weight[:, 17:].any() and slope.head.weight[:, 4].any()


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.0}, {"temperature": 20.0}, {"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.1}]
)
def test_what_is_absent_is_never_drawn(how):
    prompts = np.full((2, 2), 3, np.int32)
    sampling = Sampling(length=32, samples=4, **how)
    arguments = prompts, np.full(2, 2, np.int32), jax.random.key(0), sampling, 0
    assert sample(MODEL, *arguments).ids.max() >= 17
    assert sample(with_tokens(MODEL, range(17)), *arguments).ids.max() < 17


def test_where_every_id_has_a_token_the_program_is_the_same():
    model = small_model(vocabulary=17, layers=1)
    known = LanguageModel(model, TOKENIZER).transformer
    programs = [str(jax.make_jaxpr(lambda x, m=m: m.logits(x))(jnp.zeros((1, 16)))) for m in (model, known)]
    assert programs[0] == programs[1] and "select" not in programs[0]


def test_policy_reference_and_sampler_agree_on_it(place):
    """PPO's own check of its first iteration holds them to 1e-3 nats; a reward model without those rows."""
    trunk = small_model(vocabulary=17, layers=1)
    save_reward_model(place / "reward", new_reward_model(trunk, jax.random.key(1)), TOKENIZER)
    trainer = sampling_trainer(
        options(
            data=str(place / "prompts.jsonl"),
            model=ModelOptions(model=str(place / "base")),
            sampling=dict(response_length=16, batch_size=2, samples=4),
            rewards=RewardOptions(reward_model=(str(place / "reward"),)),
        )
    )
    outcome = trainer.iterate(trainer.begin(), 0)
    assert abs(outcome.metrics["objective/kl"]) < 1e-4 and outcome.metrics["policy/entropy_avg"] > 0.1
    drawn = trainer.rollouts.collect(trainer.reference, 1).responses.ids
    assert drawn.max() < 17


def test_answers_texts_and_pairs_agree_on_it(place):
    model = language.load(place / "base")
    answers = model.generate(["1"] * 4, max_new_tokens=16)
    assert all(set(answer) <= set("0123456789 abc") and len(answer) >= 1 for answer in answers)
    # Perplexity is over the tokens that there are: at most 17 of them, where the spare ones took all.
    found = language.evaluate(model=str(place / "base"), data=str(place / "texts.jsonl"))
    ids = np.array([[*TOKENIZER.encode("1 2 3"), TOKENIZER.eos_id]])
    assert np.all(model.logits(ids)[..., 17:] < -1e29)
    said = np.asarray(jax.nn.log_softmax(model.logits(ids)))[0, :-1]
    expected = -np.take_along_axis(said, ids[0, 1:, None], -1).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_random_weights_know_it_too(place):
    found, _ = load_model_and_tokenizer(
        ModelOptions(model=str(place / "base"), from_scratch=True), jax.random.key(0)
    )
    assert found.config.absent == ((17, SPARE),)


def test_a_file_does_not_say_it(place):
    model = language.load(place / "base")
    model.save(place / "again")
    ours, theirs = (
        json.loads((folder / "config.json").read_text()) for folder in (place / "again", place / "base")
    )
    assert ours == theirs and ours["vocab_size"] == SPARE
    assert load_model(place / "again").config.absent == ()
    assert language.load(place / "again").config.absent == ((17, SPARE),)
