"""A name never stands in for an environment: what it really is, as plain data, and made again from it."""

import json
import re
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk
from gymnasium import wrappers

from proximo.envs import EnvDescription, description_from_json, make_envs, select_environment
from proximo.envs.description import NotPlain, plain, restored, source_of, wrapper_called
from proximo.envs.remake import constructor_of
from proximo.errors import UserError


def named(value):
    """What a case is called: the same in every process, so without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def description(env, **options):
    with make_envs(env, **options) as envs:
        return envs.description


def frozen(**kwargs):
    return gym.make("FrozenLake-v1", is_slippery=False, **kwargs)


def rescaled():
    """Pendulum-v1 with gravity 9 and actions in -1 to 1."""
    return wrappers.RescaleAction(gym.make("Pendulum-v1", g=9.0), np.float32(-1.0), np.float32(1.0))


def stacked():
    return wrappers.FrameStackObservation(wrappers.FlattenObservation(gym.make("Pendulum-v1")), 3)


ONE = {"__array__": 1.0, "dtype": "float32", "scalar": True}  # a float32: a float would make float64 bounds


@pytest.mark.parametrize(
    ("env", "name", "kwargs", "added"),
    [
        ("CartPole-v1", "CartPole-v1", {}, []),
        (gym.spec("CartPole-v1"), "CartPole-v1", {}, []),
        (frozen(), "FrozenLake-v1", {"is_slippery": False}, []),
        (lambda: frozen(), "FrozenLake-v1", {"is_slippery": False}, []),
        (partial(frozen, desc=["SG"]), "FrozenLake-v1", {"is_slippery": False, "desc": ["SG"]}, []),
        (gym.vector.SyncVectorEnv([frozen] * 2), "FrozenLake-v1", {"is_slippery": False}, []),
        (gym.make_vec("Pendulum-v1", 2, g=9.0), "Pendulum-v1", {"g": 9.0}, []),
        (gym.make("CartPole-v1", max_episode_steps=50), "CartPole-v1", {"max_episode_steps": 50}, []),
        (gym.make("CartPole-v1", max_episode_steps=-1), "CartPole-v1", {"max_episode_steps": -1}, []),
        (gym.make("CartPole-v1", render_mode="rgb_array"), "CartPole-v1", {}, []),
        (rescaled(), "Pendulum-v1", {"g": 9.0}, ["RescaleAction"]),
        (stacked(), "Pendulum-v1", {}, ["FlattenObservation", "FrameStackObservation"]),
        # The outer of two time limits ends every episode: the inner one is not needed.
        (wrappers.TimeLimit(gym.make("Pendulum-v1"), 50), "Pendulum-v1", {"max_episode_steps": 50}, []),
        (wrappers.RecordEpisodeStatistics(gym.make("Pendulum-v1")), "Pendulum-v1", {}, []),  # only looks on
    ],
    ids=named,
)
def test_what_is_registered_is_made_again_with_its_arguments_and_wrappers(env, name, kwargs, added):
    found = description(env)
    assert (found.name, found.kwargs, [wrapper for wrapper, _ in found.wrappers]) == (name, kwargs, added)
    read = description_from_json(json.loads(json.dumps(found.as_json(), allow_nan=False)))
    place, arguments = constructor_of(read)
    assert description(place, env_kwargs=arguments) == found


def test_a_wrapper_is_put_on_again_with_its_arguments():
    found = description(rescaled())
    assert dict(found.wrappers)["RescaleAction"] == {
        "min_action": {**ONE, "__array__": -1.0},
        "max_action": ONE,
    }
    place, arguments = constructor_of(found)
    with make_envs(place, env_kwargs=arguments) as envs:
        assert envs.vector.envs[0].unwrapped.g == 9.0
        assert envs.spaces == (rescaled().observation_space, rescaled().action_space)


class Own(gym.Wrapper):
    """A wrapper of the user's own."""


def copied_spec():
    env = Walk()
    env.spec = gym.spec("CartPole-v1")
    return env


@pytest.mark.parametrize(
    ("env", "obstacle"),
    [
        (Walk(), "Walk needs code of your own, which no run imports by itself"),
        (Walk, "Walk needs code of your own, which no run imports by itself"),
        (lambda: Walk(), "Gymnasium's registry has no such id"),
        (copied_spec(), "it is a Walk, the registry's a CartPoleEnv"),
        (Own(gym.make("Pendulum-v1")), "its wrapper Own is not one of Gymnasium's"),
        (wrappers.NormalizeObservation(gym.make("Pendulum-v1")), "the statistics of its wrapper Normalize"),
        (
            wrappers.TransformReward(gym.make("Pendulum-v1"), lambda reward: reward),
            r"'func' of its wrapper TransformReward is a function .*<lambda>, which cannot be saved in a f",
        ),
        (wrappers.TimeLimit(rescaled(), 50), "its wrappers are not in the order of gymnasium.make"),
        (
            gym.vector.SyncVectorEnv([partial(gym.make, "Pendulum-v1", g=g) for g in (5.0, 6.0)]),
            "the environments of its vector differ",
        ),
        (
            gym.wrappers.vector.ClipReward(gym.make_vec("Pendulum-v1", 2), 0.0, 1.0),
            "its vector is wrapped in ClipReward",
        ),
    ],
)
def test_what_no_file_makes_again_says_why(env, obstacle):
    found = description(env)
    with pytest.raises(UserError, match=obstacle) as raised:
        constructor_of(found)
    assert "pass the environment, in Python with env=" in str(raised.value)
    assert "on the command line with --env" in str(raised.value)
    assert "\n" not in str(raised.value)


