"""Two users never step one environment: neither of them would know where it stands."""

import gc

import gymnasium as gym
import pytest
from env_probes import Walk

from proximo.envs import make_envs
from proximo.errors import UserError


def pair():
    return gym.vector.SyncVectorEnv([Walk] * 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda env: env, lambda env: env),
        (lambda env: env, lambda env: gym.wrappers.TimeLimit(env, 5)),  # another object around the same one
        (lambda env: gym.wrappers.TimeLimit(env, 5), lambda env: env.unwrapped),
        (lambda env: env, lambda env: lambda: env),  # a function that makes nothing new
        (lambda env: gym.vector.SyncVectorEnv([lambda: env]), lambda env: env),
    ],
)
def test_an_environment_that_is_stepped_is_not_lent_again(first, second):
    env = Walk()
    with make_envs(first(env)), pytest.raises(UserError, match="is in use by a training or an evaluation"):
        make_envs(second(env))
    with make_envs(second(env)) as envs:  # now it is free
        assert envs.num_envs == 1


def test_a_vector_is_lent_once_too():
    vector = pair()
    with make_envs(vector), pytest.raises(UserError, match="is in use"):
        make_envs(vector.envs[1])


def test_what_is_refused_stays_open():
    class Closing(Walk):
        closed = False

        def close(self):
            self.closed = True

    env = Closing()
    with make_envs(env):
        for user in (env, lambda: env):
            with pytest.raises(UserError, match="is in use"):
                make_envs(user)
        gc.collect()
        assert not env.closed


def test_who_forgets_to_close_holds_nothing():
    env = Walk()
    make_envs(env)
    assert make_envs(env).num_envs == 1  # the first is gone


@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_copies_that_are_one_environment_are_refused(mode):
    env = Walk()
    with pytest.raises(UserError, match="several places of the vector hold the same Walk"):
        make_envs(lambda: env, 2, vectorization_mode=mode)
