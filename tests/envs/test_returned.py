"""What environments keep, change and return, in every mode: they get copies, and a misfit is named."""

import re
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import Walk
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from wrong_returns import KINDS, RIGHT, SPACE, WRONG, Keeps, Returns, Spoils, sound

import proximo
from proximo.cli import main
from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import EnvironmentFault, UserError


def in_mode(mode, make, count=2):
    """With "parallel", environment 0 is stepped here and the others in a worker, whatever the cores."""
    if mode == "parallel":
        return HostEnvs(ParallelVectorEnv(make, make(), count, 1), "Probe")
    return make_envs(make, count, vectorization_mode=mode)


@pytest.fixture(scope="module", params=["sync", "parallel", "async"])
def returning(request):
    """Two environments that return what their seeds say; a vector in each mode for all the tests."""
    with in_mode(request.param, Returns) as envs:
        yield envs


STILL = np.zeros(2, int)


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_is_refused(returning, kind):
    """Environment 1 returns it, 0 is sound; one line names it and says what is wrong."""
    returning.reset([KINDS.index("as declared"), KINDS.index(kind)])
    with pytest.raises(EnvironmentFault, match=WRONG[kind][1]) as raised:
        returning.step(STILL)
    message = str(raised.value)
    assert re.match(r"environment 1 of \w+ failed at step 1, after the action 0: ", message)
    assert "\n" not in message and message.endswith("(run `proximo check` on it)")


@pytest.mark.parametrize("kind", RIGHT)
def test_what_loses_nothing_is_taken(returning, kind):
    returning.reset([KINDS.index(kind)] * 2)
    step = returning.step(STILL)
    for part in ("real", "byte", "small"):
        assert step.obs[part].dtype == SPACE[part].dtype
        np.testing.assert_array_equal(step.obs[part], np.stack([sound()[part]] * 2))
    for mine, theirs in zip(step.obs["pair"], sound()["pair"], strict=True):
        np.testing.assert_array_equal(mine, np.stack([theirs] * 2))
    assert step.reward.tolist() == [1, 1] and not (step.terminated | step.truncated).any()


@pytest.mark.parametrize("one", [1, 1.0, np.int64(1), np.bool_(True), np.array([1]), np.array([True])])
@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_a_flag_of_0_and_1_ends_an_episode_where_it_is_1(name, one):
    class Ends(Walk):
        def step(self, action):
            obs, *_ = super().step(action)
            over = one if self.clock == 2 else one * 0
            flags = (over, 0) if name == "terminated" else (0, over)
            return obs, self.clock == 2, *flags, {}  # and a reward of True

    with make_envs(Ends, 2) as envs:
        envs.reset([0, 1])
        for count in (0, 2):
            step = envs.step(STILL)._asdict()
            assert step[name].dtype == bool and step[name].sum() == step["reward"].sum() == count


@pytest.mark.parametrize("env", [Keeps, Spoils])
@pytest.mark.parametrize(
    ("mode", "space"),
    [
        ("sync", spaces.Box(-1, 1, (2,), np.float32)),
        ("sync", spaces.Box(-1, 1, (1, 2), np.float64)),
        ("sync", spaces.MultiBinary(2)),
        ("sync", spaces.MultiDiscrete([[2, 2]])),
        ("parallel", spaces.Box(-1, 1, (2,), np.float32)),
        ("async", spaces.MultiBinary(2)),
    ],
)
def test_an_action_is_the_environments_own(mode, space, env):
    """It pays |a - b| between two actions: from [1, 1] to [0, 0] 2, and back; a view would make it 0."""
    shape = (2, *space.shape)
    with in_mode(mode, partial(env, space)) as envs:
        first = np.array(envs.reset([0, 1]))
        found = [(envs.step(np.full(shape, action, space.dtype)).reward.tolist()) for action in (1, 0, 0, 1)]
        assert found == [[0, 0], [-2, -2], [0, 0], [-2, -2]]
        assert envs.vector.actions().sum() == 4  # the latest ones, untouched
        # What it returned was one array, which it went on to change; ours was a copy of each.
        np.testing.assert_array_equal(first, np.zeros((2, 2)))
        np.testing.assert_array_equal(envs.vector.observations(), np.full((2, 2), 4))


