"""Three ways for a vector to go on after an end give the same transitions and the same update.

NEXT_STEP   the last observation is the next one in the stream, and a seam row follows
SAME_STEP   the environment is reset within the step; the last observation comes beside the stream
DISABLED    we reset it ourselves, within the step as well
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from probes import Ends, beginning, by_hand, close, small

from proximo.control.collect import Stream, collect
from proximo.envs import EpisodeStatistics, make_envs
from proximo.learn.experience import advantages, predictions
from proximo.learn.normalise import reward_normaliser
from proximo.learn.update import update

# s0 -1-> s1 -2-> s2 dead | s3 -3-> s4 -4-> s5 out of time | s6 -5-> s7, and so on.
S = 0.1 * np.arange(8, dtype=np.float32)


def column(numbers, dtype=np.float32):
    return jnp.asarray(np.array(numbers, dtype)[:, None])


def with_seams():
    return by_hand(
        obs=column(S[[0, 1, 2, 3, 4, 5, 6, 7]])[..., None],
        action=column([0, 1, 0, 0, 1, 0, 1], np.int32),
        reward=column([1, 2, 0, 3, 4, 0, 5])[..., None],
        terminated=column([0, 1, 0, 0, 0, 0, 0], bool),
        truncated=column([0, 0, 0, 0, 1, 0, 0], bool),
        mask=column([1, 1, 0, 1, 1, 0, 1]),
    )


def with_final_obs():
    anything = 77.0
    return by_hand(
        obs=column(S[[0, 1, 3, 4, 6, 7]])[..., None],
        action=column([0, 1, 0, 1, 1], np.int32),
        reward=column([1, 2, 3, 4, 5])[..., None],
        terminated=column([0, 1, 0, 0, 0], bool),
        truncated=column([0, 0, 0, 1, 0], bool),
        mask=column([1, 1, 1, 1, 1]),
        final_obs=column([anything, S[2], anything, S[5], anything])[..., None],
    )


def policy_and_options(**options):
    config = small(Ends, num_envs=1, horizon=1, minibatch_size=1, gamma=0.1, gae_lambda=0.5, **options)
    learner, stream, _ = beginning(config)
    stream.envs.close()
    return learner, config.update


def test_advantages_by_hand():
    learner, options = policy_and_options()
    v = np.asarray(learner.policy(jnp.asarray(S)[:, None])[0].value[:, 0], np.float64)
    gamma, decay = 0.1, 0.1 * 0.5  # decay = gamma lambda
    # A death has no successor; a time limit has one, s5; neither hands anything on to the row before the cut.
    last = 5 + gamma * v[7] - v[6]
    cut = 4 + gamma * v[5] - v[4]
    before_cut = 3 + gamma * v[4] - v[3] + decay * cut
    dead = 2 - v[1]
    first = 1 + gamma * v[1] - v[0] + decay * dead
    expected = [first, dead, before_cut, cut, last]
    for rollout in (with_seams(), with_final_obs()):
        predicted = predictions(learner.policy, rollout, length=1)
        advantage = advantages(predicted, rollout, options)
        valid = np.asarray(rollout.mask[:, 0]) == 1
        np.testing.assert_allclose(advantage[valid, 0, 0], expected, rtol=1e-5)
        np.testing.assert_allclose(predicted.value[valid, 0, 0], v[[0, 1, 3, 4, 6]], rtol=1e-5)


def test_a_lost_life_cuts_the_value_and_the_episode_goes_on():
    # s0 -1-> s1 -2-> s2, a life lost -3-> s3: terminated and not over, so no seam and no end.
    learner, options = policy_and_options()
    v = np.asarray(learner.policy(jnp.asarray(S)[:, None])[0].value[:, 0], np.float64)
    no = column([0, 0, 0], bool)
    experience = by_hand(
        obs=column(S[[0, 1, 2, 3]])[..., None],
        action=column([0, 1, 0], np.int32),
        reward=column([1, 2, 3])[..., None],
        terminated=column([0, 1, 0], bool),
        truncated=no,
        mask=column([1, 1, 1]),
    )._replace(over=no)
    advantage = advantages(predictions(learner.policy, experience, 1), experience, options)[:, 0, 0]
    lost, after = 2 - v[1], 3 + 0.1 * v[3] - v[2]
    np.testing.assert_allclose(advantage, [1 + 0.1 * v[1] - v[0] + 0.05 * lost, lost, after], rtol=1e-5)
    statistics = EpisodeStatistics(1)
    assert statistics.update(jax.tree.map(np.asarray, experience)) == []
    assert statistics.return_so_far.tolist() == [6.0]
    running = reward_normaliser(1).after(experience, 0.1).running
    np.testing.assert_allclose(running, 3 + 0.1 * 2 + 0.01 * 1, rtol=1e-6)


def test_both_descriptions_give_the_same_update():
    # One minibatch of all rows: masked rows weigh nothing, so 7 rows and 5 rows have one gradient.
    learners = []
    for rollout in (with_seams(), with_final_obs()):
        learner, options = policy_and_options(
            epochs=3, normalise_rewards=True, normalise_observations=True, entropy_coefficient=0.1
        )
        options = with_minibatch(options, len(rollout.mask))
        learner, metrics = update(learner, rollout, options, 1.0)
        assert metrics["train/updates"] == 3
        learners.append(learner._replace(key=()))
    assert close(*learners)
    assert learners[0].steps == 5


def with_minibatch(options, size):
    return type(options)(**{**vars(options), "minibatch_size": size})


@pytest.fixture(scope="module")
def learned():
    """For each mode: 5 transitions of two environments, from the environments themselves to the update."""
    results = {}
    # Two seams per environment lie among the 7 rows of NEXT_STEP: 3 + seam + 3 is 6 transitions.
    for mode, horizon in (
        (AutoresetMode.NEXT_STEP, 7),
        (AutoresetMode.SAME_STEP, 6),
        (AutoresetMode.DISABLED, 6),
    ):
        learner, options = policy_and_options(normalise_rewards=True)
        learner = learner._replace(rewards=type(learner.rewards)(learner.rewards.moments, jnp.zeros(2)))
        stream = Stream(make_envs(SyncVectorEnv([Ends, Ends], autoreset_mode=mode)), [0, 1])

        def chosen(obs, noise, start, carry):
            return (obs[:, 0] * 100).round().astype(np.int32) % 2, carry

        rollout = collect(chosen, stream, np.zeros((horizon, 2)))
        after, _ = update(learner, rollout, with_minibatch(options, 2 * horizon), 1.0)
        on_device = jax.tree.map(jnp.asarray, rollout)
        predicted = predictions(learner.policy, on_device, length=1)
        advantage = advantages(predicted, on_device, options)
        valid = rollout.mask[:, 0] == 1
        kept = [x[valid] for x in (rollout.obs[:-1], rollout.action, rollout.reward, np.asarray(advantage))]
        results[mode.name] = kept, after._replace(key=())
    return results


@pytest.mark.parametrize("mode", ["SAME_STEP", "DISABLED"])
def test_every_mode_gives_the_same_transitions_and_the_same_update(learned, mode):
    for expected, found in zip(learned["NEXT_STEP"][0], learned[mode][0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert len(learned[mode][0][2]) == 6
    assert close(learned["NEXT_STEP"][1], learned[mode][1])
