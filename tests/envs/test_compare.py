"""An environment is compared with the one that an agent knows: by the structure of its spaces."""

import re
from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk
from gymnasium import spaces as S

from proximo.envs import EnvDescription, check_fits, make_envs
from proximo.envs.compare import differences, space_differences
from proximo.errors import EnvironmentDiffers, UserError

BOX = S.Box(-1.0, 1.0, (2,), np.float32)


def parts(*names):
    return S.Dict(OrderedDict((name, BOX) for name in names))


@pytest.mark.parametrize(
    ("known", "here", "text", "grave"),
    [
        (parts("a", "b"), parts("b", "a"), "the observation has the order b, a, not a, b", True),
        (parts("a", "b"), parts("a", "c"), "the observation has the parts a, c, not a, b", True),
        (S.Discrete(2), S.Discrete(2, start=3), "the observation starts at 3, not at 0", True),
        (S.Discrete(2), S.Discrete(3), "the observation has 3 values, not 2", True),
        (S.Discrete(4), BOX, "the observation is a Box, not a Discrete", True),
        (S.Tuple([BOX]), S.Tuple([BOX, BOX]), "the observation has 2 parts, not 1", True),
        (S.MultiBinary(2), S.MultiBinary(3), "the observation has shape (3,), not (2,)", True),
        (S.MultiDiscrete([2, 3]), S.MultiDiscrete([3, 2]), "has the values [3, 2], not [2, 3]", True),
        (
            S.MultiDiscrete([2, 3]),
            S.MultiDiscrete([2, 3], start=[1, 0]),
            "has the start [1, 0], not [0, 0]",
            True,
        ),
        (BOX, S.Box(-1.0, 1.0, (1, 2), np.float32), "has shape (1, 2), not (2,)", True),
        (BOX, S.Box(-1.0, 1.0, (2,), np.float64), "the observation is float64, not float32", False),
        (
            BOX,
            S.Box(np.array([-1, -3]), 1.0, (2,), np.float32),
            "low[1] of the observation is -3, not -1",
            False,
        ),
        (
            S.Dict(a=BOX),
            S.Dict(a=S.Box(-1.0, 2.0, (2,))),
            "the high[0] of the observation 'a' is 2, not 1",
            False,
        ),
    ],
)
def test_spaces_are_compared_part_by_part(known, here, text, grave):
    found = list(space_differences((known, BOX), (here, BOX)))
    assert text in found[0].text and found[0].grave is grave
    assert not list(space_differences((here, BOX), (here, BOX)))
    swapped = list(space_differences((BOX, known), (BOX, here)))  # actions, in the same words
    assert [one.text.replace("the action", "the observation") for one in swapped] == [
        one.text for one in found
    ]


def test_what_would_mean_something_else_is_refused_and_the_rest_is_told():
    with make_envs("CartPole-v1") as envs:
        wide = S.Box(-9.0, 9.0, (4,), np.float32)
        with pytest.warns(
            EnvironmentDiffers,
            match=r"CartPole-v1 differs from the .*low\[0\] of the observation is",
        ):
            check_fits(envs.description, (wide, S.Discrete(2)), envs)
        message = (
            "CartPole-v1 has different observations or actions than Old-v0, on which the agent was trained: "
            + ("the action has 2 values, not 3")
        )
        with pytest.raises(UserError, match=re.escape(message)):
            check_fits(EnvDescription("Old-v0"), (envs.spaces[0], S.Discrete(3)), envs)


def of(env, **options):
    with make_envs(env, **options) as envs:
        return envs.description


class Elsewhere:
    """Another class of the same name, as two modules have them."""

    class Walk(Walk):
        """The same to look at."""

    Walk.__qualname__ = "Walk"


def test_descriptions_are_compared_part_by_part():
    plain, other = of("Pendulum-v1"), of("Pendulum-v1", env_kwargs={"g": 9.0})
    assert differences(plain, plain) == []
    assert differences(other, plain) == ["g is not given, in training it was 9.0"]
    wrapped = of(gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0))
    assert differences(wrapped, plain) == ["its wrappers are none, in training they were RescaleAction"]
    halved = of(gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -0.5, 1.0))
    assert "its wrapper RescaleAction has {'min_action': -0.5" in differences(wrapped, halved)[0]
    assert differences(plain, of("Acrobot-v1")) == ["it is Acrobot-v1, not Pendulum-v1"]


def test_classes_of_one_name_are_told_apart():
    assert differences(of(Walk), of(Walk())) == differences(of(Walk), of(lambda: Walk(limit=9))) == []
    limited = of(lambda: gym.wrappers.TimeLimit(Walk(), 5))
    assert differences(of(Walk), limited) == ["it is Walk in TimeLimit, in training it was Walk"]
    assert differences(of(Walk), of(Elsewhere.Walk)) == ["it is another Walk than in training"]


def test_of_an_old_run_the_name_alone_is_known():
    old = EnvDescription("Pendulum-v1", only_name=True)
    assert differences(old, of("Pendulum-v1", env_kwargs={"g": 9.0})) == []
    assert differences(old, of("Acrobot-v1")) == ["it is Acrobot-v1, not Pendulum-v1"]