def test_gymnasiums_sticky_actions_stick():
    """The wrapper keeps the action before; a chance below 1 is all it takes, and this is the highest."""
    make, chance = partial(Keeps, spaces.Box(-1, 1, (2,), np.float32)), 1 - 2**-53
    with make_envs(lambda: gym.wrappers.StickyAction(make(), chance)) as envs:
        envs.reset([0])
        assert [envs.step(np.full((1, 2), action, np.float32)).reward[0] for action in (1, 0, 1)] == [0, 0, 0]


@pytest.mark.parametrize(
    "values", [(None, 1), (1, "text"), (np.zeros(2), np.zeros(3)), ({}, {"a": {"b": 1}})]
)
def test_infos_end_nothing(values):
    """Copies may tell things of different kinds, and one copy another thing in each step."""

    class Tells(Walk):
        def step(self, action):
            obs, reward, terminated, truncated, _ = super().step(action)
            return obs, reward, terminated, truncated, {"winner": values[self.np_random.integers(2)]}

    with make_envs(Tells, 3) as envs:
        envs.reset([0, 1, 2])
        for _ in range(20):
            envs.step(np.zeros(3, int))


def TimeLimited(env):
    """As registered environments are wrapped."""
    return gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(gym.wrappers.PassiveEnvChecker(env)), 9)


