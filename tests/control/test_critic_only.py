"""Parts of an observation that the critic alone sees: a better critic, an actor that never needs them."""

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium import spaces
from probes import small

from proximo import PPO, Config, evaluate, training
from proximo.control.config import validate
from proximo.control.model import load_model, save_model
from proximo.control.seen import acting_codec_of, codec_of
from proximo.core.types import Choices, Continuous, Picture, Seen
from proximo.envs.parts import codec_for
from proximo.errors import UserError
from proximo.policies import NetworkOptions, new_policy
from proximo.policies.convolution import Small
from proximo.policies.memory import Gru


class Hidden(gym.Env):
    """The reward of the one step is `target`; `noise` says nothing. V = target where it is seen, else 0."""

    observation_space = spaces.Dict(
        noise=spaces.Box(-1, 1, (2,), np.float32), target=spaces.Box(-9, 9, (1,), np.float32)
    )
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target = self.np_random.choice([-1.0, 1.0])
        return self.told(), {}

    def told(self):
        noise = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"noise": noise, "target": np.full(1, self.target, np.float32)}

    def step(self, action):
        return self.told(), float(self.target), True, False, {}


class Blind(Hidden):
    """The same where it is used: nobody knows the target."""

    observation_space = spaces.Dict(noise=Hidden.observation_space["noise"])

    def told(self):
        return {"noise": super().told()["noise"]}


def last(env, **options):
    return list(training(small(env, num_envs=8, horizon=32, minibatch_size=64, steps=4096, **options)))[-1]


@pytest.fixture(scope="module")
def asymmetric():
    return last(Hidden, critic_only=("target",))


def test_a_critic_that_sees_what_the_reward_depends_on_explains_it(asymmetric):
    assert asymmetric.metrics["train/explained_variance"] > 0.95
    assert last(Blind).metrics["train/explained_variance"] < 0.2


def test_no_action_depends_on_what_the_critic_alone_sees(asymmetric):
    learner, agent = asymmetric.learner, asymmetric.agent
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)  # noise, and behind it the target

    def said(obs):
        output = learner.policy(learner.observations(obs))[0]
        return output.distribution.mode().sum(), output.value.sum()

    slope, critics = (jax.grad(lambda obs, which=which: said(obs)[which])(obs) for which in (0, 1))
    assert np.all(slope[:, 2] == 0) and np.any(slope[:, :2] != 0) and np.any(critics[:, 2] != 0)
    with_it = {"noise": obs[:, :2], "target": np.full((5, 1), 1e6, np.float32)}
    without = {"noise": obs[:, :2]}
    np.testing.assert_array_equal(agent.act(with_it), agent.act(without))
    assert agent.act({"noise": obs[0, :2]}).shape == (1,)
    np.testing.assert_allclose(agent.value({"noise": np.zeros(2), "target": np.ones(1)}), 1.0, atol=0.3)
    with pytest.raises(UserError, match="not in the space"):
        agent.value(without)


def test_an_agent_plays_is_saved_and_predicts_without_them(asymmetric, tmp_path):
    save_model(asymmetric.agent, tmp_path / "model")
    agent = load_model(tmp_path / "model")
    with pytest.warns(match="it is .*Blind"):
        blind = evaluate(agent, Blind, episodes=4)
    assert blind.returns == evaluate(agent, Hidden, episodes=4).returns  # all that differs is what is shown
    model = PPO(Hidden, critic_only=("target",))
    model.agent = agent
    assert model.predict({"noise": np.zeros(2, np.float32)}, deterministic=True)[0].shape == (1,)


def test_the_graph_has_no_input_for_them(asymmetric):
    onnxruntime = pytest.importorskip("onnxruntime")
    from proximo.control.export import build

    session = onnxruntime.InferenceSession(build(asymmetric.agent).SerializeToString())
    obs = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    assert [one.name for one in session.get_inputs()] == ["noise"]
    (found,) = session.run(None, {"noise": obs})
    np.testing.assert_allclose(found, asymmetric.agent.act({"noise": obs}), atol=1e-5)


RICH = spaces.Dict(
    camera=spaces.Box(0, 255, (6, 6, 3), np.uint8),
    map=spaces.Box(0, 255, (6, 6), np.uint8),
    place=spaces.Discrete(300),
    speed=spaces.Box(-1, 1, (2,), np.float32),
)


def test_images_categories_and_numbers_may_be_the_critics_alone():
    names = ("map", "place", "speed")
    codec = codec_for((RICH, None), in_parts=True, critic_only=names)
    assert codec.seen == Seen(0, {"camera": Picture((6, 6, 3))})
    assert codec.private == Seen(2, {"map": Picture((6, 6)), "place": Choices((300,))})
    options = NetworkOptions(critic_only=names, network=Gru(3), image_network=Small((2,), 4), hidden=(4,))
    policy = new_policy(jax.random.key(0), 0, Continuous(1), options, codec.seen.parts, codec.private)
    RICH.seed(0)
    samples = [RICH.sample() for _ in range(4)]
    batch = {key: np.stack([one[key] for one in samples]) for key in RICH.spaces}
    full, acting = codec.empty(4), codec.empty(4)
    codec.write(batch, full)
    acting_codec_of(policy, (RICH, None)).write({"camera": batch["camera"]}, acting)
    assert not acting["map"].any() and not acting["vector"].any() and full["map"].any()
    start, carry = np.ones(4, bool), policy.begin(4)
    (output, after), (blind, same) = (policy(obs, start, carry) for obs in (full, acting))
    np.testing.assert_array_equal(output.distribution.mode(), blind.distribution.mode())
    np.testing.assert_array_equal(after, same)  # what the actor remembers
    assert np.all(output.value != blind.value)
    assert codec_of(policy, (RICH, None)).shape == (2,)


@pytest.mark.parametrize(
    ("space", "names", "message"),
    [
        (RICH["speed"], ("speed",), "the observation is a Box: leave critic_only out"),
        (RICH, ("goal",), "names goal, but the parts of the observation are camera, map, place, speed"),
        (RICH, tuple(RICH.spaces), "names every part of the observation"),
    ],
)
def test_names_that_do_not_fit_are_refused(space, names, message):
    with pytest.raises(UserError, match=message):
        codec_for((space, None), in_parts=True, critic_only=names)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="shared is one network for actor and critic, separate_critic two"):
        validate(small(Hidden, separate_critic=True, shared=True))
    with pytest.raises(UserError, match="critic_only gives the critic an input of its own, and shared has"):
        validate(small(Hidden, critic_only=("target",), shared=True))
    own = Config(Hidden, network=NetworkOptions(network=lambda key, sizes: None, critic_only=("target",)))
    with pytest.raises(UserError, match="critic_only is an option of Proximo's networks, which your network"):
        validate(own)
