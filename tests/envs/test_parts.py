"""Observations in named parts, for a policy that asks for them: images as they are, beside one vector."""

import re
from functools import partial

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from probes import first_rollout, small

from proximo import evaluate, training
from proximo.core.types import Picture, Seen, vector_of
from proximo.envs import make_envs
from proximo.envs.parts import codec_for, hash_of
from proximo.envs.vector.trees import with_texts
from proximo.errors import EnvironmentFault, Misfit, UserError
from proximo.policies import ActorCritic, Output
from proximo.policies.own_network import sizes_of

BYTES = spaces.Box(0, 255, (2, 3), np.uint8)
NESTED = spaces.Dict(
    position=spaces.Box(-9.0, 9.0, (2,), np.float64),
    eyes=spaces.Tuple((BYTES, spaces.Discrete(3), spaces.Box(0, 255, (1, 1, 3), np.uint8))),
)


def nested(count):
    """Batches as a vector of environments gives them: everything is 10 n plus its place."""
    n = 10 * np.arange(count)
    position = (n[:, None] + np.arange(2)).astype(np.float64)
    left = (n[:, None, None] + np.arange(6).reshape(2, 3)).astype(np.uint8)
    right = (n[:, None, None, None] + np.arange(3)).astype(np.uint8)
    return {"position": position, "eyes": (left, np.arange(count) % 3, right)}


def test_images_stay_bytes_and_everything_else_is_one_vector():
    codec = codec_for((NESTED, None), in_parts=True)
    batch, out = nested(2), codec.empty(2)
    codec.write(batch, out)
    assert list(out) == ["vector", "eyes/0", "eyes/2"]
    assert [part.dtype for part in out.values()] == [np.float32, np.uint8, np.uint8]
    # A Dict is in the order it was written in: two numbers, then the one-hot code.
    assert vector_of(out).tolist() == [[0, 1, 1, 0, 0], [10, 11, 0, 1, 0]]
    np.testing.assert_array_equal(out["eyes/0"], batch["eyes"][0])
    np.testing.assert_array_equal(out["eyes/2"], batch["eyes"][2])
    assert codec.normalised.tolist() == [True, True, False, False, False]
    assert codec.empty(5, 2)["eyes/2"].shape == (5, 2, 1, 1, 3)


def test_what_observations_are_relative_to_moves_numbers_alone():
    codec = codec_for((NESTED, None), in_parts=True).about(np.array([1, 1, 0, 0, 0], np.float32))
    out = codec.empty(2)
    codec.write(nested(2), out)
    assert vector_of(out).tolist() == [[-1, 0, 1, 0, 0], [9, 10, 0, 1, 0]]
    np.testing.assert_array_equal(out["eyes/0"], nested(2)["eyes"][0])


def test_a_policy_that_does_not_ask_gets_one_vector_and_so_does_one_without_an_image():
    flat = codec_for((NESTED, None), in_parts=False)
    out = flat.empty(2)
    flat.write(nested(2), out)
    assert out.shape == (2, 2 + 6 + 3 + 3) and not flat.parts
    without = codec_for((NESTED["position"], None), in_parts=True)
    assert isinstance(without.empty(2), np.ndarray)
    assert not ActorCritic.in_parts


def test_an_observation_may_be_an_image_and_nothing_else():
    codec = codec_for((BYTES, None), in_parts=True)
    out = codec.empty(2)
    codec.write(nested(2)["eyes"][0], out)
    assert out["vector"].shape == (2, 0) and out["image"].dtype == np.uint8
    with pytest.raises(EnvironmentFault, match=r"has shape \(3, 3\), but its space declares \(2, 3\)"):
        codec.write(np.zeros((2, 3, 3), np.uint8), out)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_picture_of_floats_is_seen_from_0_to_1(dtype):
    shape = (1, 2, 3)
    values = np.array([[[0, 51, 255], [1, 2, 3]]], dtype)
    for most in (1, 255):
        space = spaces.Dict(camera=spaces.Box(0, most, shape, dtype))
        codec = codec_for((space, None), in_parts=True)
        out = codec.empty(1)
        codec.write({"camera": values[None] / 255 * most}, out)
        assert codec.seen == Seen(0, {"camera": Picture(shape, "float32")})
        assert out["camera"].dtype == np.float32 and out["vector"].shape == (1, 0)
        np.testing.assert_allclose(out["camera"][0, 0, 0], [0.0, 0.2, 1.0], atol=1e-3)
    flat = codec_for((space, None), in_parts=False)
    assert flat.shape == (6,) and flat.normalised.all()  # numbers as others, which keep their unit