class Old(Walk):
    """As environments were written for the old gym interface."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def reset(self, **options):
        obs, info = super().reset(seed=options.get("seed"))
        bare = {"bare": obs, "bare and longer": np.zeros(3), "list": obs.tolist(), "tuple": tuple(obs)}
        return bare.get(self.what, (obs, info))

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return (obs, reward, terminated or truncated, info)


class TakesNoSeed(Walk):
    def reset(self):
        return super().reset()


def old(what):
    return TakesNoSeed() if what == "seed" else Old(what)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            "bare",
            r"at its reset: its reset returned an array of float32 \(2,\), without an info, as in the old",
        ),
        (
            "list",
            r"at its reset: its reset returned the list .*, as in the old gym interface; return \(obser",
        ),
        (
            "tuple",
            r"at its reset: its reset returned the tuple .*, as in the old gym interface; return \(obser",
        ),
        (
            "seed",
            r"at its reset: its reset takes no seed, as in the old gym .*; declare reset\(self, \*, seed",
        ),
        ("step", r"at step 1, .*: its step returned four values, as in the old gym interface"),
    ],
)
def test_the_old_interface_is_named(what, says):
    with make_envs(partial(old, what), 2) as envs, pytest.raises(EnvironmentFault, match=says) as raised:
        envs.reset([0, 1])
        envs.step(STILL)
    assert str(raised.value).endswith("(run `proximo check` on it)")


@pytest.mark.filterwarnings("ignore:.*WARN")  # of Gymnasium's own checker
@pytest.mark.parametrize("wrap", [TimeLimited, gym.wrappers.FlattenObservation])
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("bare", "at its reset: .*info"),
        ("bare and longer", "at its reset: .*info"),
        ("seed", "at its reset: .*takes no seed, as"),
        ("step", "four values, as"),
    ],
)
def test_so_it_is_inside_of_wrappers_that_stumble_over_it(wrap, what, says):
    with make_envs(lambda: wrap(old(what)), 2) as envs, pytest.raises(EnvironmentFault, match=says) as raised:
        envs.reset([0, 1])
        envs.step(STILL)
    assert "run `proximo check` on it" in str(raised.value)


def test_an_error_of_the_environments_own_is_not_taken_for_the_old_interface():
    class Unpacks(Walk):
        def step(self, action):
            self.first, self.second = "three", "too", "many"
            return super().step(action)

    with make_envs(Unpacks, 1) as envs, pytest.raises(EnvironmentFault) as raised:
        envs.reset([0])
        envs.step([0])
    assert "step 1, after the action 0: ValueError: too many values to unpack (expected 2" in str(
        raised.value
    )
    assert "old gym" not in str(raised.value)


def test_what_fails_at_once_may_be_checked_and_what_fails_later_may_not():
    class Breaks(Walk):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def step(self, action):
            answer = super().step(action)
            if self.clock == self.at:
                raise ZeroDivisionError("no denominator")
            return answer

    for at, ending in (
        (1, "(run `proximo check` on it; --debug shows its traceback)"),
        (2, "r (--debug shows"),
    ):
        with make_envs(partial(Breaks, at), 1) as envs, pytest.raises(EnvironmentFault) as raised:
            envs.reset([0])
            for _ in range(3):
                envs.step([0])
        assert ending in str(raised.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_copies_with_other_spaces_are_refused(num_workers):
    """Each has an action more than the one before; what suits one would be wrong for the next."""

    def make():
        made.append(Walk())
        made[-1].action_space = spaces.Discrete(1 + len(made))
        return made[-1]

    made = []
    with pytest.raises(
        Exception, match=r"its action space is Discrete\(\d\), that of the first copy is Disc"
    ):
        ParallelVectorEnv(make, make(), 2, num_workers).reset()


@pytest.mark.filterwarnings("ignore:.*WARN")
@pytest.mark.parametrize("kind", ["a fraction for a whole number", "an info for a flag", "four values"])
def test_the_command_ends_in_one_line(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gym.register("Wrong-v0", entry_point=partial(Fixed, kind))
    words = ["Wrong-v0", "--steps", "64", "--horizon", "16", "--num-envs", "2", "--minibatch-size", "32"]
    try:
        for mode in ("sync", "parallel"):
            assert main(["train", *words, "--vectorization-mode", mode, "--quiet"]) == 2
            lines = capsys.readouterr().err.strip().splitlines()
            assert len(lines) == 1 and re.search(WRONG[kind][1], lines[0]) and "proximo check" in lines[0]
    finally:
        del gym.registry["Wrong-v0"]


class Fixed(Returns):
    """Returns the same whatever the seed."""

    def __init__(self, kind):
        self.number = KINDS.index(kind)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=self.number)


# --- vectors that were passed ----------------------------------------------------------------------


class Vector(gym.vector.VectorEnv):
    """Four counters of the caller's own. They reset within the step that ends an episode, and say nothing."""

    num_envs = 4
    single_observation_space, single_action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)
    observation_space, action_space = spaces.Box(-1, 1, (4, 1), np.float32), spaces.MultiDiscrete([2] * 4)

    def __init__(self, pay=1.0, **answer):
        self.pay, self.answer, self.metadata = pay, answer, {}

    def observation(self):
        return (self.clock / 3).astype(np.float32)[:, None]

    def reset(self, *, seed=None, options=None):
        self.clock = np.zeros(4)
        return self.observation(), {}

    def step(self, actions):
        self.clock += 1
        terminated = self.clock >= 3
        self.clock[terminated] = 0
        answer = {
            "obs": self.observation(),
            "reward": np.full(4, self.pay),
            "terminated": terminated,
            "truncated": np.zeros(4, bool),
        }
        return *{**answer, **self.answer}.values(), {}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (dict(reward=1.0), r"the float 1.0 as reward; return an array of 4 numbers"),
        (
            dict(reward=np.zeros((4, 1))),
            r"an array of float64 \(4, 1\) as reward; return an array of 4 numbers",
        ),
        (dict(reward=["1.0"] * 4), r"as reward; return an array of 4 numbers"),
        (
            dict(terminated=np.array([0, 1, 2, 0])),
            r"an array of int64 \(4,\) as terminated, with other values than 0 and 1; return an array",
        ),
        (dict(truncated=np.full(4, np.nan)), r"as truncated, with other values than 0 and 1"),
        (dict(truncated=[{}] * 4), r"as truncated; return an array of 4 bools"),
        (dict(truncated=False), r"the bool False as truncated; return an array of 4 bools"),
        (dict(obs=np.zeros(4, np.float32)), r"of shape \(4,\), but its space declares \(4, 1\)"),
        (dict(obs=np.float32(0)), r"of shape \(\), but its space declares \(4, 1\)"),
        (dict(obs=[["0.5"]] * 4), r"as its observation, but its space declares float32 \(4, 1\)"),
    ],
)
def test_a_vector_that_was_passed_is_looked_at_as_a_whole(answer, says):
    envs = make_envs(Vector(**answer))
    envs.reset([0] * 4)
    with pytest.raises(EnvironmentFault, match=says):
        envs.step(np.zeros(4, int))


