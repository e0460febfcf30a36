"""Everything a user may call an environment, and what he reads when it is not one."""

import functools
import sys

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk

from proximo.envs import family, find_spec, make_envs, make_one
from proximo.errors import UserError


@pytest.fixture
def registered():
    """Registers environments for one test only."""
    before = dict(gym.registry)
    yield gym.register
    for name in set(gym.registry) - set(before):
        del gym.registry[name]


def spec_name(envs):
    with envs:
        assert envs.reset(list(range(envs.num_envs))) is not None
        assert len(envs.step(envs.action_space.sample()).reward) == envs.num_envs
        return envs.name, envs.num_envs


def test_each_kind_of_environment():
    assert spec_name(make_envs("CartPole-v1", 2)) == ("CartPole-v1", 2)
    assert spec_name(make_envs("CartPole-v1", 2, vectorization_mode="vector_entry_point")) == (
        "CartPole-v1",
        2,
    )
    assert spec_name(make_envs(Walk, 3)) == ("Walk", 3)
    assert spec_name(make_envs(lambda: Walk(limit=9), 2)) == ("lambda", 2)
    assert spec_name(make_envs(functools.partial(Walk, limit=9), 2))[1] == 2
    assert spec_name(make_envs(Walk())) == ("Walk", 1)
    assert spec_name(make_envs(gym.make("CartPole-v1"), 1)) == ("CartPole-v1", 1)
    assert spec_name(make_envs(gym.vector.SyncVectorEnv([Walk] * 2))) == ("Walk", 2)
    assert spec_name(make_envs(gym.make_vec("CartPole-v1", 2), 2)) == ("CartPole-v1", 2)


def test_options_reach_the_environment():
    assert make_envs(Walk, limit=9).vector.envs[0].limit == 9
    assert make_envs("CartPole-v1", sutton_barto_reward=True).vector.envs[0].unwrapped._sutton_barto_reward
    assert make_one("CartPole-v1", render_mode="rgb_array").render_mode == "rgb_array"


def test_observations_are_not_copied_twice():
    with make_envs(Walk, 2) as envs:
        assert envs.reset([0, 1]) is envs.step(np.array([0, 0])).obs


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: make_envs("CartPol-v1"), "no environment is called 'CartPol-v1': did you mean CartPole-v1"),
        (lambda: make_envs("cartpole-v1"), "did you mean CartPole-v1"),
        (lambda: make_envs("HalfCheetah-v9"), "did you mean HalfCheetah-v5"),
        (lambda: make_envs("Xyzzyx"), "gymnasium.pprint_registry"),
        (lambda: make_envs("some.module:Env-v0"), "names a module to import.*allow_import=True"),
        (
            lambda: make_envs("no.such.module:Env-v0", allow_import=True),
            "cannot import .*ModuleNotFound",
        ),
        (lambda: make_envs("CartPole-v1", 0), "num_envs is 0: it must be at least 1"),
        (
            lambda: make_envs("CartPole-v1", vectorization_mode="threads"),
            "use one of sync, async, vector_entry",
        ),
        (
            lambda: make_envs("Pendulum-v1", vectorization_mode="vector_entry_point"),
            "no vector version of its own",
        ),
        (lambda: make_envs(Walk, vectorization_mode="vector_entry_point"), "needs a registered id"),
        (lambda: make_envs("CartPole-v1", colour="red"), "CartPole-v1 could not be made: TypeError.*colour"),
        (lambda: make_envs(Walk(), 2), "pass the class, or a function"),
        (
            lambda: make_envs(Walk(), vectorization_mode="async"),
            "an instance is a single environment in this process",
        ),
        (
            lambda: make_envs(Walk, 2, vector_kwargs={"autoreset_mode": "SameStep"}),
            "vector_kwargs has autoreset_mode: use max_restarts, .*create that vector and pass it",
        ),
        (
            lambda: make_envs(gym.vector.SyncVectorEnv([Walk] * 2), limit=3),
            r"\['limit'\] cannot be given to a vector",
        ),
        (lambda: make_envs(Walk(), limit=3), r"\['limit'\] cannot be given to an instance"),
        (lambda: make_envs(gym.vector.SyncVectorEnv([Walk] * 2), 3), "holds 2: leave num_envs out"),
        (lambda: make_envs(42), "int is not an environment: pass a registered id"),
        (lambda: make_envs(lambda: "no"), "makes a str, which is not a gymnasium.Env"),
        (lambda: make_envs(dict), "dict makes a dict"),
        (lambda: family("CartPole-v7"), "did you mean CartPole-v1"),
    ],
)
def test_what_cannot_be_made_says_why_and_what_to_do(make, says):
    with pytest.raises(UserError, match=says) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_a_module_is_imported_only_where_that_is_allowed(tmp_path, monkeypatch, registered):
    (tmp_path / "probe_module_of_a_user.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Probe-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="allow_import"):
        make_envs("probe_module_of_a_user:Probe-v0")
    assert "probe_module_of_a_user" not in sys.modules
    assert make_envs("probe_module_of_a_user:Probe-v0", allow_import=True).name == "Probe-v0"
    assert find_spec("Probe-v0").max_episode_steps == 7


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            gym.error.DependencyNotInstalled("MuJoCo is not installed, run ..."),
            r'pip install "proximo\[mujoco\]"',
        ),
        (ModuleNotFoundError("No module named 'Box2D'", name="Box2D"), r'pip install "proximo\[box2d\]"'),
        (ModuleNotFoundError("No module named 'left'", name="left"), "No module named 'left'"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_has_it(registered, error, says):
    def entry():
        raise error

    registered("Missing-v0", entry)
    with pytest.raises(UserError, match=f"Missing-v0 needs a package that is not installed: {says}"):
        make_envs("Missing-v0")


def test_atari_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)  # as if it were not installed
    monkeypatch.delitem(gym.registry, "ALE/Pong-v5", raising=False)
    with pytest.raises(UserError, match=r'pip install "proximo\[atari\]"'):
        make_envs("ALE/Pong-v5")


