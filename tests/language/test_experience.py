"""From scores to advantages, by hand: gamma 1, lambda 0.5, beta 0.1, responses of at most three tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core import gae, k1
from proximo.language.train.experience import returns_of, token_rewards, whitened_rewards

# Two responses: the first has two tokens and ended, the second three and hit the limit.
LENGTHS = jnp.array([2, 3])
FINISHED = jnp.array([True, False])
SCORE = jnp.array([1.0, 2.0])
LOG_PROB = jnp.array([[-1.0, -1.0, -9.0], [-2.0, -1.0, -1.0]])
REFERENCE = jnp.array([[-2.0, -1.0, -5.0], [-2.0, -3.0, -1.0]])
KL = k1(REFERENCE - LOG_PROB)  # of each token, log pi - log pi_ref: [1, 0, -] and [0, 2, 0]
VALUE = jnp.array([[0.5, 0.25, 7.0, 7.0], [0.0, 1.0, 0.5, 4.0]])  # the 7s come after the end


def returns(**changes):
    options = dict(beta=0.1, gamma=1.0, lam=0.5)
    return returns_of(SCORE, KL, VALUE, LENGTHS, FINISHED, **(options | changes))


def test_rewards_are_the_price_of_each_token_and_the_score_at_the_last():
    # first:  -0.1 x 1, then -0.1 x 0 + score 1;   second: 0, -0.1 x 2, 0 + score 2
    expected = [[-0.1, 1.0, 0.0], [0.0, -0.2, 2.0]]
    np.testing.assert_allclose(returns().reward, expected, atol=1e-6)


def test_the_score_sits_on_the_end_token_and_nowhere_else():
    reward = token_rewards(jnp.array([5.0, 5.0]), jnp.zeros((2, 3)), jnp.array([1, 0]), 0.1)
    assert reward.tolist() == [[5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]  # an empty response earns nothing


def test_advantages_by_hand():
    # first:  delta_2 = 1 + 0 - 0.25 = 0.75 (the value after the end is 0, whatever the critic says there)
    #         delta_1 = -0.1 + 0.25 - 0.5 = -0.35;  A_1 = -0.35 + 0.5 x 0.75 = 0.025
    # second: delta_3 = 2 + 0 - 0.5 = 1.5;  delta_2 = -0.2 + 0.5 - 1 = -0.7;  A_2 = -0.7 + 0.75 = 0.05
    #         delta_1 = 0 + 1 - 0 = 1;  A_1 = 1 + 0.5 x 0.05 = 1.025
    out = returns()
    np.testing.assert_allclose(out.advantage, [[0.025, 0.75, 0.0], [1.025, 0.05, 1.5]], atol=1e-6)
    np.testing.assert_allclose(out.target, [[0.525, 1.0, 0.0], [1.025, 1.05, 2.0]], atol=1e-6)


def test_a_truncated_response_may_go_on_in_the_critics_eyes():
    # Only the second changes: delta_3 = 2 + 4 - 0.5 = 5.5; A_2 = -0.7 + 0.5 x 5.5 = 2.05.
    out = returns(bootstrap=True)
    np.testing.assert_allclose(out.advantage[0], [0.025, 0.75, 0.0], atol=1e-6)
    np.testing.assert_allclose(out.advantage[1], [1 + 0.5 * 2.05, 2.05, 5.5], atol=1e-6)


def test_what_stands_behind_the_end_changes_nothing():
    garbage = returns_of(
        SCORE,
        KL.at[0, 2].set(jnp.nan),
        VALUE.at[0, 2:].set(jnp.nan),
        LENGTHS,
        FINISHED,
        beta=0.1,
        gamma=1.0,
        lam=0.5,
    )
    for name, clean in returns()._asdict().items():
        np.testing.assert_array_equal(getattr(garbage, name), clean, err_msg=name)


def test_it_is_the_same_gae_as_in_control():
    # A response is an episode: time first, discount 0 at the end, nothing carried over.
    out = returns()
    ended = jnp.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]).T
    control = gae(
        out.reward.T, VALUE[:, :-1].T, VALUE[:, 1:].T, 1.0 - ended, jnp.array([[1.0, 0, 0], [1, 1, 0]]).T, 0.5
    )
    valid = np.array([[1, 1, 0], [1, 1, 1]], bool)
    np.testing.assert_allclose(np.asarray(control.T)[valid], np.asarray(out.advantage)[valid], atol=1e-6)


def test_decoupled_lambdas():
    # The critic's targets at lambda 1 are the returns: first -0.1 + 1, 1; second 1.8, 1.8, 2.
    out = returns(critic_lam=1.0)
    np.testing.assert_allclose(out.target, [[0.9, 1.0, 0.0], [1.8, 1.8, 2.0]], atol=1e-6)
    np.testing.assert_allclose(out.advantage, returns().advantage, atol=1e-6)
    # VAPO's lambda with alpha 1: 1 - 1/2 for the first, 1 - 1/3 for the second response.
    longer = returns(length_lam=1.0)
    np.testing.assert_allclose(longer.advantage[0], returns(lam=0.5).advantage[0], atol=1e-6)
    np.testing.assert_allclose(longer.advantage[1], returns(lam=2 / 3).advantage[1], atol=1e-6)


def test_whitened_rewards_keep_their_mean():
    out, plain = returns(whiten_rewards=True), returns()
    valid = np.array([[1, 1, 0], [1, 1, 1]], bool)
    rewards = np.asarray(out.reward)[valid]
    assert rewards.mean() == pytest.approx(np.asarray(plain.reward)[valid].mean(), abs=1e-6)
    assert rewards.std() == pytest.approx(1.0, abs=1e-5)
    assert out.reward[0, 2] == 0


def test_a_single_reward_stays_as_it_is():
    reward, alone = jnp.array([[3.0, 7.0]]), jnp.array([[1.0, 0.0]])
    assert whitened_rewards(reward, alone).tolist() == [[3.0, 0.0]]


def test_rewards_are_whitened_over_what_counts():
    counts = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])  # the second response is masked out
    rewards = np.asarray(returns(whiten_rewards=True, counts=counts).reward)
    assert rewards[0, :2].std() == pytest.approx(1.0, abs=1e-5) and not rewards[1].any()
