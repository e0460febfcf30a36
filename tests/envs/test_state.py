"""Environments that are put back go on exactly as if nothing had happened: bit for bit, over resets too."""

import itertools
import json
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import DictWalk, Walk
from gymnasium import wrappers
from safetensors.numpy import load, save

from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.snapshot import pack, unpack
from proximo.errors import StateNotSaved, StateRefused, UserError

LIMIT = 20
IDS = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Ant-v5",
    "Humanoid-v5",
    "Humanoid-v4",
    "Reacher-v5",
    "InvertedDoublePendulum-v5",
]


def stored(tree):
    """The state after a time on disk: numbers and words as JSON, arrays as safetensors."""
    arrays = {}

    def words(node, path):
        if isinstance(node, np.ndarray):
            arrays[path] = node
            return {"array": path}
        return {k: words(x, f"{path}/{k}") for k, x in node.items()} if isinstance(node, dict) else node

    text, data = json.dumps(words(tree, ""), allow_nan=False), save(arrays)
    back = load(data)

    def again(node):
        if not isinstance(node, dict):
            return node
        return back[node["array"]] if set(node) == {"array"} else {k: again(x) for k, x in node.items()}

    return again(json.loads(text))


def rows(envs, actions):
    """Copies of everything that the steps return."""
    seen = []
    for action in actions:
        step = envs.step(action)
        final = step.final_obs if step.final_obs is not None else 0
        parts = (step.obs, step.reward, step.terminated, step.truncated, final)
        seen.append([np.array(x) for part in parts for x in leaves(part)])
    return seen


def leaves(batch):
    if isinstance(batch, dict):
        return [batch[name] for name in sorted(batch)]
    return list(batch) if isinstance(batch, tuple) else [batch]


