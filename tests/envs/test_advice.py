"""What a training warns of as it begins: bounds out of reach, lost digits, statistics of one's own."""

import re
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk
from gymnasium import spaces
from gymnasium.wrappers.vector import NormalizeObservation
from info_probes import Tells

from proximo import preset, training, with_options
from proximo.control import arena
from proximo.control.ensemble import ensemble
from proximo.control.train import begin
from proximo.envs import advice, observation_codec
from proximo.errors import EnvironmentAdvice, UserError
from proximo.learn.actor_steps import CrossEntropy


def box(low, high, dtype=np.float32):
    return spaces.Box(np.asarray(low, dtype), np.asarray(high, dtype), dtype=dtype)


@pytest.mark.parametrize(
    ("space", "std", "says"),
    [
        (box([2.5], [9]), 1.0, "lies outside"),  # beyond 2 standard deviations
        (box([1.5], [9]), 1.0, None),
        (box([1.5], [9]), 0.6, "lies outside"),  # as the recipe for MuJoCo begins: exp(-0.5) = 0.61
        (box([-30], [-15]), 1.0, "lies outside"),
        (box([5], [np.inf]), 1.0, r"take a Box from -1 to 1 and scale it in step\(\)"),
        (box([-10], [10]), 1.0, None),  # 20 standard deviations wide
        (box([-11], [10]), 1.0, "sees a small part"),
        (box([-np.inf], [np.inf]), 1.0, None),
        (box([-1e5, -1], [1e5, 1]), 1.0, "^entry 0 of the action goes from -100000 to 100000:"),
        (
            box([-1, 3, 4], [1, 9, 9]),
            1.0,
            r"^2 of 3 entries \(first: entry 1\) of the action go from 3 to 9:",
        ),
        (box([0], [0.09]), 1.0, "nearly every action is one of the two bounds"),
        (box([0], [0.11]), 1.0, None),
        (box([0.5], [0.5]), 1.0, None),  # there is nothing to reach
        (box([0], [255], np.uint8), 1.0, "declare Discrete or MultiDiscrete"),
        (box([0], [2000]), 1.0, "map a policy from -1 to 1 to it with --scale-actions"),
        (spaces.Box(-1, 1, (2, 2)), 1.0, None),
        (spaces.Discrete(3, start=100), 1.0, None),
    ],
)
def test_bounds_that_the_first_policy_does_not_reach(space, std, says):
    lines = advice.unreachable_actions(space, std, scaled=False)
    if says is None:
        assert lines == []
    else:
        (line,) = lines
        assert re.search(says, line), line


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (box([0], [2000]), None),
        (box([100], [200]), None),
        (box([0], [255], np.uint8), None),
        (spaces.Discrete(3), None),
        (
            box([0, -1], [np.inf, 1]),
            "^entry 0 of the action goes from 0 to inf: without two finite bounds it cannot be scaled, so "
            "the policy begins there with mean 0 and standard deviation 0.6; declare the smallest and the",
        ),
        (box([-np.inf] * 2, [np.inf] * 2), r"^2 of 2 entries \(first: entry 0\) of the action go from -inf"),
        (box([-3.4e38], [3.4e38]), "^entry 0 of the action goes from -3.4e"),  # a way to write no bound
    ],
)
def test_actions_without_two_bounds_are_told_since_they_cannot_be_scaled(space, says):
    lines = advice.unreachable_actions(space, 0.6, scaled=True)
    if says is None:
        assert lines == []
    else:
        (line,) = lines
        assert re.search(says, line), line


def test_changes_that_float32_rounds_away():
    # At 5e6 float32 has steps of 0.5: 7 of them in the first entry, 40 in the second; 2e6 may be a constant.
    codec = observation_codec(spaces.Box(-np.inf, np.inf, (4,), np.float32))
    obs = np.zeros((2, 1, 4), np.float32)
    obs[:, 0] = [[5e6, 5e6, 2e4, 0], [5e6 + 3.5, 5e6 + 20, 2e4, 1e-9]]
    (line,) = advice.lost_precision(obs, codec, np.zeros(4))
    assert line.startswith("entry 0 of the observation lies near 5e+06, where float32 numbers are 0.5 apart")
    (line,) = advice.lost_precision(-obs, codec, np.zeros(4))
    assert line.startswith("entry 0 of the observation lies near -5e+06, where float32 numbers are 0.5 apart")
    assert advice.lost_precision(obs[:, :, 1:], observation_codec(spaces.Box(-9, 9, (3,))), np.zeros(3)) == []


class Far(Walk):
    action_space = spaces.Box(100, 200, (1,), np.float32)
    observation_space = spaces.Box(0, 2e9, (2,), np.float32)

    def step(self, action):
        return super().step(int(action[0] > 150))

    def _observation(self):
        return np.array([1.7e9 + self.clock, self.position + 10], np.float32)


def small(env, **options):
    options = dict(num_envs=2, horizon=16, minibatch_size=16, epochs=1, steps=96, hidden=(4,)) | options
    return with_options(preset("default", env), **options)