@pytest.mark.parametrize(
    ("final", "says"),
    [
        ([["0.5"]] * 4, r"as its observation, but its space declares float32"),
        (np.zeros(4, np.float32), r"of shape \(4,\), but its space declares \(4, 1\)"),
        (np.float32(0), r"of shape \(\), but its space declares \(4, 1\)"),
    ],
)
def test_so_are_last_observations_that_travel_beside_the_stream(final, says):
    class Says(Vector):
        def step(self, actions):
            return *super().step(actions)[:4], {"final_obs": final}

    vector = Says(terminated=np.ones(4, bool))
    vector.metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    envs = make_envs(vector)
    envs.reset([0] * 4)
    with pytest.raises(EnvironmentFault, match=says):
        envs.step(np.zeros(4, int))


def test_what_it_may_return():
    """Lists, other dtypes of the same kind: they become arrays of the declared form."""
    envs = make_envs(
        Vector(obs=[[0.5]] * 4, reward=[True] * 4, terminated=[0, 1, 0, 1], truncated=[False] * 4)
    )
    envs.reset([0] * 4)
    step = envs.step(np.zeros(4, int))
    assert step.terminated.tolist() == [False, True, False, True] and step.reward.dtype == float
    assert (step.obs.dtype, step.obs.tolist()) == (np.float32, [[0.5]] * 4)
    assert step.reward.tolist() == [1] * 4 and step.truncated.dtype == bool


@pytest.mark.parametrize(("pay", "evidence"), [(1.0, "a reward of 1"), (-0.5, "a reward of -0.5")])
def test_a_vector_that_resets_within_the_step_and_does_not_say_so(pay, evidence):
    """Episodes of three steps: the fourth would be taken for a seam, but it pays."""
    envs = make_envs(Vector(pay))
    envs.reset([0] * 4)
    for _ in range(3):
        envs.step(np.zeros(4, int))
    with pytest.raises(EnvironmentFault, match=rf"\(environment 0 gave {evidence} in the .*SAME_STEP"):
        envs.step(np.zeros(4, int))
    envs.reset([0] * 4)  # begins anew: no end before
    envs.step(np.zeros(4, int))


def test_an_end_right_after_an_end_is_evidence_too():
    envs = make_envs(Vector(0.0, terminated=np.ones(4, bool)))
    envs.reset([0] * 4)
    envs.step(np.zeros(4, int))
    with pytest.raises(EnvironmentFault, match="environment 0 gave another end in the step after an end"):
        envs.step(np.zeros(4, int))


def test_training_on_it_ends_before_anything_is_learned(tmp_path):
    with pytest.raises(UserError, match="resets within the step but does not declare it"):
        proximo.train(Vector(), steps=400, horizon=30, minibatch_size=60, out=tmp_path / "run")


def test_one_that_pays_in_a_seam_by_its_own_declaration_is_believed():
    """Such as Gymnasium's wrappers of rewards over a vector that declares NEXT_STEP."""
    vector = gym.wrappers.vector.TransformReward(SyncVectorEnv([Walk] * 2), lambda reward: reward + 1)
    envs = make_envs(vector)
    envs.reset([0, 1])
    for _ in range(10):
        envs.step(STILL)
