"""Distributions that end at bounds, tanh of a normal and Beta: every face gives the environment the same."""

from itertools import pairwise

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from probes import Probe, first_rollout, small

import proximo
from proximo import training
from proximo.control.evaluate import Evaluator
from proximo.control.model import save_model
from proximo.core.types import Continuous
from proximo.envs import make_envs
from proximo.envs.scaling import scaled_codec
from proximo.errors import UserError
from proximo.policies.convolution import Small
from proximo.policies.distributions import BoundedBeta, StateDependentExploration, TanhNormal, make_head

GIVEN = []  # what environments of this process were given, in order


class Heater(Probe):
    """A heater of 2000 W, and a valve from -1 to 1."""

    action_space = spaces.Box(np.array([0.0, -1.0], np.float32), np.array([2000.0, 1.0], np.float32))

    def begin(self):
        self.clock = 0

    def turn(self, action):
        assert self.action_space.contains(action)
        GIVEN.append(action.copy())
        self.clock += 1
        self.seen = float(self.np_random.uniform(-1, 1))
        return -abs(action[0] / 1000 - 1), False, self.clock == 10


@pytest.fixture(autouse=True)
def nothing_given():
    GIVEN.clear()


INSIDE = {TanhNormal(): lambda u: np.tanh(np.float64(u)), BoundedBeta(): lambda x: 2 * np.float64(x) - 1}


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "raw"])
@pytest.mark.parametrize("distribution", INSIDE, ids=lambda one: type(one).__name__)
def test_what_was_sampled_is_stored_and_the_environment_gets_it_between_its_bounds(distribution, scaled):
    config = small(Heater, num_envs=1, horizon=32, distribution=distribution, scale_actions=scaled)
    _, rollout, _ = first_rollout(config)
    acted = rollout.mask[:, 0] == 1  # the environment got nothing in a seam
    inside = INSIDE[distribution](rollout.action[acted, 0])
    expected = np.stack([1000 * (inside[:, 0] + 1), inside[:, 1]], axis=1)
    np.testing.assert_allclose(GIVEN, expected, rtol=1e-5, atol=1e-4)
    low, high = np.min(GIVEN, axis=0), np.max(GIVEN, axis=0)
    assert low[0] < 500 and high[0] > 1500  # a first policy covers the range


@pytest.mark.parametrize("distribution", INSIDE, ids=lambda one: type(one).__name__)
def test_evaluate_act_and_predict_give_the_same_action_also_after_saving(distribution, tmp_path):
    (*_, last) = training(small(Heater, num_envs=2, horizon=32, steps=128, distribution=distribution))
    with make_envs(Heater) as envs:
        played, observations = Evaluator(last.agent, envs, 0, True), []
        for _, _ in zip(range(9), played.steps, strict=False):
            observations.append(float(envs.vector.envs[0].seen))
    given, batch = np.array(GIVEN[-8:]), np.array(observations[:8], np.float32)[:, None]
    np.testing.assert_allclose(last.agent.act(batch), given, rtol=1e-6)
    save_model(last.agent, tmp_path)
    again = proximo.PPO.load(tmp_path)
    np.testing.assert_allclose(again.predict(batch, deterministic=True)[0], given, rtol=1e-6)
    sampled = again.agent.act(np.repeat(batch, 50, axis=0), deterministic=False)
    assert all(map(Heater.action_space.contains, sampled)) and len(np.unique(sampled)) > 500


@pytest.mark.parametrize(("far", "end"), [(40.0, 1), (-40.0, 0)])
def test_tanh_is_exact_at_the_ends(far, end):
    space = spaces.Box(np.float32(0.1), np.float32(0.3), (1,))
    codec = scaled_codec(space, inside=TanhNormal.inside)
    (found,) = codec.to_environment(np.array([[far]], np.float32))
    assert found == (space.high if end else space.low)


@pytest.mark.parametrize(
    ("space", "distribution", "message"),
    [
        (spaces.Box(-1, np.inf, (2,), np.float32), TanhNormal(), "entry 0 of the action goes from -1 to inf"),
        (spaces.Box(-1, np.inf, (2,), np.float32), BoundedBeta(), "distribution is bounded-beta, which acts"),
        (spaces.Discrete(2), TanhNormal(), "the action space Discrete(2) has none: leave --distribution out"),
        (spaces.Discrete(2), StateDependentExploration(), "is state-dependent-exploration, which is of real"),
    ],
)
def test_a_distribution_that_does_not_fit_the_actions_is_refused_in_one_line(space, distribution, message):
    class Other(Heater):
        action_space = space

    with pytest.raises(UserError) as error:
        next(training(small(Other, distribution=distribution)))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image_network": Small()},
            "--image-network is for images, and the observation has none: leave it out",
        ),
        (
            {"modulate": True, "flatten": True},
            "--modulate is for images, and --flatten leaves none: give one",
        ),
    ],
)
def test_an_option_of_images_is_refused_where_there_is_none(options, message):
    with pytest.raises(UserError, match=message):
        next(training(small(Heater, **options)))


def test_a_schedule_of_the_standard_deviation_is_of_a_normal_alone():
    with pytest.raises(UserError, match="final_log_std is a schedule of `normal`, not of tanh-normal"):
        next(training(small(Heater, distribution=TanhNormal(), final_log_std=-1.0)))


def test_a_beta_has_no_log_std():
    with pytest.raises(UserError, match="bounded-beta has no initial_log_std: leave one of them out"):
        next(training(small(Heater, distribution=BoundedBeta(), initial_log_std=-3.25)))


def test_state_dependent_exploration_begins_with_the_standard_deviation_that_is_asked_for():
    head = make_head(Continuous(2), -1.0, None, StateDependentExploration(), 64)
    said = head(jnp.zeros(2), jnp.ones(64))  # 64 features, each of which has a part of the noise
    np.testing.assert_allclose(np.exp(said.log_std), np.exp(-1.0), rtol=1e-5)


def test_samples_of_several_environments_have_noise_of_their_own():
    config = small(Heater, num_envs=2, horizon=32, distribution=StateDependentExploration())
    agent = next(training(config)).agent
    actions = agent.act(np.full((4, 1), 0.5, np.float32), deterministic=False)
    assert len(np.unique(actions[:, 0])) == 4


def test_an_evaluation_holds_noise_as_training_does():
    config = small(Heater, num_envs=2, horizon=32, distribution=StateDependentExploration(3))
    agent, keys = next(training(config)).agent, []
    with make_envs(Heater) as envs:
        play, sample = Evaluator(agent, envs, 0, False), agent.sample
        agent.sample = lambda obs, key, *memory: (
            keys.append(jax.random.key_data(key).tolist()) or sample(obs, key)
        )
        for _ in zip(range(8), play.steps, strict=False):
            pass
    assert [a == b for a, b in pairwise(keys)] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_watching_a_real_task_with_tanh_stays_inside():
    env = gym.make("Pendulum-v1")
    config = small("Pendulum-v1", num_envs=2, horizon=32, steps=128, distribution=TanhNormal())
    agent = next(training(config)).agent
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action = agent.act(obs, deterministic=False)
        assert env.action_space.contains(action)
        obs, *_ = env.step(action)
