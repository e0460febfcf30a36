"""An agent acts: NumPy in and out, one observation or a batch, as the environment wants its actions."""

import copy
import pickle

import jax
import numpy as np
import pytest
from gymnasium import spaces
from probes import KINDS, RightAction, beginning, equal, small

from proximo.control.acting import Actor, actor_of
from proximo.control.agent import Agent
from proximo.core.types import Categories
from proximo.envs import action_codec, observation_codec
from proximo.errors import UserError
from proximo.learn.normalise import observation_normaliser
from proximo.policies import ActorCritic, NetworkOptions

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
SHIFTED = spaces.Discrete(3, start=-1)
WIDE = spaces.Box(-5.0, 5.0, (2, 2), np.float64)
DICT = spaces.Dict(position=BOX, place=spaces.Discrete(4))


def agent_for(observation=BOX, action=SHIFTED):
    codec, kind = observation_codec(observation), action_codec(action).kind
    options = NetworkOptions(hidden=(8,), policy_gain=3.0)
    policy = ActorCritic(jax.random.key(0), codec.shape[0], kind, options)
    return Agent(policy, observation_normaliser(codec.normalised), (observation, action), "Test-v0")


def test_one_observation_or_a_batch_of_them():
    agent = agent_for()
    batch = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    together = agent.act(batch)
    assert together.shape == (20,)
    assert [agent.act(one) for one in batch] == list(together)
    assert set(together) == {-1, 0, 1}  # the space counts from -1


@pytest.mark.parametrize("action", [*KINDS.values(), SHIFTED, WIDE], ids=str)
@pytest.mark.parametrize("deterministic", [True, False])
def test_every_action_is_in_its_space(action, deterministic):
    agent = agent_for(action=action)
    for batch in (np.zeros((5, 2), np.float32), np.ones((1, 2), np.float32)):
        acted = agent.act(batch, deterministic=deterministic)
        assert all(action.contains(one) for one in acted)
    assert action.contains(agent.act(np.zeros(2, np.float32), deterministic=deterministic))


def test_samples_differ_and_the_most_likely_action_does_not():
    agent = agent_for(action=KINDS["Box"])
    obs = np.zeros(2, np.float32)
    assert np.array_equal(agent.act(obs), agent.act(obs))
    assert not np.array_equal(agent.act(obs, deterministic=False), agent.act(obs, deterministic=False))
    # Two agents that are made alike sample alike.
    a, b = (agent_for(action=KINDS["Box"]).act(obs, deterministic=False) for _ in range(2))
    assert np.array_equal(a, b)


def test_observations_in_parts():
    agent = agent_for(observation=DICT)
    one = {"position": np.zeros(2, np.float32), "place": 3}
    batch = {"position": np.zeros((4, 2), np.float32), "place": np.array([0, 1, 2, 3])}
    assert agent.act(one) == agent.act(batch)[3]
    assert agent.act(batch).shape == (4,)


def test_values_of_one_and_of_many():
    agent = agent_for()
    many = agent.value(np.zeros((4, 2), np.float32))
    assert many.shape == (4,) and agent.value(np.zeros(2, np.float32)) == pytest.approx(many[0])


@pytest.mark.parametrize(
    "observation", [np.zeros(3), np.zeros((4, 3)), np.zeros((2, 2, 2)), np.float32(1.0), "left"], ids=str
)
def test_an_observation_of_another_space_is_refused_in_one_line(observation):
    with pytest.raises(UserError) as caught:
        agent_for().act(observation)
    assert "\n" not in str(caught.value)


def test_the_loop_and_the_agent_act_alike():
    # `stepper` reads the memory that NumPy writes; a stale read would repeat the action before.
    agent = agent_for(action=KINDS["Box"])
    actor = Actor(agent.policy, agent.observations)
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (30, 5, 2)).astype(np.float32)
    noise = rng.normal(size=(30, 5, 2)).astype(np.float32)
    step = actor.stepper(agent.parameters, obs[0], noise[0])
    acted = [step(o, n, None, ())[0] for o, n in zip(obs, noise, strict=True)]
    expected = agent.policy(jax.numpy.asarray(obs))[0].distribution.sample(noise)
    np.testing.assert_allclose(np.stack(acted), expected, atol=1e-5)


def test_an_agent_without_a_distribution_for_its_action_is_refused():
    assert action_codec(SHIFTED).kind == Categories((3,), scalar=True)
    with pytest.raises(UserError, match=r"action space .* is not supported"):
        agent_for(action=spaces.Text(3))


def test_policies_of_one_shape_share_what_is_compiled():
    one, other = (beginning(small(RightAction, seed=seed))[0] for seed in (0, 1))
    wide = beginning(small(RightAction, hidden=(5,)))[0]
    shared = actor_of(one.policy, one.observations)
    assert shared is actor_of(other.policy, other.observations)
    assert shared is not actor_of(wide.policy, wide.observations)
    # Nothing of the policy that it was compiled for is left in it.
    obs = np.array([[0.5], [-0.5]], np.float32)
    for learner in (one, other):
        noise = np.asarray(shared.noise(jax.random.key(0), 0, (2,)))
        own = Actor(learner.policy, learner.observations)
        flat = own.parameters(learner.policy, learner.observations)
        np.testing.assert_array_equal(shared.sample(flat, obs, noise)[0], own.sample(flat, obs, noise)[0])
        np.testing.assert_array_equal(shared.mode(flat, obs)[0], own.mode(flat, obs)[0])
        np.testing.assert_array_equal(shared.parameters(learner.policy, learner.observations), flat)


# ---- handed to another process, as by joblib and multiprocessing


def test_an_agent_survives_pickle_and_copies():
    agent = agent_for(BOX, KINDS["MultiDiscrete"])
    seen = np.full(2, 0.5, np.float32)
    agent.act(seen, deterministic=False)  # its own random stream has moved on
    for again in (pickle.loads(pickle.dumps(agent)), copy.deepcopy(agent)):
        assert equal(again.policy, agent.policy) and again.environment == agent.environment
        assert np.array_equal(again.act(seen), agent.act(seen))
    again = pickle.loads(pickle.dumps(agent))
    draws = [np.stack([one.act(seen, deterministic=False) for _ in range(5)]) for one in (agent, again)]
    assert np.array_equal(*draws)


def test_an_agent_that_cannot_be_written_says_why():
    agent = agent_for()
    agent.policy = jax.tree.map(lambda leaf: leaf * np.nan, agent.policy)
    with pytest.raises(UserError, match=r"this agent cannot be copied or pickled: .* is not finite"):
        pickle.dumps(agent)
    agent.policy = None
    with pytest.raises(
        UserError, match=r"cannot be copied or pickled: .*networks of Proximo, .*, not a NoneType"
    ):
        pickle.dumps(agent)