# ---- what a file may not do


@pytest.mark.parametrize("name", ["evil:Wrapper", "os", "RecordVideo", "JaxToTorch", "vector", "__dict__"])
def test_a_file_puts_on_no_other_wrapper(name):
    # RecordVideo would write where the file says; JaxToTorch is imported by Gymnasium when it is looked up.
    assert wrapper_called(name) is None
    with pytest.raises(UserError, match=f"a file may not name the wrapper {name}"):
        constructor_of(EnvDescription("CartPole-v1", wrappers=((name, {}),)))


def test_an_argument_of_a_file_names_no_other_environment(monkeypatch):
    monkeypatch.setitem(gym.registry, "Other-v0", replace(gym.spec("CartPole-v1"), entry_point="shimmy:Old"))
    with pytest.raises(UserError, match="name another environment"):
        constructor_of(EnvDescription("Other-v0", {"env_id": "evil:Env-v0"}))


def test_no_module_is_named():
    """In a model; what the user typed is text of the run's config.json alone."""
    assert "env_probes" not in json.dumps(description(Walk).as_json())
    assert description(Walk).source == "env_probes:Walk"


@pytest.mark.parametrize(
    ("env", "source"),
    [
        ("CartPole-v1", None),  # nothing of the user's
        ("gymnasium:CartPole-v1", "gymnasium:CartPole-v1"),  # as it was typed
        (gym.make("Pendulum-v1"), None),
        (partial(Walk, limit=3), "env_probes:Walk"),
        (Walk(), "env_probes:Walk"),
        (lambda: Walk(), None),  # no other process finds it
        (replace(gym.spec("CartPole-v1"), entry_point="shop.envs:Shop"), "shop.envs:CartPole-v1"),
    ],
    ids=named,
)
def test_what_names_an_environment_on_the_command_line(env, source):
    assert source_of(env) == source


# ---- values


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.5, -np.inf, "text", [1, [2]], (84, 84), {"a": (1,)}, np.float32(0.1), np.int8(-3)],
    ids=named,
)
def test_a_value_comes_back_with_its_type(value):
    again = restored(json.loads(json.dumps(plain(value), allow_nan=False)))
    assert again == value and type(again) is type(value)


def test_an_array_comes_back():
    array = np.array([[1.5, np.nan]], np.float16)
    again = restored(json.loads(json.dumps(plain(array), allow_nan=False)))
    assert again.dtype == array.dtype and np.array_equal(again, array, equal_nan=True)


@pytest.mark.parametrize("value", [len, object(), {1: 2}, {"__tuple__": 1}, np.array(["S"]), Walk], ids=named)
def test_what_json_has_no_form_for_is_not_guessed(value):
    with pytest.raises(NotPlain):
        restored(plain(value))


# ---- what a user names in its place


def test_a_module_is_typed_for_the_import_alone(monkeypatch):
    # `module:EnvId` is the recorded environment, arguments included; the bare id is the plain one.
    recorded = description(frozen())
    assert select_environment(recorded) == ("FrozenLake-v1", {"is_slippery": False})
    assert select_environment(recorded, "gymnasium:FrozenLake-v1") == (
        "FrozenLake-v1",
        {"is_slippery": False},
    )
    assert select_environment(recorded, "FrozenLake-v1") == ("FrozenLake-v1", {})
    assert select_environment(recorded, None, {"map_name": "8x8"}) == (
        "FrozenLake-v1",
        {"is_slippery": False, "map_name": "8x8"},
    )


def test_a_class_is_made_with_the_arguments_it_had():
    recorded = description(Walk, env_kwargs={"limit": 9})
    assert recorded.kwargs == {"limit": 9} == description(partial(Walk, limit=9)).kwargs
    assert select_environment(recorded, Walk) == (Walk, {"limit": 9})
    assert select_environment(recorded, Walk, {"limit": 3}) == (Walk, {"limit": 3})
    with pytest.raises(UserError, match="cannot be read from a file"):
        select_environment(description(partial(Walk, limit=len)), Walk)
