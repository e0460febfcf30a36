"""From scored responses to what PPO learns from: every option arrives where it counts."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import FREE, grpo, options, ppo, rollouts
from small_models import small_model

from proximo.core import FixedKL, k1, whiten
from proximo.language.model.layers import Linear
from proximo.language.train.estimators import estimator_of
from proximo.language.train.experience import returns_of
from proximo.language.train.job import training
from proximo.language.train.options import GRPOOptions, RewardOptions
from proximo.language.train.policy import Critic, Policy, evaluate_responses, new_policy
from proximo.language.train.responses import Responses, response_mask
from proximo.language.train.sampling import Experience, Frozen, Learner, estimate, update_options

DRAW = np.random.default_rng(0)
WIDTH, LENGTH = 2, 5
RESPONSES = Responses(
    jnp.asarray(DRAW.integers(3, 16, (4, WIDTH + LENGTH))),
    jnp.array([2, 1, 2, 2]),
    jnp.array([5, 3, 5, 1]),
    jnp.array([False, True, True, True]),
)
SCORE = jnp.array([1.0, -2.0, 0.5, 3.0])
MASK = response_mask(RESPONSES.lengths, LENGTH)
POLICY = new_policy(
    small_model(layers=1), Critic(Linear(jnp.asarray(DRAW.normal(size=(16, 1)), jnp.float32), jnp.ones(1)))
)
REFERENCE, PRICE = small_model(layers=1, seed=5), FixedKL(0.3)


def learned_from(**given):
    """The batch and the facts of `estimate`."""
    asked = options(kl=PRICE, **given)
    order, number = jnp.zeros((1, 1, 4), int), jnp.asarray(0)
    experience = Experience(RESPONSES, jnp.zeros_like(MASK), SCORE, order, number)
    learner = Learner(POLICY, None, *estimator_of(asked).begin())
    nothing = jax.tree.map(lambda _: None, POLICY)
    batch, _, facts = estimate(learner, experience, update_options(asked), Frozen(nothing, REFERENCE))
    return batch, facts


evaluated = jax.jit(evaluate_responses, static_argnums=2)


def by_hand(**given):
    """`returns_of` on what policy and reference say."""
    now = evaluated(POLICY, RESPONSES, WIDTH)
    reference = evaluated(Policy(REFERENCE), RESPONSES, WIDTH).log_prob
    ends = RESPONSES.lengths, RESPONSES.finished
    known, kl = dict(beta=0.3, gamma=1.0, lam=0.95) | given, k1(reference - now.log_prob)
    return returns_of(SCORE, kl, now.values[:, 0], *ends, **known)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"whiten_rewards": True}, {"whiten_rewards": True}),
        ({"kl_in": "loss"}, {"beta": 0.0}),
        ({"critic": dict(gamma=0.9, gae_lambda=0.5)}, {"gamma": 0.9, "lam": 0.5}),
        ({"critic": dict(critic_lambda=1.0)}, {"critic_lam": 1.0}),
        ({"critic": dict(length_lambda=0.5)}, {"length_lam": 0.5}),
        ({"rewards": RewardOptions(truncated="bootstrap")}, {"bootstrap": True}),
    ],
    ids=lambda words: "-".join(words) or "plain",
)
def test_an_option_arrives_where_it_counts(given, expected):
    batch, _ = learned_from(**given)
    returns, plain = by_hand(**expected), by_hand()
    np.testing.assert_allclose(batch.target, returns.target, atol=1e-5)
    np.testing.assert_allclose(batch.advantage, whiten(returns.advantage, MASK), atol=1e-5)
    moved = max(float(jnp.abs(a - b).max()) for a, b in zip(returns, plain, strict=True))
    assert (moved > 1e-2) == bool(expected)


def test_advantages_are_centred_over_the_tokens_that_count():
    # Trap 7: unlike rewards. The 14 tokens have mean 0 and deviation 1, what is no token is 0.
    advantage = np.asarray(learned_from()[0].advantage)
    valid = np.asarray(MASK) > 0
    assert valid.sum() == 14 and not advantage[~valid].any()
    assert advantage[valid].mean() == pytest.approx(0.0, abs=1e-5)
    assert advantage[valid].std() == pytest.approx(1.0, abs=1e-3)


def test_scores_are_scaled_by_their_deviation():
    # 1, -2, 0.5, 3: mean 0.625, variance (0.375^2 + 2.625^2 + 0.125^2 + 2.375^2) / 4 = 3.171875
    _, facts = learned_from(scale_scores=True)
    assert facts["objective/scores"] == pytest.approx(0.625 / 3.171875**0.5, rel=1e-4)


def test_a_response_that_hit_the_limit_is_masked_out_alone():
    batch, _ = learned_from(rewards=RewardOptions(truncated="mask"))
    assert batch.mask.sum(axis=1).tolist() == [0, 3, 5, 1]
    np.testing.assert_array_equal(batch.advantage[0], 0.0)


def test_a_missing_end_costs_the_one_that_has_none():
    _, facts = learned_from(rewards=RewardOptions(missing_eos_penalty=2.0))
    assert facts["objective/scores"] == pytest.approx(0.625 - 2.0 / 4)


def test_what_was_sampled_is_what_is_learned_from_and_what_functions_get():
    # Trap 10: to encode the text again would lose the end token, and PAD and BOS wherever they were drawn.
    seen = []

    def reward(completions, completion_ids):
        seen.extend(completion_ids)
        return [0.0] * len(completions)

    rollout = rollouts(options(), [reward]).collect(small_model(layers=1), 0)
    kept = [
        row[:n].tolist()
        for row, n in zip(rollout.responses.ids[:, rollout.width :], rollout.responses.lengths, strict=True)
    ]
    assert seen == kept
    eos = rollouts(options()).tokenizer.eos_id
    assert [ids[-1] == eos for ids in seen] == rollout.responses.finished.tolist()
    assert any(rollout.responses.finished)


SHARED = {
    *("eps", "episode", "lr", "objective/entropy", "objective/kl", "objective/kl_per_token"),
    *("objective/non_score_reward", "objective/rlhf_reward", "objective/scores", "loss/policy_avg"),
    *("policy/approxkl_avg", "policy/approxkl_max", "policy/clipfrac_avg", "policy/entropy_avg"),
    "policy/grad_norm",
    *("val/distinct", "val/finished", "val/first_ratio", "val/length", "val/num_eos_tokens", "val/ratio"),
    *("val/sampler_gap", "rewards/count_of_a", "rewards/std"),
}
CRITICS = {"loss/value_avg", "val/clipfrac_avg", "val/explained_var", "objective/kl_coefficient"}


@pytest.mark.parametrize(
    ("make", "kind", "names"),
    [(ppo, {}, SHARED | CRITICS), (grpo, {"kind": GRPOOptions}, SHARED | {"objective/equal_groups"})],
)
def test_the_metrics_are_these(make, kind, names):
    asked = options(**kind, **({} if kind else {"kl": FREE}))
    first = next(training(make(asked))).metrics
    assert set(first) == names
    assert first["episode"] == 8 and first["eps"] > 0
    assert first["val/num_eos_tokens"] == 8 * first["val/finished"]
    assert first["lr"] == pytest.approx(1e-2 * (1 - 1 / 6))  # the middle of the first of three iterations


def test_the_metrics_are_explained():
    table = (Path(__file__).parents[2] / "docs/language.md").read_text().partition("## What is logged")[2]
    explained = {
        name
        for row in table.partition("\n## ")[0].splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([^` ]+)`", row.split("|")[1])
    }
    own = {"rewards/count_of_a", "rewards/NAME"}  # sources are called as their functions
    logged = SHARED | CRITICS | {"objective/equal_groups", "val/critics_std", "val/unjudged"}
    assert explained - own == logged - own


def test_completions_are_looked_at_every_so_often_and_at_the_end():
    looks = [bool(it.completions) for it in training(ppo(options(samples_every=2, episodes=6 * 8)))]
    assert looks == [True, False, True, False, True, True]