@pytest.mark.parametrize(
    ("name", "package"),
    [("MiniGrid-Here-v0", "minigrid"), ("BabyAI-Here-v0", "minigrid"), ("popgym-Here-v0", "popgym")],
)
def test_the_package_that_registers_a_known_kind_of_id_is_imported(name, package, monkeypatch, tmp_path):
    (tmp_path / f"{package}.py").write_text(
        f"import gymnasium\ngymnasium.register({name!r}, entry_point='env_probes:Walk')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    try:
        assert spec_name(make_envs(name, 2)) == (name, 2)
    finally:
        sys.modules.pop(package, None)
        gym.registry.pop(name, None)


def test_families_are_read_from_the_registry(registered):
    registered("OfMyOwn-v0", Walk)
    registered("ALE/Ponglike-v5", "ale_py.env:AtariEnv")
    expected = {
        "CartPole-v1": "classic_control",
        "LunarLander-v3": "box2d",
        "HalfCheetah-v5": "mujoco",
        "FrozenLake-v1": "toy_text",
        "ALE/Ponglike-v5": "atari",
        "OfMyOwn-v0": "other",
    }
    assert {name: family(name) for name in expected} == expected
    assert find_spec("CartPole-v1").id == "CartPole-v1"


@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_what_mujoco_warns_of_at_every_environment_is_said_once(mode, capfd, monkeypatch, tmp_path):
    mujoco = pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("proximo.envs.make.spare_workers", lambda count: 1)
    gym.register("Unstable-v0", "mujoco_probe:Unstable")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)
    try:
        for _ in range(2):  # as training and then evaluation make theirs
            with make_envs("Unstable-v0", 4, vectorization_mode=mode) as envs:
                envs.reset([0, 1, 2, 3])
    finally:
        mujoco.set_mju_user_warning(before)
        del gym.registry["Unstable-v0"]
    said = capfd.readouterr().err
    assert said.count("Nan, Inf or huge value in QPOS at DOF 0") == 1 and said.startswith("MuJoCo: ")
    assert list(tmp_path.iterdir()) == []  # MuJoCo's own MUJOCO_LOG.TXT grew by a line each time
