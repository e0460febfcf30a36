"""One stream out of three ways to reset: the transitions are the same, only the way they travel differs."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import DictWalk, Walk
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from proximo.envs import HostEnvs, make_envs
from proximo.errors import EnvironmentFault, UserError


def transitions(envs, policy, rows, seeds):
    """Every environment's transitions in order, read as a collector reads them: encoded, seams left out."""
    found = [[] for _ in range(envs.num_envs)]
    encoded = lambda batch: _encoded(envs, batch)  # noqa: E731
    obs, seam = encoded(envs.reset(seeds)), np.zeros(envs.num_envs, bool)
    for _ in range(rows):
        action = policy(obs)
        step = envs.step(envs.action.to_environment(action))
        following = encoded(step.obs)
        ended = step.terminated | step.truncated
        successor = following if step.final_obs is None else encoded(step.final_obs)
        successor = np.where(ended[:, None], successor, following)
        for i in np.flatnonzero(~seam):
            state = (*obs[i].tolist(), int(action[i]), float(step.reward[i]), *successor[i].tolist())
            found[i].append((*state, bool(step.terminated[i]), bool(step.truncated[i])))
        seam = ended & envs.seam_rows
        obs = following
    return found


def _encoded(envs, batch):
    out = np.empty((envs.num_envs, *envs.observation.shape), np.float32)
    envs.observation.encode(batch, out)
    return out


def stepping(env, mode, count=3, **options):
    make = partial(gym.make, env) if isinstance(env, str) else partial(env, **options)
    return HostEnvs(SyncVectorEnv([make] * count, autoreset_mode=mode), "probe")


@pytest.mark.parametrize(
    ("env", "policy"),
    [
        (Walk, lambda obs: (np.sin(50 * obs[:, 0]) > -0.5).astype(np.int32)),
        (DictWalk, lambda obs: (np.sin(50 * obs[:, -1]) > -0.5).astype(np.int32)),
        ("CartPole-v1", lambda obs: (obs[:, 2] > -0.05).astype(np.int32)),
    ],
)
def test_the_three_autoreset_modes_give_the_same_transitions(env, policy):
    streams = {}
    for mode in AutoresetMode:
        with stepping(env, mode) as envs:
            assert envs.seam_rows == (mode == AutoresetMode.NEXT_STEP)
            streams[mode] = transitions(envs, policy, 200, seeds=[3, 1, 4])
    next_step, same_step, disabled = (streams[mode] for mode in AutoresetMode)
    assert same_step == disabled  # neither has seams, so row for row
    for i in range(3):
        count = len(next_step[i])
        assert next_step[i] == same_step[i][:count]
        ends = [transition[-2:] for transition in next_step[i] if any(transition[-2:])]
        assert len(ends) >= 3 and count == 200 - len(ends) + any(next_step[i][-1][-2:])
    if env is Walk:
        kinds = {transition[-2:] for stream in next_step for transition in stream}
        assert {(True, False), (False, True)} <= kinds  # both ends were seen


@pytest.mark.parametrize("env", [Walk, DictWalk])
def test_every_mode_gives_the_transitions_that_gymnasiums_vector_gives(env):
    policy = lambda obs: (obs[:, -1] < 0).astype(np.int32)  # noqa: E731
    with HostEnvs(SyncVectorEnv([env] * 2), "walk") as gymnasium:
        expected = transitions(gymnasium, policy, 20, [1, 2])
    for mode in ("sync", "async", "parallel"):
        with make_envs(env, 2, vectorization_mode=mode) as envs:
            assert transitions(envs, policy, 20, [1, 2]) == expected


def test_a_seam_ignores_its_action_and_shows_the_next_episode():
    with make_envs(Walk, 1, limit=1) as envs:
        envs.reset([0])
        step = envs.step(np.array([1]))
        assert step.truncated[0] and step.obs[0, 1] == 1  # the clock of the true last observation
        seam = envs.step(np.array([1]))
        assert (seam.reward[0], seam.terminated[0], seam.truncated[0]) == (0, False, False)
        assert seam.obs[0, 1] == 0 and seam.final_obs is None


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_without_seams_the_last_observation_travels_beside_the_stream(mode):
    with stepping(Walk, mode, count=2, limit=2) as envs:
        envs.reset([0, 1])
        assert envs.step(np.array([1, 0])).final_obs is None  # nothing has ended
        step = envs.step(np.array([0, 1]))
        assert step.truncated.all()
        assert step.obs[:, 1].tolist() == [0, 0] and step.final_obs[:, 1].tolist() == [2, 2]


class Declared(gym.vector.VectorEnv):
    """A vector environment that ends in every step, and says what it is told to."""

    num_envs = 2
    single_observation_space, single_action_space = Walk.observation_space, Walk.action_space
    observation_space, action_space = single_observation_space, single_action_space

    def __init__(self, metadata, info):
        self.metadata, self.info = metadata, info

    def reset(self, *, seed=None, options=None):
        self.seeded = seed
        return np.zeros((2, 2), np.float32), {}

    def step(self, actions):
        flags = np.ones(2, bool), np.zeros(2, bool)
        return np.zeros((2, 2), np.float32), np.ones(2), *flags, self.info


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, "SameStep", "SAME_STEP", "same_step"])
@pytest.mark.parametrize("key", ["final_obs", "final_observation"])
def test_native_vectors_may_spell_the_mode_as_text_and_give_whole_batches(mode, key):
    final = np.full((2, 2), 7.0, np.float32)
    envs = HostEnvs(Declared({"autoreset_mode": mode}, {key: final}), "native")
    envs.reset([5, 6])
    assert not envs.seam_rows
    np.testing.assert_array_equal(envs.step(np.zeros(2, int)).final_obs, final)


def test_a_mode_that_is_not_declared_is_next_step_but_not_against_the_evidence():
    envs = HostEnvs(Declared({}, {}), "silent")
    envs.reset([0, 1])
    assert envs.seam_rows and envs.step(np.zeros(2, int)).final_obs is None
    envs = HostEnvs(Declared({}, {"final_obs": np.zeros((2, 2))}), "silent")
    envs.reset([0, 1])
    with pytest.raises(EnvironmentFault, match=r"set its metadata\['autoreset_mode'\]"):
        envs.step(np.zeros(2, int))


def test_an_unknown_mode_and_a_broken_promise_are_named():
    with pytest.raises(UserError, match="declares the autoreset mode 'sometimes'"):
        HostEnvs(Declared({"autoreset_mode": "sometimes"}, {}), "odd")
    envs = HostEnvs(Declared({"autoreset_mode": "SameStep"}, {}), "odd")
    envs.reset([0, 1])
    with pytest.raises(EnvironmentFault, match=r"promises info\['final_obs'\]"):
        envs.step(np.zeros(2, int))


def test_seeds_go_one_to_each_environment_or_the_first_to_a_native_vector():
    vector = SyncVectorEnv([Walk] * 2)
    first = HostEnvs(vector, "walk").reset([7, 7])
    assert first[0].tolist() == first[1].tolist()
    native = Declared({}, {})
    HostEnvs(native, "native").reset([5, 6])
    assert native.seeded == 5
    with pytest.raises(UserError, match="3 seeds for 2 environments"):
        HostEnvs(vector, "walk").reset([1, 2, 3])