def test_a_network_of_ones_own_is_told_what_images_come_as():
    space = spaces.Dict(
        photo=spaces.Box(0.0, 255.0, (9, 9, 3)), board=spaces.Box(0, 1, (9, 9, 2), bool), eye=BYTES
    )
    sizes = sizes_of(0, 2, codec_for((space, None), in_parts=True).seen.parts)
    assert sizes.dtypes == {"photo": "float32", "board": "bool", "eye": "uint8"}
    assert {name: str(part.dtype) for name, part in sizes.parts.items()} == sizes.dtypes


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (9, 9, 3)),
        spaces.Box(0.0, 2.0, (9, 9, 3)),
        spaces.Box(np.zeros((1, 1, 2)), np.array([[[1.0, 255.0]]]), dtype=np.float64),
        spaces.Box(np.array([[[0.0, 0.5]]]), np.ones((1, 1, 2)), dtype=np.float64),
        spaces.Box(0.0, np.inf, (9, 9, 3)),
        spaces.Box(0.0, 1.0, (9, 9)),
        spaces.Box(0, 255, (9, 9, 3), np.int32),
        spaces.Box(0.0, 1.0, (0, 9, 3)),
    ],
    ids=str,
)
def test_any_other_numbers_stay_numbers(space):
    assert not codec_for((space, None), in_parts=True).parts


@pytest.mark.parametrize(
    ("most", "wrong", "says"),
    [
        (1, 1.5, "its image 'camera' has values from 0.5 to 1.5, but 0 to 1 was assumed, as its space says"),
        (1, -0.25, "has values from -0.25 to 0.5, but 0 to 1 was"),
        (255, 256, "has values from 0.5 to 256.0, but 0 to 255 was"),
        (1, np.nan, "has values from 0.5 to 0.5 and NaN, but"),
        (255, np.inf, "has values from 0.5 to inf, but"),
    ],
)
def test_pixels_that_their_space_does_not_have_are_refused(most, wrong, says):
    codec = codec_for((spaces.Dict(camera=spaces.Box(0, most, (2, 2, 3), np.float32)), None), in_parts=True)
    pixels = np.full((3, 2, 2, 3), 0.5, np.float32)
    codec.write({"camera": pixels}, codec.empty(3))
    pixels[1, 0, 1, 2] = wrong
    with pytest.raises(Misfit, match=re.escape(says)) as caught:
        codec.write({"camera": pixels}, codec.empty(3))
    assert caught.value.environment_index == 1 and "\n" not in str(caught.value)


class Photo(gym.Env):
    """A picture of floats, grey; step `late` returns `wrong` instead."""

    action_space = spaces.Discrete(2)
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, wrong=None, late=3, **box):
        self.observation_space = spaces.Box(**{"low": 0.0, "high": 255.0, "shape": (4, 4, 3), **box})
        self.wrong, self.late, self.steps = wrong, late, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def seen(self):
        return np.full(self.observation_space.shape, 100.0, np.float32)

    def step(self, action):
        self.steps += 1
        obs = self.wrong if self.steps == self.late and self.wrong is not None else self.seen()
        return obs, 1.0, self.steps % 8 == 0, False, {}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.full((4, 4, 3), 256.0, np.float32), "its image has values from 256.0 to 256.0, but 0 to 255 was"),
        (np.zeros((5, 5, 3), np.float32), "an observation of shape (5, 5, 3), but its space declares (4, 4"),
    ],
    ids=["range", "shape"],
)
def test_a_picture_that_is_wrong_is_refused_with_its_environment_and_its_step(wrong, says):
    with pytest.raises(EnvironmentFault, match=re.escape(says)) as caught:
        list(training(small(partial(Photo, wrong), num_envs=2, horizon=8, minibatch_size=16, steps=32)))
    assert re.match(r"environment 0 of Photo failed at step 3, after the action [01]: it", str(caught.value))
    *_, last = training(small(Photo, num_envs=2, horizon=8, minibatch_size=16, steps=32))
    with pytest.raises(EnvironmentFault, match=re.escape(says) + ".*"):
        evaluate(last.agent, partial(Photo, wrong), episodes=2)
    with pytest.raises(UserError, match="the observation is not in the space"):
        last.agent.act(wrong)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (spaces.Dict(legal=BYTES), "is called 'legal', which is what the flags of legal actions are called"),
        (spaces.Dict(vector=BYTES), "is called 'vector', which is what all numbers together are called"),
        (spaces.Dict({"a/b": BYTES, "a": spaces.Dict(b=BYTES)}), "two parts .* are called 'a/b': rename one"),
    ],
)
def test_parts_of_one_name_are_refused(space, says):
    with pytest.raises(UserError, match=says):
        codec_for((space, None), in_parts=True)
    assert codec_for((space, None), in_parts=False).shape[0] >= 6  # as numbers they need no name


