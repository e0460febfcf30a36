"""What training needs of an info arrives, whoever made the vector: success, cost and the legal actions."""

import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from info_probes import Breaks, Parts, Saves, Tells

from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import EnvironmentFault, UserError

OURS = ("sync", "parallel", "async")
PASSED = {
    "next step": partial(SyncVectorEnv, autoreset_mode=AutoresetMode.NEXT_STEP),
    "same step": partial(SyncVectorEnv, autoreset_mode=AutoresetMode.SAME_STEP),
    "disabled": partial(SyncVectorEnv, autoreset_mode=AutoresetMode.DISABLED),
    "processes": partial(AsyncVectorEnv, context="spawn"),
}
SEEDS, STILL = [4, 7], np.zeros(2, int)  # the second one succeeds
ONLY, ALL = np.eye(3, dtype=bool).tolist(), [True] * 3  # ONLY[c] allows c alone


def vector(mode, make):
    """Two environments. In mode "parallel" 0 is stepped here and 1 in a worker, whatever the cores."""
    if mode in PASSED:
        return HostEnvs(PASSED[mode]([make] * 2), "Probe")
    if mode == "parallel":
        return HostEnvs(ParallelVectorEnv(make, make(), 2, 1), "Probe")
    return make_envs(make, 2, vectorization_mode=mode)


@pytest.mark.parametrize("how", ["info", "method", "part", ""])
@pytest.mark.parametrize("mode", [*OURS, *PASSED])
def test_it_arrives(mode, how):
    """Episodes of three steps: costs of 0.5, 1 and 1.5, and a success or none at the end."""
    found, seam = [[], []], np.zeros(2, bool)
    with vector(mode, partial(Tells, how)) as envs:
        envs.reset(SEEDS)
        for _ in range(9):
            before = np.array(envs.legal)
            step = envs.step(STILL)
            assert step.legal is envs.legal
            for i in np.flatnonzero(~seam):
                found[i].append((step.success[i], step.cost[i], before[i].tolist() if how else before.item()))
            seam = (step.terminated | step.truncated) & envs.seam_rows
    for rows, success in zip(found, [0, 1], strict=True):
        assert len(rows) >= 7
        for number, (one, cost, legal) in enumerate(rows):
            clock = number % 3
            np.testing.assert_equal(one, success if clock == 2 else math.nan)
            assert cost == (clock + 1) / 2
            assert legal == (ONLY[clock] if how else None)


@pytest.mark.parametrize("mode", OURS)
def test_a_seam_tells_nothing_but_what_is_legal_next(mode):
    with vector(mode, Tells) as envs:
        envs.reset(SEEDS)
        ended = [envs.step(STILL) for _ in range(3)][-1]
        assert ended.terminated.all() and ended.legal.all()  # the next action is ignored, whatever it is
        seam = envs.step(STILL)
        assert np.isnan(seam.success).all() and np.isnan(seam.cost).all()
        assert seam.legal.tolist() == [ONLY[0], ONLY[0]]


@pytest.mark.parametrize("mode", [*OURS, "next step"])
def test_a_step_that_tells_nothing_has_not_what_the_one_before_told(mode):
    with vector(mode, partial(Tells, says={"cost": None})) as envs:
        envs.reset(SEEDS)
        costs = [envs.step(STILL).cost.tolist() for _ in range(3)]
    np.testing.assert_equal(costs, [[0.5] * 2, [math.nan] * 2, [1.5] * 2])


def sometimes():
    """A function that makes environments of which every second one tells a mask."""
    made = iter(["", "info", "", "info"])
    return lambda: Tells(next(made))


def test_who_tells_no_mask_beside_one_that_does_may_do_everything():
    ours, passed = sometimes(), SyncVectorEnv([partial(Tells, ""), Tells])
    for made in (ParallelVectorEnv(ours, ours(), 2, 0), passed):
        with HostEnvs(made, "Probe") as envs:
            envs.reset(SEEDS)
            assert envs.legal.tolist() == [ALL, ONLY[0]]
            assert envs.step(STILL).legal.tolist() == [ALL, ONLY[1]]


@pytest.mark.parametrize(
    ("space", "mask", "expected"),
    [
        (spaces.MultiDiscrete([2, 3]), [0, 1, 1, 0, 1], [0, 1, 1, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), (np.array([0, 1]), np.array([True, False, True])), [0, 1, 1, 0, 1]),
        (spaces.MultiDiscrete([[2], [3]]), np.array([0, 1, 1, 0, 1], bool), [0, 1, 1, 0, 1]),
        (spaces.MultiBinary(2), np.array([1, 0, 1, 1], np.int8), [1, 0, 1, 1]),  # the first must stay off
        (spaces.Discrete(2, start=5), np.array([0.0, 1.0]), [0, 1]),  # action 6 alone
    ],
)
def test_the_parts_of_an_action_stand_side_by_side(space, mask, expected):
    with make_envs(partial(Parts, space, mask), 2) as envs:
        envs.reset(SEEDS)
        assert envs.legal.astype(int).tolist() == [expected] * 2


def test_real_numbers_have_no_mask():
    with make_envs(partial(Parts, spaces.Box(-1, 1, (2,)), "whatever it is"), 2) as envs:
        envs.reset(SEEDS)
        assert envs.legal is None