def compare(make, steps, more=50, other=None):
    """Go on in the same object and in a new one; returns how many episodes ended meanwhile."""
    with make() as envs, (other or make)() as other:
        envs.reset(list(range(envs.num_envs)))
        envs.action_space.seed(5)
        for _ in range(steps):
            obs = envs.step(envs.action_space.sample()).obs
        state, latest = stored(envs.state()), [np.array(x) for x in leaves(obs)]
        actions = [envs.action_space.sample() for _ in range(more)]
        expected = rows(envs, actions)
        other.reset(list(range(100, 100 + envs.num_envs)))
        for mine, theirs in zip(leaves(other.restore(state)), latest, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert other.steps == steps
        for mine, theirs in zip(rows(other, actions), expected, strict=True):
            for one, another in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(one, another)
        return sum(row[-3].sum() + row[-2].sum() for row in expected)


@pytest.mark.parametrize("steps", [7, LIMIT - 1, LIMIT], ids=["middle", "before the end", "seam"])
@pytest.mark.parametrize("mode", ["sync", "parallel"])
@pytest.mark.parametrize("env_id", IDS)
def test_a_new_process_goes_on_exactly(env_id, mode, steps, monkeypatch):
    monkeypatch.setattr("proximo.envs.make.spare_workers", lambda count: 0)
    make = partial(make_envs, env_id, 2, vectorization_mode=mode, max_episode_steps=LIMIT)
    assert compare(make, steps) >= 4  # at least two resets of each environment were compared


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Ant-v5"])
@pytest.mark.parametrize("steps", [7, LIMIT])
def test_so_does_a_worker_process(env_id, steps):
    def make():
        one = partial(gym.make, env_id, max_episode_steps=LIMIT)
        return HostEnvs(ParallelVectorEnv(one, one(), 3, 1), env_id)

    assert compare(make, steps) >= 6


@pytest.mark.parametrize("mode", gym.vector.AutoresetMode)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1", "Taxi-v4"])
def test_every_way_to_reset_and_observations_in_parts(env_id, mode):
    def make():
        one = partial(gym.make, env_id, max_episode_steps=LIMIT)
        return HostEnvs(gym.vector.SyncVectorEnv([one] * 3, autoreset_mode=mode), env_id)

    for steps in (7, LIMIT):
        assert compare(make, steps) >= 6


@pytest.mark.parametrize("steps", [7, LIMIT])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1"])
def test_what_gymnasiums_sync_vector_saved_goes_on_in_ours_and_one_mode_in_another(env_id, steps):
    """Older runs of mode `sync` were stepped there."""
    one = partial(gym.make, env_id, max_episode_steps=LIMIT)
    starts = [
        lambda: HostEnvs(gym.vector.SyncVectorEnv([one] * 2), env_id),
        partial(make_envs, env_id, 2, max_episode_steps=LIMIT),
        partial(make_envs, env_id, 2, vectorization_mode="async", max_episode_steps=LIMIT),
    ]
    for start, following in itertools.pairwise(starts):
        assert compare(start, steps, other=following) >= 4


class Keeps(Walk):
    """A user's own environment that says what its state is."""

    def get_state(self):
        return {"position": self.position, "clock": self.clock, "extra": (np.float32(0.5), [1, None])}

    def set_state(self, state):
        assert state["extra"] == (np.float32(0.5), [1, None])
        assert type(state["extra"][0]) is np.float32
        self.position, self.clock = state["position"], state["clock"]


class KeepsParts(Keeps, DictWalk):
    pass


@pytest.mark.parametrize("env", [Keeps, KeepsParts, lambda: wrappers.TimeLimit(Keeps(limit=100), LIMIT)])
@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_an_environment_of_ones_own_with_the_two_methods(env, mode):
    assert compare(partial(make_envs, env, 2, vectorization_mode=mode), 7) >= 4


class Stateful(gym.Wrapper):
    pass


@pytest.mark.parametrize(
    "env",
    [
        "LunarLander-v3",
        Walk,  # it looks simple, but who knows
        lambda: Stateful(gym.make("CartPole-v1")),
        lambda: wrappers.NormalizeReward(gym.make("CartPole-v1")),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_none_where_the_state_cannot_be_known(env, mode, monkeypatch):
    monkeypatch.setattr("proximo.envs.make.spare_workers", lambda count: 0)
    with make_envs(env, 1, vectorization_mode=mode) as envs:
        envs.reset([0])
        assert envs.state() is None


def test_none_for_vectors_of_others():
    class Other(gym.vector.SyncVectorEnv):
        pass

    envs = make_envs(Other([partial(gym.make, "CartPole-v1")]))
    envs.reset([0])
    assert envs.state() is None


def without(tree, *path):
    """The tree with one entry less."""
    first, *rest = path
    if not rest:
        return {key: x for key, x in tree.items() if key != first}
    return {**tree, first: without(tree[first], *rest)}


def saved_of(env_id, count=1, **options):
    with make_envs(env_id, count, **options) as envs:
        envs.reset(list(range(count)))
        return envs.state()


def refusal(state, env_id, count=1, **options):
    with make_envs(env_id, count, **options) as envs:
        envs.reset(list(range(count)))
        with pytest.raises(UserError) as raised:
            envs.restore(state)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_state_that_does_not_fit_is_refused():
    cart = saved_of("CartPole-v1")
    assert "float32 (1, 4) in the saved state, but here float32 (1, 6)" in refusal(cart, "Acrobot-v1")
    assert "its num_envs is 1, here it is 2" in refusal(cart, "CartPole-v1", 2)
    theirs = gym.vector.SyncVectorEnv([partial(gym.make, "CartPole-v1")])
    assert "it was saved from a ParallelVectorEnv, this is a SyncVectorEnv" in refusal(cart, theirs)
    assert "OrderEnforcing in TimeLimit, this is CartPoleEnv in" in refusal(
        cart, "CartPole-v1", max_episode_steps=-1
    )
    assert "it has no 'vector'" in refusal(without(cart, "vector"), "CartPole-v1")
    layer = ("vector", "environments", "0", "layers", "3")
    assert "CartPoleEnv has also state" in refusal(
        without(cart, *layer, "attributes", "state"), "CartPole-v1"
    )
    ant = saved_of("Ant-v5")
    message = refusal(without(ant, *layer, "derived", "xpos"), "Ant-v5")
    assert "the simulation's arrays differ: xpos" in message
    ant["vector"]["environments"]["0"]["layers"]["3"]["derived"]["xpos"] = np.zeros((2, 3))
    assert "xpos has the shape (14, 3), but (2, 3) in the saved state" in refusal(ant, "Ant-v5")
    assert "does not fit" in refusal({}, "Ant-v5") and "does not fit" in refusal({"name": 3}, "Ant-v5")


def test_nothing_is_set_that_the_environment_does_not_have():
    """An attribute that is no plain data, such as a method or a space, is never replaced."""
    state = saved_of("CartPole-v1")
    attributes = state["vector"]["environments"]["0"]["layers"]["3"]["attributes"]
    attributes["step"] = 3
    assert "CartPoleEnv has no step" in refusal(state, "CartPole-v1")
    del attributes["step"]
    attributes["action_space"] = 3
    with make_envs("CartPole-v1", 1) as envs:
        envs.reset([0])
        envs.restore(state)
        assert isinstance(envs.vector.envs[0].unwrapped.action_space, gym.spaces.Discrete)


def test_a_worker_refuses_too():
    one = partial(gym.make, "CartPole-v1")
    with HostEnvs(ParallelVectorEnv(one, one(), 2, 1), "CartPole-v1") as envs:
        envs.reset([0, 1])
        state = envs.state()
        for index in ("0", "1"):  # here, and in the worker
            envs.reset([2, 3])
            broken = without(state, "vector", "environments", index, "layers", "3", "random")
            with pytest.raises(UserError, match="'random'"):
                envs.restore(broken)


class RaisesAt(Keeps):
    """Its pair of methods fails: in the environments that were seeded with 1 alone."""

    failing, error = "get_state", ZeroDivisionError("no\nstate")

    def reset(self, *, seed=None, options=None):
        self.seeded = self.__dict__.get("seeded") if seed is None else seed
        return super().reset(seed=seed)

    def fail(self, where):
        if where == self.failing and self.seeded == 1:
            raise self.error

    def get_state(self):
        self.fail("get_state")
        return super().get_state()

    def set_state(self, state):
        self.fail("set_state")
        super().set_state(state)


class OldGenerator(Keeps):
    """As in the days of the old `gym` package."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self._np_random = np.random.RandomState(seed)
        return found


class GivesASet(Keeps):
    def get_state(self):
        return {"visited": {1, 2}}


class OfASimulator(Keeps):
    """A pair of methods of its own, which mean something else."""

    def get_state(self, agent):
        return agent


class Exits(RaisesAt):
    error = SystemExit("the simulator is gone")


@pytest.mark.parametrize("mode", ["sync", "parallel"])
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (RaisesAt, "ZeroDivisionError: no state"),
        (Exits, r"it asked the program to end \(SystemExit: the simulator is gone\)"),
        (OldGenerator, r"its np_random is a RandomState, and only a numpy\.random\.Generator can be saved"),
        (OfASimulator, r"TypeError: .*get_state\(\) missing 1 required positional argument: 'agent'"),
        (GivesASet, r"its get_state\(\) returns a set, which is not plain data"),
    ],
)
def test_a_state_that_cannot_be_had_is_told_once_and_the_environment_goes_on(env, reason, mode):
    with make_envs(env, 2, vectorization_mode=mode) as envs:
        envs.reset([0, 1])
        with pytest.warns(StateNotSaved, match=rf"{env.__name__} failed to save its state \({reason}\)"):
            assert envs.state() is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert envs.state() is None
        envs.step(envs.action_space.sample())


def test_so_does_one_in_a_worker():
    with HostEnvs(ParallelVectorEnv(RaisesAt, RaisesAt(), 2, 1), "RaisesAt") as envs:  # 1 is in the worker
        envs.reset([0, 1])
        with pytest.warns(StateNotSaved, match=r"RaisesAt failed .*ZeroDivisionError: no state"):
            assert envs.state() is None
        envs.step(envs.action_space.sample())


class TakesNothingBack(RaisesAt):
    failing = "set_state"


class ExitsThen(TakesNothingBack):
    error = SystemExit()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("env", [TakesNothingBack, ExitsThen])
def test_a_state_that_is_not_taken_back_is_another_matter_than_one_that_does_not_fit(env, num_workers):
    with HostEnvs(ParallelVectorEnv(env, env(), 2, num_workers), "Mine") as envs:
        envs.reset([0, 2])
        state = envs.state()
        envs.reset([0, 1])
        reason = "ZeroDivisionError: no state" if env is TakesNothingBack else "it asked the program to end"
        with pytest.raises(StateRefused, match=rf"its set_state\(\) failed: {reason}"):
            envs.restore(state)
        envs.reset([0, 1])  # and it goes on
        envs.step(envs.action_space.sample())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**200,
        -(2**63),
        float("-inf"),
        0.1,
        "word",
        (1, (2.5, [None])),
        {"int": "not a number", "list": []},
        np.float32(0.1),
        np.int8(3),
        np.bool_(True),
        (),
    ],
)
def test_plain_data_keeps_its_types(value):
    back = unpack(stored({"value": pack(value)})["value"])
    assert back == value and type(back) is type(value)