class Bright(gym.Env):
    """Worth 1 is action 1 where the picture is bright and action 0 where it is dark, else -1."""

    observation_space = spaces.Dict(
        clock=spaces.Box(-9.0, 9.0, (1,), np.float32), picture=spaces.Box(0, 255, (3, 3), np.uint8)
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.seen(), {}

    def step(self, action):
        reward = 2.0 * (self.bright == action) - 1.0
        self.clock += 1
        return self.seen(), reward, self.clock == 3, False, {}

    def seen(self):
        self.bright = self.np_random.integers(2)
        picture = np.full((3, 3), 250 * self.bright, np.uint8)
        return {"clock": np.array([self.clock], np.float32), "picture": picture}


class Eyes(eqx.Module):
    """The networks, on the numbers beside the picture's own: which it must have got as bytes."""

    networks: ActorCritic
    in_parts = True

    def __init__(self, key, features, kind, options):
        self.networks = ActorCritic(key, features + 9, kind, options)

    @property
    def head(self):
        return self.networks.head

    def begin(self, count):
        return ()

    def __call__(self, obs, start=None, carry=()):
        assert obs["picture"].dtype == jnp.uint8 and obs["vector"].dtype == jnp.float32
        pixels = obs["picture"].reshape(*obs["picture"].shape[:-2], 9).astype(jnp.float32) / 255.0
        output, _ = self.networks(jnp.concatenate([obs["vector"], pixels], axis=-1))
        return Output(*output), carry


def test_a_policy_that_asks_for_parts_learns_from_them_plays_and_goes_on(monkeypatch):
    monkeypatch.setattr("proximo.policies.own_network.ActorCritic", Eyes)
    config = small(Bright, steps=2000, normalise_observations=True, num_envs=4, horizon=16)
    run = training(config)
    first = next(run)
    start = first.snapshot()
    assert abs(first.metrics["train/clip_fraction"]) < 1.0
    assert start.stream["obs"]["picture"].dtype == np.uint8
    assert first.learner.observations.moments.mean.shape == (1,)  # of the clock, not of pixels
    *_, last = run
    assert evaluate(last.agent, Bright, episodes=8).mean == 3.0
    bright = {"clock": np.zeros(1, np.float32), "picture": np.full((3, 3), 250, np.uint8)}
    assert last.agent.act(bright) == 1 and last.agent.value(bright).shape == ()


def test_the_ratio_of_such_a_policy_is_one(monkeypatch):
    monkeypatch.setattr("proximo.policies.own_network.ActorCritic", Eyes)
    learner, rollout, noise = first_rollout(small(Bright, num_envs=2, horizon=8))
    assert rollout.obs["picture"].shape == (9, 2, 3, 3) and rollout.obs["picture"].dtype == np.uint8
    seen = learner.observations(jax.tree.map(lambda x: jnp.asarray(x[:-1]), rollout.obs))
    np.testing.assert_array_equal(learner.policy(seen)[0].distribution.sample(noise), rollout.action)


class Mission(spaces.Space):
    """Strings of a kind of their own, as MiniGrid has them: no length, no characters."""

    def __init__(self):
        super().__init__(dtype=str)

    def sample(self, mask=None, probability=None):
        return "go to the red ball"

    def contains(self, x):
        return isinstance(x, str)

    def __eq__(self, other):
        return isinstance(other, Mission)


class Errand(gym.Env):
    """Shows an errand of a few words; takes anything."""

    observation_space = spaces.Dict(mission=Mission(), place=spaces.Box(-1.0, 1.0, (1,)))
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": []}  # noqa: RUF012
    texts = ("Go to the red ball!", "go to  the ball", "")

    def told(self):
        return {"mission": self.texts[self.clock % 3], "place": np.zeros(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.told(), {}

    def step(self, action):
        self.clock += 1
        return self.told(), 0.0, self.clock == 4, False, {}


def test_a_text_with_spaces_is_read_word_by_word():
    codec = codec_for((spaces.Text(20, charset="abc !"), None), in_parts=True)
    out = codec.empty(3)
    codec.write(("ab  CAB"[:2] + " cab!", "cab", ""), out)
    words = out["text"]
    assert words.shape == (3, 10) and words.dtype == np.int32
    assert words[0, 0] == hash_of("ab") and words[0, 1] == hash_of("cab") == words[1, 0]
    assert not words[0, 2:].any() and not words[1, 1:].any() and not words[2].any()
    assert hash_of("Red") == hash_of("red") != hash_of("ball")
    assert all(0 < hash_of(str(number)) < 2**20 for number in range(1000))


@pytest.mark.parametrize("vector", [Errand, lambda: gym.vector.SyncVectorEnv([Errand, Errand])])
def test_strings_of_a_kind_of_their_own_are_texts(vector):
    with make_envs(vector if vector is Errand else vector()) as envs:
        text = envs.spaces[0]["mission"]
        assert isinstance(text, spaces.Text) and " " in text.character_set
        codec = codec_for(envs.spaces, in_parts=True)
        out = codec.empty(envs.num_envs)
        codec.write(envs.reset([0] * envs.num_envs), out)
        assert out["mission"][0, :6].tolist() == [*map(hash_of, ["go", "to", "the", "red", "ball"]), 0]
        codec.write(envs.step(np.zeros(envs.num_envs, int)).obs, out)
        assert out["mission"][0, :5].tolist() == [*map(hash_of, ["go", "to", "the", "ball"]), 0]


def test_a_space_without_such_strings_stays_the_same():
    assert with_texts(NESTED) is NESTED