WRONG = {
    "a word": ({"is_success": "yes"}, r"the 'is_success' in its info is the str 'yes', which is not one fin"),
    "NaN": ({"is_success": math.nan}, r"the 'is_success' in its info is the float nan"),
    "two costs": ({"cost": np.zeros(2)}, r"the 'cost' in its info is an array of float64 \(2,\), which is"),
    "an endless cost": ({"cost": math.inf}, r"the 'cost' in its info is the float inf"),
    "another length": (
        {"action_mask": np.ones(2)},
        r"is an array of float64 \(2,\), its .* has 3 values",
    ),
    "words": ({"action_mask": ["a", "b", "c"]}, r"is the list .*return an int8 array of shape \(3,\)"),
    "a probability": ({"action_mask": np.full(3, 0.5)}, r"its action mask has values other than 0 and 1"),
    "nothing to do": ({"action_mask": np.zeros(3, np.int8)}, r"its action mask allows no action; allow"),
    "no mask": ({"action_mask": None}, r"its info has no 'action_mask', which it had at the reset"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("mode", OURS)
def test_what_cannot_be_is_refused(mode, kind):
    says, message = WRONG[kind]
    with vector(mode, partial(Tells, says=says)) as envs:
        envs.reset(SEEDS)
        envs.step(STILL)
        with pytest.raises(EnvironmentFault, match=message) as raised:
            envs.step(STILL)
    text = str(raised.value)
    assert text.startswith("environment ") and " step 2, after the action 0: " in text and "\n" not in text


@pytest.mark.parametrize("kind", ["an endless cost", "nothing to do", "a probability", "NaN"])
def test_so_it_is_in_a_vector_that_was_passed(kind):
    says, message = WRONG[kind]
    with vector("same step", partial(Tells, says=says)) as envs:
        envs.reset(SEEDS)
        envs.step(STILL)
        with pytest.raises(EnvironmentFault, match=message.split("float")[0]):
            envs.step(STILL)


def test_nothing_to_do_for_one_part_is_refused_too():
    mask = np.array([1, 1, 0, 0, 0])
    with (
        make_envs(partial(Parts, spaces.MultiDiscrete([2, 3]), mask), 1) as envs,
        pytest.raises(
            EnvironmentFault, match=r"at its reset: .* allows no action for one part of the action"
        ),
    ):
        envs.reset([0])


class Native(gym.vector.VectorEnv):
    """Tells for all of its environments at once, as EnvPool does."""

    num_envs, metadata = 2, {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_observation_space, single_action_space = Walk.observation_space, spaces.Discrete(3)
    observation_space, action_space = spaces.Box(-10, 10, (2, 2)), spaces.MultiDiscrete([3, 3])

    def __init__(self, **info):
        self.info = info

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 2), np.float32), {"action_mask": np.eye(3)[:2]}

    def step(self, actions):
        flags = np.zeros(2, bool), np.zeros(2, bool)
        info = {"action_mask": np.eye(3)[1:], **self.info}
        return np.zeros((2, 2), np.float32), np.ones(2), *flags, info


def test_a_vector_of_its_own_kind_tells_whole_arrays():
    envs = HostEnvs(Native(cost=np.array([2, 3]), is_success=np.array([np.nan, 1.0])), "native")
    envs.reset(SEEDS)
    assert envs.legal.tolist() == ONLY[:2]
    step = envs.step(STILL)
    assert step.legal.tolist() == ONLY[1:] and step.cost.tolist() == [2, 3]
    np.testing.assert_array_equal(step.success, [np.nan, 1])  # without `_is_success` NaN is its word for none
    envs = HostEnvs(Native(cost=3.0), "native")
    envs.reset(SEEDS)
    with pytest.raises(EnvironmentFault, match=r"the 'cost' in its infos is the float 3.0; return an array"):
        envs.step(STILL)


@pytest.mark.filterwarnings("ignore::proximo.errors.EnvironmentRestarted")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_episode_that_was_cut_tells_nothing(num_workers):
    """Environment 1 raises in its third step: its row has no cost, and everything is legal after it."""
    with HostEnvs(ParallelVectorEnv(Breaks, Breaks(), 2, num_workers, max_restarts=1), "Probe") as envs:
        envs.reset(SEEDS)
        step = [envs.step(STILL) for _ in range(3)][-1]
        assert step.truncated.tolist() == [False, True] and step.legal.all()
        np.testing.assert_array_equal(step.cost, [1.5, np.nan])
        np.testing.assert_array_equal(step.success, [0, np.nan])
        assert envs.step(STILL).legal.tolist() == [ONLY[0], ONLY[0]]


@pytest.mark.parametrize("mode", ["sync", "parallel", "next step"])
def test_what_is_legal_is_a_part_of_the_state(mode):
    with vector(mode, Saves) as envs, vector(mode, Saves) as other, vector(mode, partial(Saves, "")) as bare:
        envs.reset(SEEDS)
        envs.step(STILL)
        other.reset([0, 1])
        other.restore(envs.state())
        assert other.legal.tolist() == envs.legal.tolist() == [ONLY[1], ONLY[1]]
        mine, theirs = envs.step(STILL), other.step(STILL)
        assert mine.legal.tolist() == theirs.legal.tolist() == [ONLY[2], ONLY[2]]
        bare.reset([0, 1])
        with pytest.raises(UserError, match="does not fit the environments: it has the parts"):
            bare.restore(envs.state())
