"""Training, whole, on environments whose answer is known in closed form, with both kinds of network.

Read from the top: each probe adds one thing to those before it, so the first that fails names the fault.
"""

import numpy as np
import pytest
from probes import (
    Aim,
    BetterAction,
    Choices,
    Endless,
    Probe,
    RightAction,
    SeenReward,
    Switches,
    TwoSteps,
    small,
)

from proximo import training

both_networks = pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])


def learned(env, shared, **options):
    """The agent at the end of a training of about a second."""
    *_, last = training(small(env, shared=shared, **options))
    return last.agent


def values(agent, *seen):
    return agent.value(np.array(seen, np.float32)[:, None])


def actions(agent, *seen):
    return agent.act(np.array(seen, np.float32)[:, None])


@both_networks
def test_the_value_of_one_reward(shared):
    np.testing.assert_allclose(values(learned(Probe, shared), 0.0), [1.0], atol=0.02)


@both_networks
def test_a_value_depends_on_what_is_seen(shared):
    np.testing.assert_allclose(values(learned(SeenReward, shared), -1.0, 1.0), [-1.0, 1.0], atol=0.05)


@both_networks
def test_a_later_reward_is_discounted(shared):
    # V(0) = gamma V(1) = 0.5 * 1
    agent = learned(TwoSteps, shared, gamma=0.5)
    np.testing.assert_allclose(values(agent, 0.0, 1.0), [0.5, 1.0], atol=0.05)


@both_networks
def test_the_value_under_a_time_limit_is_that_of_going_on(shared):
    # 1 + 0.5 + 0.25 + ... = 1 / (1 - 0.5) = 2. With the limit taken for a death it would lie between 1 (in
    # the last of the five steps) and 1.9375 (in the first): about 1.6, for the clock is not to be seen.
    agent = learned(Endless, shared, gamma=0.5, normalise_rewards=False)
    np.testing.assert_allclose(values(agent, 0.0), [2.0], atol=0.05)


@both_networks
def test_the_better_of_two_actions_is_learned(shared):
    assert actions(learned(BetterAction, shared), 0.0) == [1]


@both_networks
def test_the_better_action_depends_on_what_is_seen(shared):
    agent = learned(RightAction, shared)
    np.testing.assert_array_equal(actions(agent, -1.0, 1.0), [0, 1])
    # Sampled actions agree: the policy is sure.
    seen = np.tile([[-1.0], [1.0]], (50, 1)).astype(np.float32)
    sampled = agent.act(seen, deterministic=False)
    assert np.mean(sampled == (seen[:, 0] > 0)) > 0.9


@both_networks
def test_a_number_is_aimed_at(shared):
    agent = learned(Aim, shared, initial_log_std=-0.5)
    np.testing.assert_allclose(actions(agent, 0.0), [[0.5]], atol=0.1)


@both_networks
def test_two_choices_at_once(shared):
    np.testing.assert_array_equal(actions(learned(Choices, shared), 0.0), [[1, 2]])


@both_networks
def test_three_switches_at_once(shared):
    np.testing.assert_array_equal(actions(learned(Switches, shared), 0.0), [[1, 0, 1]])
