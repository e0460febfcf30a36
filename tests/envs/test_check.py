"""`check` finds each defect by itself, and has no quarrel with sound environments."""

import re

import gymnasium as gym
import numpy as np
import pytest
from env_probes import DictWalk, FailsAt, Walk
from gymnasium import spaces

from proximo.envs import check
from proximo.errors import UserError


def findings(env, level, steps=100):
    """What `check` said at one level: name -> all of its messages."""
    found = {}
    for finding in check(env, steps=steps):
        if finding.level == level:
            found.setdefault(finding.name, []).append(finding.message)
    return {name: " / ".join(messages) for name, messages in found.items()}


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", Walk, DictWalk])
def test_sound_environments_have_no_errors(env):
    assert findings(env, "error", steps=300) == {}


def test_a_report_says_what_was_looked_at():
    ok = findings("CartPole-v1", "ok", steps=300)
    assert {"values", "ends", "determinism", "seeds", "speed", "autoreset"} <= set(ok)
    assert "us (median)" in ok["speed"] and "99th percentile" in ok["speed"]


class OldStep(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class BareReset(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class NoSeed(Walk):
    def reset(self):
        return super().reset()


class Outside(Walk):
    observation_space = spaces.Box(-0.5, 0.5, (2,), np.float32)


class WrongDtype(Walk):
    def _observation(self):
        return super()._observation().astype(np.float64)


class NaNReward(Walk):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float("nan"), *rest


class InfiniteObservation(Walk):
    def _observation(self):
        return np.array([np.inf if self.clock == 3 else 0, self.clock], np.float32)


class ArrayReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward]), *rest


class NumberFlag(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, int(terminated), truncated, info


class OneBuffer(Walk):
    buffer = np.zeros(2, np.float32)

    def _observation(self):
        self.buffer[:] = self.position, self.clock
        return self.buffer


class OwnRandomness(Walk):
    generator = np.random.default_rng()

    def step(self, action):
        self.position += 0.1 * self.generator.normal()
        return super().step(action)


class ForgetsToReset(Walk):
    drift = 0.0

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        ForgetsToReset.drift += 0.01
        return obs + np.float32(self.drift), info


class TextAction(Walk):
    action_space = spaces.Text(3)


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        (OldStep, "reset and step", "return obs, reward, terminated, truncated, info"),
        (BareReset, "reset and step", "return obs, info"),
        (NoSeed, "reset and step", "def reset.self, ., seed=None, options=None"),
        (Outside, "observation space", "outside -0.5 to 0.5"),
        (WrongDtype, "observation space", "its dtype is float64, the space has float32"),
        (NaNReward, "finite", "the reward nan"),
        (InfiniteObservation, "finite", "step 3 .* returned inf in the observation"),
        (ArrayReward, "reward", r"return float\(reward\)"),
        (NumberFlag, "terminated", r"return bool\(terminated\)"),
        (OneBuffer, "buffers", "return a new array each time"),
        (OwnRandomness, "determinism", "self.np_random"),
        (ForgetsToReset, "determinism", "reset all of the state"),
        (TextAction, "spaces", "not supported"),
        (lambda: FailsAt(at=3, unlucky=0), "run", "step 3 .* failed: ZeroDivisionError: a bad day"),
    ],
)
def test_a_defect_is_an_error_with_its_remedy(env, name, says):
    found = findings(env, "error")
    assert name in found, found
    assert one_plain_line(found[name]) and re.search(says, found[name]), found[name]


def one_plain_line(message):
    """One line, without the colours of a terminal."""
    return "\n" not in message and "\x1b" not in message


class SameForEverySeed(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=123)


class NoEnd(Walk):
    observation_space = spaces.Box(-1000, 1000, (2,), np.float32)

    def __init__(self):
        super().__init__(limit=10**9)

    def step(self, action):
        self.position *= 0.5
        return super().step(action)


class Blind(Walk):
    def _observation(self):
        return np.zeros(2, np.float32)


class Huge(Walk):
    observation_space = spaces.Box(-1e7, 1e7, (2,), np.float32)

    def _observation(self):
        return 1e6 * super()._observation()


class HugeReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 1e5 * reward, *rest


class NoReward(Walk):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


class FloatImage(Walk):
    observation_space = spaces.Box(-9, 9, (3, 8, 8), np.float32)

    def _observation(self):
        return np.full((3, 8, 8), self.clock, np.float32)


class SlowReset(Walk):
    def reset(self, *, seed=None, options=None):
        np.random.default_rng(0).random(1_000_000)
        return super().reset(seed=seed)


class WideAction(Walk):
    action_space = spaces.Box(-5, 3, (1,), np.float32)

    def step(self, action):
        return super().step(action[0] > 0)


class NoModes(Walk):
    metadata = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        (SameForEverySeed, "seeds", "two seeds give the same stream"),
        (NoEnd, "ends", "gymnasium.wrappers.TimeLimit"),
        (Blind, "observations", "never changes"),
        (Huge, "observations", "normalisation"),
        (HugeReward, "reward", "reward scaling"),
        (NoReward, "reward", "every reward was 0"),
        (FloatImage, "spaces", "use uint8"),
        (SlowReset, "speed", "a reset takes"),
        (WideAction, "spaces", "RescaleAction"),
        (NoModes, "rendering", "render_modes"),
    ],
)
def test_a_weakness_is_a_warning_with_its_remedy(env, name, says):
    assert findings(env, "error") == {}
    assert says in findings(env, "warning").get(name, "nothing"), findings(env, "warning")


class PaysForTheSeam(gym.vector.SyncVectorEnv):
    """A vector of its own that gives a reward for the step which only resets."""

    def __init__(self, num_envs, **_):
        super().__init__([Walk] * num_envs)

    def step(self, actions):
        seam = self._autoreset_envs.copy()
        obs, reward, *rest = super().step(actions)
        return obs, reward + seam, *rest


def test_the_vector_version_of_an_environment_is_looked_at_too():
    gym.register("Paying-v0", Walk, vector_entry_point=PaysForTheSeam)
    try:
        found = findings("Paying-v0", "error")
    finally:
        del gym.registry["Paying-v0"]
    assert list(found) == ["autoreset of its own vector"]
    assert "the step after an end gave reward 1.0" in found["autoreset of its own vector"]


def test_an_instance_is_compared_with_itself_and_stays_open():
    env = gym.make("CartPole-v1")
    assert findings(env, "error") == {}
    env.reset(seed=0)


def test_what_cannot_be_checked_says_so():
    with pytest.raises(UserError, match="no environment is called"):
        check("CartPoul-v1")
    with pytest.raises(UserError, match="single environment"):
        check(gym.vector.SyncVectorEnv([Walk]))
    with pytest.raises(UserError, match="steps is 0"):
        check(Walk, steps=0)
