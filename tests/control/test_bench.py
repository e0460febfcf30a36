"""The speed of the parts: what an environment raises while it is timed is one line, as in training."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from proximo.cli import main
from proximo.control.bench import alone
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault


class Fails(gym.Env):
    """Raises in the step number `at`; its episodes never end."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, at=3):
        self.at, self.clock = at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.clock += 1
        if self.clock == self.at:
            raise ZeroDivisionError("a bad\nday")
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_an_environment_that_fails_while_it_is_stepped_alone_is_named(mode):
    with make_envs(Fails, 2, vectorization_mode=mode) as envs:
        envs.reset([0, 1])
        assert alone(envs, [np.array([0, 1])] * 2) == 0.0
        with pytest.raises(EnvironmentFault) as raised:
            alone(envs, [np.array([1, 0])])
    assert str(raised.value) == (
        "environment 0 of Fails failed at step 3, after the action 1: ZeroDivisionError: a bad day "
        "(--debug shows its traceback)"
    )
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_the_command_says_it_in_one_line(capsys):
    # 8 steps are collected before the first part is timed: in the tenth the environments are alone.
    sizes = ["--num-envs", "1", "--horizon", "8", "--minibatch-size", "8", "--hidden", "4", "--epochs", "1"]
    words = ["bench", f"{__file__}:Fails", "--env-kwargs", "at=10", *sizes, "--repeats", "1"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("proximo bench: environment 0 of Fails failed at step ")