def told(iterations):
    """What was warned of, and whether the rest of the training went on without a word."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = sum(1 for _ in iterations)
    assert count > 1
    return [str(one.message) for one in caught if issubclass(one.category, EnvironmentAdvice)]


BOUNDS, CLOCK = "entry 0 of the action goes from 100 to 200", "entry 0 of the observation lies near 1.7e+09"


@pytest.mark.parametrize(
    "begun",
    [
        lambda: training(small(Far, scale_actions=False)),
        lambda: ensemble([small(Far, scale_actions=False, seed=seed) for seed in (0, 1)]),
        lambda: training(small(Far, scale_actions=False, actor_step=CrossEntropy(elite=1), steps=200)),
    ],
    ids=["alone", "ensemble", "population"],
)
def test_a_training_says_once_what_keeps_it_from_learning(begun):
    first, second = told(begun())
    assert first.startswith(BOUNDS) and second.startswith(CLOCK)


@pytest.mark.filterwarnings(
    "ignore::proximo.errors.EpisodesRestarted", "ignore::proximo.errors.EnvironmentAdvice"
)
def test_one_that_goes_on_does_not_say_it_again():
    start = next(training(small(Far))).snapshot()
    assert told(training(small(Far), start)) == []


class Shown(Walk):
    """Every number is 0."""

    def __init__(self, **box):
        super().__init__()
        self.observation_space = spaces.Box(**{"low": 0.0, "high": 1.0, **box})

    def _observation(self):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)


class Parts(gym.ObservationWrapper):
    """Two of what it shows."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict(left=env.observation_space, n=spaces.Box(-1.0, 1.0, (1,)))

    def observation(self, observation):
        return {"left": observation, "n": np.zeros(1, np.float32)}


def test_a_training_says_what_was_taken_as_channels_where_the_shape_does_not_tell():
    (line,) = told(training(small(lambda: Parts(Shown(shape=(3, 9, 3))))))
    assert line == (
        "the observation's part 'left': its shape (3, 9, 3) does not tell where its channels are, and they "
        "are taken to be last (height x width x channels: 3 x 9 x 3); if they are first (9 x 3 x 3), return "
        "np.moveaxis(image, 0, -1) and declare that shape"
    )
    assert told(training(small(partial(Shown, shape=(9, 9, 3))))) == []
    assert told(training(small(partial(Shown, shape=(3, 9, 3)), flatten=True))) == []


def test_a_training_says_how_to_declare_what_looks_like_a_picture():
    (line,) = told(training(small(partial(Shown, shape=(8, 9, 3), low=-1.0))))
    assert line == (
        "the observation: its shape (8, 9, 3) looks like a picture's, but float32 from -1 to 1 is read as "
        "216 numbers; if it is a picture, declare a Box of np.float32 from 0 to 1 or from 0 to 255, or use "
        "np.uint8, from 0 to 255"
    )
    assert told(training(small(partial(Shown, shape=(8, 9, 3), low=-1.0), flatten=True))) == []


@pytest.mark.parametrize(
    ("shape", "looks"),
    [((8, 8, 4), True), ((1, 8, 9), True), ((7, 8, 3), False), ((8, 8, 5), False), ((8, 8), False)],
)
def test_few_shapes_look_like_pictures(shape, looks):
    assert bool(advice.undeclared_picture(spaces.Box(0.0, 2.0, shape))) == looks
    assert not advice.undeclared_picture(spaces.Box(0.0, 1.0, shape))[looks:]


def test_wrappers_with_statistics_of_their_own_are_told():
    one = lambda: gym.wrappers.NormalizeReward(Walk())  # noqa: E731
    (line,) = told(training(small(one)))
    assert line.startswith("NormalizeReward keeps running statistics that are not saved with the model")
    vector = NormalizeObservation(gym.vector.SyncVectorEnv([one, one]))
    assert [line.split()[0] for line in advice.running_statistics(vector)] == [
        "NormalizeObservation",
        "NormalizeReward",
    ]


def test_bounds_far_from_0_are_not_talked_about_where_actions_are_scaled():
    (line,) = told(training(small(Far)))
    assert line.startswith(CLOCK)


@pytest.mark.parametrize("how", ["info", "method", "part"])
@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_a_training_says_in_one_line_where_action_masks_are_found(how, mode, caplog):
    config = small(lambda: gym.wrappers.TimeLimit(Tells(how), 9), vectorization_mode=mode)
    with caplog.at_level("INFO", "proximo"):
        arena, _, _ = begin(config, None)
    place = {"info": "its info has", "method": "it has a method", "part": "its observation has a part"}[how]
    with arena:
        (line,) = [line for line in caplog.messages if "mask" in line]
        assert line.startswith(f"action mask: 3 flags ({place} ")
        assert line.endswith("); illegal actions are never taken")


def test_sound_environments_are_not_talked_about():
    assert told(training(small(Walk))) == []
    for name in ("Pendulum-v1", "LunarLanderContinuous-v3", "HalfCheetah-v5", "Humanoid-v5"):
        space = gym.make(name).action_space if name in gym.registry else spaces.Box(-1, 1, (1,))
        assert advice.unreachable_actions(space, 0.6, scaled=False) == []


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (spaces.Box(-1, 1, (0,), np.float32), "has no entries, so a policy would see nothing"),
        (spaces.Discrete(5_000_000), "as many one-hot entries, and at most 32,768 are supported"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_a_training_refuses_what_it_cannot_hold_in_one_line(space, says, mode):
    class Unfit(Walk):
        observation_space = space

    with pytest.raises(UserError, match=says):
        next(training(small(Unfit, vectorization_mode=mode)))


def test_a_rollout_that_memory_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    # Two copies of 17 x 2 observations of 2 numbers of 4 bytes: 544 bytes.
    monkeypatch.setattr(arena, "memory", lambda: 543)
    with pytest.raises(UserError, match="16 x 2 observations of 2 numbers takes"):
        next(training(small(Walk)))
    monkeypatch.setattr(arena, "memory", lambda: 544)
    next(training(small(Walk)))
    monkeypatch.setattr(arena, "memory", lambda: None)  # where the system does not tell
    next(training(small(Walk)))
