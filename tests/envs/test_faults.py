"""A broken environment is named in one line: which copy, when, after what, why, and what to do."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Dies, FailsAt, Walk, WrongShape

from proximo.envs import HostEnvs, check_finite, make_envs
from proximo.errors import EnvironmentFault

ACTIONS = np.array([0, 1, 1])


def fault_of(envs, steps=5):
    """The fault that a run meets, as one line."""
    with pytest.raises(EnvironmentFault) as raised:
        envs.reset([0, 1, 2])
        for _ in range(steps):
            envs.step(ACTIONS)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 400
    return message, raised.value


def test_an_exception_in_a_step():
    message, fault = fault_of(make_envs(FailsAt, 3))
    assert message == (
        "environment 2 of FailsAt failed at step 3, after the action 1: ZeroDivisionError: a bad day "
        "(--debug shows its traceback)"
    )
    assert isinstance(fault.__cause__, ZeroDivisionError)


def test_an_exception_in_a_reset():
    message, _ = fault_of(make_envs(FailsAt, 3, at=0, unlucky=1))
    assert message.startswith("environment 1 of FailsAt failed at its reset: ZeroDivisionError")


def test_an_exception_in_another_process():
    with make_envs(FailsAt, 3, vectorization_mode="async") as envs:
        message, _ = fault_of(envs)
    assert message.startswith("environment 2 of FailsAt failed at step 3, after the action 1: ZeroDivision")


def test_a_process_that_dies():
    with make_envs(Dies, 3, vectorization_mode="async") as envs:
        message, _ = fault_of(envs)
    assert "environment 1 of Dies failed at step 1, after the action 1: its process ended with" in message


@pytest.mark.filterwarnings("ignore:.*(ERROR|Calling)")  # Gymnasium passes on the worker's traceback so
@pytest.mark.parametrize(
    ("env", "what"),
    [
        (FailsAt, "environment 2 of Walks failed at step 3, after the action 1: ZeroDivisionError"),
        (Dies, "environment 1 of Walks failed at step 1, after the action 1: its process ended with exit st"),
    ],
)
def test_a_fault_in_a_vector_of_processes_that_was_passed(env, what):
    vector = gym.vector.AsyncVectorEnv([env] * 3, context="forkserver")
    try:
        assert fault_of(HostEnvs(vector, "Walks"))[0].startswith(what)
    finally:
        vector.close_extras(terminate=True)
        vector.closed = True


@pytest.mark.parametrize(("at", "when"), [(0, "its reset"), (2, "step 2")])
def test_an_observation_of_the_wrong_shape(at, when):
    message, _ = fault_of(make_envs(WrongShape, 3, at=at))
    assert f"environment 0 of WrongShape failed at {when}" in message
    assert "it returned an observation of shape (3,), but its space declares (2,); correct its" in message


def test_so_it_is_named_in_gymnasiums_sync_vector():
    vector = gym.vector.SyncVectorEnv([Walk, partial(WrongShape, at=2), Walk])
    message, _ = fault_of(HostEnvs(vector, "Walks"))
    assert message.startswith(
        "environment 1 of Walks failed at step 2, after the action 1: it returned an obs"
    )


def rollout():
    obs, reward = np.zeros((4, 2, 3), np.float32), np.zeros((3, 2), np.float32)
    action = np.arange(6).reshape(3, 2)
    return obs, reward, action


def test_a_sound_rollout_passes_even_where_its_sum_overflows():
    obs, reward, action = rollout()
    obs[:] = 3e38
    check_finite(obs, reward, action, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_placed(value):
    """Row t of the reward and row t+1 of the observations are what step t+1 of the rollout returned."""
    obs, reward, action = rollout()
    reward[2, 0] = value
    with pytest.raises(
        EnvironmentFault, match=rf"environment 0 returned {value} in its reward at step 13, .* 4:"
    ):
        check_finite(obs, reward, action, 10)
    obs[2, 1, 0] = value  # a step earlier: this is the one to name
    found = f"{value}, or a number too large for float32," if np.isinf(value) else str(value)
    with pytest.raises(
        EnvironmentFault, match=f"environment 1 returned {found} in its observation at step 12, .* 3:"
    ):
        check_finite(obs, reward, action, 10)
    obs[0, 1, 0] = value
    with pytest.raises(EnvironmentFault, match=r"environment 1 .* at its reset"):
        check_finite(obs, reward, action, 0)


def test_opposite_infinities_do_not_hide_each_other():
    obs, reward, action = rollout()
    obs[1, 0, :2] = np.inf, -np.inf
    with pytest.raises(EnvironmentFault, match="observation at step 1"):
        check_finite(obs, reward, action, 0)
