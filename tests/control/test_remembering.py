"""A policy with a memory, through the environments' loop: what it remembers, and where it forgets."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from probes import Ends, Probe, close, equal, small
from recurrent import Recurrent

from proximo import PPO, evaluate, training, with_options
from proximo.control.collect import Stream, collect
from proximo.control.ensemble import ensemble
from proximo.envs import make_envs
from proximo.errors import EnvironmentAdvice, UserError
from proximo.learn.actor_steps import CrossEntropy, TrustRegion
from proximo.learn.update import update
from proximo.policies.memory import Gru, Lstm


def counting(obs, noise, start, carry):
    """Action 0 everywhere; remembers how many observations of an episode it has read."""
    return np.zeros(len(obs), np.int32), np.where(start, 0, carry) + 1


@pytest.mark.parametrize(
    ("mode", "starts", "counts"),
    [
        # 0 1 2 (3, the last one, read in the seam) | 4 5 6 (7) | 8
        (AutoresetMode.NEXT_STEP, [0, 4, 8], [1, 2, 3, 4, 1, 2, 3, 4, 1]),
        # 0 1 2 | 4 5 6 | 8: the last observations come beside the stream
        (AutoresetMode.SAME_STEP, [0, 3, 6], [1, 2, 3, 1, 2, 3, 1, 2, 3]),
        (AutoresetMode.DISABLED, [0, 3, 6], [1, 2, 3, 1, 2, 3, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("horizon", [1, 2, 9])
def test_memory_goes_from_rollout_to_rollout_and_is_forgotten_before_an_episodes_first(
    mode, starts, counts, horizon
):
    stream = Stream(make_envs(SyncVectorEnv([Ends], autoreset_mode=mode)), [0], carry=np.zeros(1, int))
    parts, after = [], []
    for _ in range(9 // horizon):
        parts.append(collect(counting, stream, np.zeros((horizon, 1))))
        after.append(int(stream.carry[0]))
    start = np.concatenate([part.start[:-1, 0] for part in parts])
    assert np.flatnonzero(start).tolist() == [at for at in starts if at < len(start)]
    assert after == counts[horizon - 1 :: horizon][: len(after)]
    assert [int(part.carry[0]) for part in parts] == [0, *after[:-1]]  # before the first row


class First(Probe):
    """Shows +1 or -1 once, then 0; in the third step worth 1 is the action that agrees with it, else -1."""

    def begin(self):
        self.sign, self.clock = self.np_random.choice([-1.0, 1.0]), 0
        self.seen = self.sign

    def turn(self, action):
        self.clock, self.seen = self.clock + 1, 0.0
        over = self.clock == 3
        return self.sign * (2.0 * int(action) - 1.0) if over else 0.0, over, False


def test_what_only_a_memory_can_solve_is_solved_with_one(monkeypatch):
    config = small(First, steps=8000, gamma=0.9)
    without = list(training(config))[-1].agent
    assert abs(evaluate(without, First, episodes=64).mean) < 0.6  # a coin's
    monkeypatch.setattr("proximo.policies.own_network.ActorCritic", Recurrent)
    agent = list(training(config))[-1].agent
    assert evaluate(agent, First, episodes=16).mean == 1.0
    # A player remembers from call to call, one episode or several at a time.
    player, model = agent.player(), PPO(First)
    model.agent = agent
    for sign, right in ((1.0, 1), (-1.0, 0)):
        for seen in (sign, 0.0, 0.0):
            action = player.act(np.array([seen]), start=seen != 0.0)
        assert action == right
    player = agent.player()
    for seen in ([1.0, -1.0], [0.0, 0.0], [0.0, 0.0]):
        actions = player.act(np.array(seen)[:, None])
    assert actions.tolist() == [1, 0]
    # As Stable-Baselines3 has it: the state goes in and comes out.
    state, starts = None, np.ones(2, bool)
    for seen in ([-1.0, 1.0], [0.0, 0.0], [0.0, 0.0]):
        actions, state = model.predict(np.array(seen)[:, None], state, starts, deterministic=True)
        starts = np.zeros(2, bool)
    assert actions.tolist() == [0, 1]
    # The first of two episodes ends, and the other goes on.
    _, state = model.predict(np.array([[1.0], [0.0]]), state, np.array([True, False]), deterministic=True)
    for _ in range(2):
        actions, state = model.predict(np.zeros((2, 1)), state, np.zeros(2, bool), deterministic=True)
    assert actions[0] == 1


@pytest.fixture(scope="module")
def remembering():
    """An agent with an LSTM."""
    return next(training(small(First, steps=64, network=Lstm(4)))).agent


def test_act_without_a_state_is_refused_where_the_policy_remembers(remembering):
    with pytest.raises(UserError, match=r"take player = agent\.player\(\)"):
        remembering.act(np.zeros(1))


def test_a_state_of_another_number_of_observations_is_refused(remembering):
    _, state = remembering.act_with_state(np.zeros((3, 1)))
    with pytest.raises(UserError, match="not what this policy remembers of 2 observations"):
        remembering.act_with_state(np.zeros((2, 1)), state)
    with pytest.raises(UserError, match="start has shape"):
        remembering.act_with_state(np.zeros((3, 1)), state, np.zeros(2, bool))


def test_without_a_memory_the_state_is_handed_back_as_it_came():
    agent = next(training(small(First, steps=64))).agent
    player, state = agent.player(), object()
    assert agent.act_with_state(np.zeros(1), state)[1] is state
    assert player.act(np.zeros(1)) == agent.act(np.zeros(1))


def test_with_a_memory_too_the_update_is_compiled_once():
    compiled, run = update._cache_size(), training(small(First, horizon=6, minibatch_size=6, network=Gru(4)))
    for _ in range(3):  # memory as it begins, as the second rollout finds it, and a learner that read both
        next(run)
    assert update._cache_size() == compiled + 1


def test_members_of_an_ensemble_remember_as_they_would_alone_and_go_on_alone():
    config = small(GoesOn, num_envs=2, horizon=5, minibatch_size=5, steps=40, epochs=1, network=Lstm(4))
    configs = [with_options(config, seed=seed) for seed in (0, 1)]
    both = ensemble(configs)
    with pytest.warns(EnvironmentAdvice, match=r"memory learns from sequences of 5 steps, the longest that"):
        first = next(both)
    second = next(both)
    for one, before, after in zip(configs, first, second, strict=True):
        alone = next(training(one))
        assert close(alone.learner.policy, before.learner.policy, 1e-5)
        assert [x.shape for x in after.snapshot().stream["carry"]] == [(2, 8)]
        again = next(training(one, alone.snapshot()))
        assert close(again.learner.policy, after.learner.policy, 1e-5)


def test_an_actor_that_moves_alone_remembers_where_the_critic_does_for_itself():
    step = TrustRegion(max_kl=0.01)
    config = small(First, num_envs=4, horizon=6, minibatch_size=6, network=Gru(4), actor_step=step)
    with pytest.raises(UserError, match="pass --separate-critic"):
        next(training(config))
    run = training(with_options(config, separate_critic=True, value_coefficient=0.0))
    first, second = (next(run) for _ in range(2))
    assert 0 < second.metrics["train/kl"] <= 0.01
    assert not close(first.learner.policy.sight, second.learner.policy.sight, 1e-7)
    assert equal(first.learner.policy.critic, second.learner.policy.critic)  # whose loss counts nothing


def test_a_population_remembers():
    step = CrossEntropy(elite=2)
    config = small(First, num_envs=4, horizon=6, minibatch_size=6, network=Gru(4), actor_step=step)
    assert next(training(config)).agent.remembers


def test_a_run_that_goes_on_remembers(monkeypatch):
    monkeypatch.setattr("proximo.policies.own_network.ActorCritic", Recurrent)
    config = small(GoesOn, num_envs=2, horizon=5, minibatch_size=5, steps=200)
    whole = training(config)
    start = next(whole).snapshot()
    assert max(np.abs(x).max() for x in start.stream["carry"]) > 0
    expected = next(whole).learner
    assert equal(next(training(config, start)).learner, expected)
    start.stream["carry"] = [np.zeros_like(x) for x in start.stream["carry"]]
    assert not equal(next(training(config, start)).learner, expected)


class GoesOn(Ends):
    """Can be taken up where it was."""

    def get_state(self):
        return {"count": self.count, "episode": self.episode, "clock": self.clock, "seen": float(self.seen)}

    def set_state(self, state):
        vars(self).update(state)
