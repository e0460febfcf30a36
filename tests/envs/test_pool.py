"""EnvPool's environments, on a stand-in: the package is large, and its names and seeds are what matters."""

import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from proximo import evaluate, training, with_options
from proximo.control.config import preset
from proximo.core import ClippedSquaredError
from proximo.envs import make_envs, make_one
from proximo.errors import UserError
from proximo.policies.convolution import Impala


class StandIn:
    """A pool of environments whose observation begins with their seed, and whose mission is bytes."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    action_space = spaces.Discrete(3)
    observation_space = spaces.Dict(
        number=spaces.Box(0.0, 1e9, (1,)), mission=spaces.Box(0, 255, (32,), np.uint8)
    )

    def __init__(self, task, env_type, num_envs, seed=(), **options):
        assert (task, env_type) == ("BabyAI-GoToObj-v0", "gymnasium")
        self.config, self.count, self.seeds = {"mission_bytes": 32, **options}, num_envs, seed
        self.closed = False

    def told(self):
        mission = np.zeros((self.count, 32), np.uint8)
        mission[:, :5] = np.frombuffer(b"go to", np.uint8)
        seeds = np.float32(self.seeds or [0] * self.count)[:, None]
        return {"number": seeds, "mission": mission}

    def reset(self):
        self.clock = 0
        return self.told(), {}

    def step(self, actions):
        self.clock += 1
        over = np.full(self.count, self.clock % 5 == 4)
        return self.told(), np.ones(self.count), over, np.zeros(self.count, bool), {}

    def close(self):
        self.closed = True


@pytest.fixture
def envpool(monkeypatch):
    """In the place of the package."""
    stand_in = SimpleNamespace(
        make=StandIn,
        make_spec=lambda task: SimpleNamespace(config=SimpleNamespace()),
        list_all_envs=lambda: ["BabyAI-GoToObj-v0", "Pong-v5"],
    )
    monkeypatch.setitem(sys.modules, "envpool", stand_in)
    yield stand_in
    for name in [name for name in gym.registry if name.startswith("envpool/")]:
        del gym.registry[name]


def test_a_pool_is_made_by_its_name_with_a_seed_for_each_and_its_mission_is_a_text(envpool):
    with make_envs("envpool/BabyAI-GoToObj-v0", 2) as envs:
        obs = envs.reset([7, 9])
        assert obs["number"][:, 0].tolist() == [7, 9]
        assert isinstance(envs.spaces[0]["mission"], spaces.Text)
        step = envs.step(np.zeros(2, int))
        assert step.obs["number"][:, 0].tolist() == [7, 9] and step.reward.tolist() == [1, 1]
        assert envs.seam_rows
        pool = envs.vector.pool
    assert pool.closed


def test_an_unknown_name_leads_to_the_nearest(envpool):
    says = r"EnvPool has no environment 'BabyAI-GoToObject-v0': did you mean BabyAI-GoToObj-v0"
    with pytest.raises(UserError, match=says):
        make_envs("envpool/BabyAI-GoToObject-v0")


def test_a_single_environment_is_refused(envpool):
    with pytest.raises(UserError, match="BabyAI-GoToObj-v0 exists as a vector alone"):
        make_one("envpool/BabyAI-GoToObj-v0")


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r'pip install "proximo\[envpool\]"'):
        make_envs("envpool/Pong-v5")


def test_without_what_a_pool_needs_beside_python_its_own_words_are_shown(envpool):
    """EnvPool's Procgen needs Qt 5 of the system, and says how to install it."""

    def make(task, **options):
        raise ImportError("EnvPool Procgen requires the system Qt 5 runtime on Linux.\nInstall it.")

    envpool.make = make
    with pytest.raises(UserError) as raised:
        make_envs("envpool/Pong-v5", 2)
    assert str(raised.value) == (
        "envpool/Pong-v5 needs something that is not installed: "
        "EnvPool Procgen requires the system Qt 5 runtime on Linux. Install it."
    )


def test_a_game_of_procgen_has_the_recipe_of_its_authors(envpool):
    """train-procgen: 64 environments x 256 steps, 8 minibatches, 3 epochs, a clipped value loss, IMPALA."""
    envpool.make_spec = lambda task: SimpleNamespace(config=SimpleNamespace(num_levels=0))
    config = preset("default", "envpool/Pong-v5")
    update, network = config.update, config.network
    assert (config.num_envs, config.horizon) == (64, 256)
    assert (64 * 256 / update.minibatch_size, update.epochs) == (8, 3)
    assert (update.gamma, update.gae_lambda, update.learning_rate) == (0.999, 0.95, 5e-4)
    assert not update.anneal and update.value_loss == ClippedSquaredError(0.2)
    assert network.image_network == Impala() and network.shared
    assert update.normalise_rewards and not update.normalise_observations


def test_a_pool_is_trained_and_evaluated_by_its_name(envpool):
    config = with_options(
        preset("default", "envpool/BabyAI-GoToObj-v0"),
        steps=16,
        num_envs=2,
        horizon=8,
        minibatch_size=16,
        epochs=1,
        hidden=(4,),
    )
    agent = next(training(config)).agent
    assert evaluate(agent, episodes=2).returns == [4.0, 4.0]
