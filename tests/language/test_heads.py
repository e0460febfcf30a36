"""Reward models: where the score is read, how it begins, what normalising does, what `transformers` says."""

import equinox as eqx
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_config, small_model

from proximo.errors import UserError
from proximo.language.files.folder import load_reward_model, save_reward_model
from proximo.language.model.config import model_config
from proximo.language.model.heads import RewardModel, last_valid, new_reward_model, normalised
from proximo.language.model.layers import Linear
from proximo.language.model.transformer import new_model
from proximo.language.train.optimise import Optimisation, in_precision
from proximo.language.train.policy import Critic, evaluate_responses, new_policy
from proximo.language.train.responses import Responses


@pytest.fixture(scope="module")
def reward():
    return families.random_like(new_reward_model(families.random_model("llama"), jax.random.key(0)))


def test_the_last_token_that_is_not_padding():
    segments = jnp.array([[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(last_valid(segments), [3, 1, 3, 0])


def test_padding_does_not_change_a_score(reward):
    """The same nine tokens, padded left and padded right."""
    text = np.arange(5, 14)
    ids = jnp.array([[0, 0, 0, *text], [*text, 0, 0, 0]])
    segments = jnp.array([[0] * 3 + [1] * 9, [1] * 9 + [0] * 3])
    left, right = reward.scores(ids, segments)
    np.testing.assert_allclose(left, right, rtol=1e-5)
    _, by_itself = reward.scores(ids)  # its last token is the twelfth
    assert abs(by_itself - right) > 1e-3


def test_everywhere_is_the_score_at_each_place():
    # hidden (1, 2) . weights (3, -1) = 1, and the shift of 0.5
    trunk = families.random_model("llama")
    model = RewardModel(trunk, Linear(jnp.array([[3.0], [-1.0]]), None), 0.5)
    hidden = jnp.array([[[1.0, 2.0], [0.0, 1.0], [2.0, 0.0]]])
    np.testing.assert_allclose(model.everywhere(hidden), [[1.5, -0.5, 6.5]])


def test_a_head_says_more_than_its_trunk_can():
    # In bfloat16 the numbers around 3 are 0.016 apart: 3 and 3.005 would be one.
    hidden = jnp.array([[2.0, 0.0], [2.0, 1.0]], jnp.bfloat16)
    head = Linear(jnp.array([[1.5], [0.005]]), None)
    low = Optimisation(precision="bfloat16")
    model = in_precision(RewardModel(new_model(small_config(), jax.random.key(0)), head), low)
    assert model.trunk.embedding.dtype == jnp.bfloat16
    np.testing.assert_allclose(model.everywhere(hidden), [3.0, 3.005], rtol=1e-6)


def test_so_does_a_critics():
    ids = jnp.array([[3, 4, 5, 6, 7]])
    head = Linear(jnp.linspace(-0.5, 0.5, 16)[:, None], jnp.array([3.0]))
    policy = in_precision(new_policy(small_model(), Critic(head)), Optimisation(precision="bfloat16"))
    responses = Responses(ids, jnp.array([2]), jnp.array([3]), jnp.array([True]))
    hidden = policy.model.hidden(ids)[0, 1:]
    assert hidden.dtype == jnp.bfloat16
    by_hand = np.asarray(hidden, np.float32) @ np.linspace(-0.5, 0.5, 16) + 3.0
    np.testing.assert_allclose(evaluate_responses(policy, responses, 2).values[0, 0], by_hand, rtol=1e-5)


def test_a_new_head_is_as_wide_as_it_should_be():
    """D = 9999: a standard deviation of 1 / sqrt(10000) = 0.01, and that known to 0.7 %."""
    config = model_config(families.CONFIGS["llama"] | {"hidden_size": 9999, "head_dim": 6})
    trunk = eqx.filter_eval_shape(lambda: new_model(config, jax.random.key(0)))
    model = new_reward_model(trunk, jax.random.key(0))
    assert model.score.weight.shape == (9999, 1)
    assert float(model.score.weight.std()) == pytest.approx(0.01, rel=0.03)
    assert model.trunk.head is None


def test_normalised_scores_have_mean_0_and_standard_deviation_1(reward):
    """With a shift from before, which is divided too."""
    ids = jnp.asarray(families.batch().ids)
    model = RewardModel(reward.trunk, reward.score, 3.0)
    before = np.asarray(model.scores(ids))
    after = np.asarray(normalised(model, float(before.mean()), float(before.std())).scores(ids))
    np.testing.assert_allclose(after, (before - before.mean()) / before.std(), atol=1e-5)
    assert after.mean() == pytest.approx(0, abs=1e-5) and after.std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("mean_and_std", [(0.0, 0.0), (np.nan, 1.0), (0.0, np.inf)])
def test_scores_that_are_all_the_same_cannot_be_normalised(reward, mean_and_std):
    with pytest.raises(UserError, match="cannot be normalised"):
        normalised(reward, *mean_and_std)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_transformers_gives_our_scores_less_the_shift(name, tmp_path):
    batch = families.batch()
    model = families.random_like(new_reward_model(families.random_model(name), jax.random.key(0)))
    model = normalised(model, 3.0, 2.0)  # shift (0 - 3) / 2
    save_reward_model(tmp_path / "ours", model)
    theirs = families.their_loaded(tmp_path / "ours", "AutoModelForSequenceClassification")
    assert theirs.config.num_labels == 1
    logits = families.their_logits(theirs, batch)  # [2, 1]
    ours = model.scores(jnp.asarray(batch.ids), jnp.asarray(batch.mask))
    np.testing.assert_allclose(ours, logits[:, 0] - 1.5, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2-untied", "gemma3"])
def test_their_classifier_gives_their_scores_here(name, tmp_path):
    batch = families.batch()
    theirs = families.their_model(families.CONFIGS[name], tmp_path, "AutoModelForSequenceClassification")
    ours = load_reward_model(tmp_path / "theirs")
    found = ours.scores(jnp.asarray(batch.ids), jnp.asarray(batch.mask))
    np.testing.assert_allclose(found, families.their_logits(theirs, batch)[:, 0], atol=1e-4)
