"""`check` finds each defect by itself, and has no quarrel with sound environments."""

import re
import sys
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_probes import DictWalk, FailsAt, Walk
from gymnasium import spaces
from gymnasium.utils.env_checker import check_seed_deprecation
from gymnasium.utils.passive_env_checker import check_action_space
from info_probes import Tells
from mask_probes import Bandit, Closes, Game, Wrong

from proximo.envs.check import check
from proximo.envs.vector.parallel import spare_workers
from proximo.errors import UserError


def findings(env, level, steps=100):
    """What `check` said at one level: name -> all of its messages."""
    found = {}
    for finding in check(env, steps=steps):
        if finding.level == level:
            found.setdefault(finding.name, []).append(finding.message)
    return {name: " / ".join(messages) for name, messages in found.items()}


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", Walk, DictWalk])
def test_sound_environments_have_no_errors(env):
    assert findings(env, "error", steps=300) == {}


def test_a_report_says_what_was_looked_at():
    ok = findings("CartPole-v1", "ok", steps=300)
    assert {"values", "ends", "determinism", "seeds", "speed", "autoreset"} <= set(ok)
    assert "us (median)" in ok["speed"] and "99th percentile" in ok["speed"]


class OldStep(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class BareReset(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class NoSeed(Walk):
    def reset(self):
        return super().reset()


class Outside(Walk):
    observation_space = spaces.Box(-0.5, 0.5, (2,), np.float32)


class WrongDtype(Walk):
    def _observation(self):
        return super()._observation().astype(np.float64)


class NaNReward(Walk):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float("nan"), *rest


class InfiniteObservation(Walk):
    def _observation(self):
        return np.array([np.inf if self.clock == 3 else 0, self.clock], np.float32)


class ArrayReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward]), *rest


class WrongPart(DictWalk):
    def _observation(self):
        return {name: self.part(name, value) for name, value in super()._observation().items()}

    def part(self, name, value):
        return value.astype(np.float64) if isinstance(value, np.ndarray) else value


class FarPart(WrongPart):
    def part(self, name, value):
        return value + 1000 if isinstance(value, np.ndarray) else value


class BoolReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward > 0, *rest


class NumberFlag(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, int(terminated), truncated, info


class TextFlag(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, str(truncated), info


class TooLarge(Walk):
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def _observation(self):
        return np.array([1e39 if self.clock == 3 else 0, self.clock])


class NeedsSeed(Walk):
    def reset(self, seed, options=None):
        return super().reset(seed=seed)


class SmallSeed(Walk):
    def reset(self, *, seed=None, options=None):
        np.int16(seed or 0)
        return super().reset(seed=seed)


class OneWorld(Walk):
    """All copies move one body."""

    world = {"position": 0.0, "clock": 0}  # noqa: RUF012
    position = property(
        lambda self: OneWorld.world["position"],
        lambda self, value: OneWorld.world.__setitem__("position", value),
    )


class OneGenerator(Walk):
    """All copies draw from one generator, which a seed of any of them sets."""

    generator = np.random.RandomState(0)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            OneGenerator.generator.seed(seed)
        return super().reset(seed=seed)

    def _observation(self):
        return np.array([self.generator.rand(), self.clock], np.float32)


class Leaves(Walk):
    def step(self, action):
        if self.clock == 3:
            sys.exit()
        return super().step(action)


class NowAndThen(Walk):
    """Begins elsewhere at every second reset, once it was reset a few times."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed)
        self.resets += seed == 0
        self.position += self.resets >= 3 and self.resets % 2
        return self._observation(), info


class Nothing(Walk):
    observation_space = spaces.Box(-1, 1, (0,), np.float32)


class TooMany(Walk):
    observation_space = spaces.Discrete(5_000_000)


ONE = Walk()


class OneBuffer(Walk):
    buffer = np.zeros(2, np.float32)

    def _observation(self):
        self.buffer[:] = self.position, self.clock
        return self.buffer


class OwnRandomness(Walk):
    generator = np.random.default_rng()

    def step(self, action):
        self.position += 0.1 * self.generator.normal()
        return super().step(action)


class ForgetsToReset(Walk):
    drift = 0.0

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        ForgetsToReset.drift += 0.01
        return obs + np.float32(self.drift), info


class TextAction(Walk):
    action_space = spaces.Text(3)


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        (OldStep, "reset and step", "return .observation, reward, terminated, truncated, info"),
        (BareReset, "reset and step", "return .observation, info"),
        (NoSeed, "reset and step", "def reset.self, ., seed=None, options=None"),
        (Outside, "observation space", "outside -0.5 to 0.5"),
        (FarPart, "observation space", r"outside its space: in its part \['\w+'\], entry \[0\] is 1000"),
        (NaNReward, "finite", "the reward nan"),
        (InfiniteObservation, "finite", "step 3 .* returned inf in the observation"),
        (TextFlag, "truncated", "str 'False' as truncated, which is not a bool; return True or False"),
        (TooLarge, "finite", r"step 3 .* returned 1e\+39 in the observation, which is too large for float32"),
        (
            NeedsSeed,
            "reset and step",
            r"NeedsSeed cannot be called as reset\(\): declare def reset\(self, \*",
        ),
        (SmallSeed, "seeds", r"reset\(seed=2147482648\) failed: OverflowError: .* such as seed % 2\*\*16"),
        (OneWorld, "copies", "affect each other: from call 1 on"),
        (OneGenerator, "copies", "affect each other: from call 1 on"),
        (NowAndThen, "determinism", "with the same seed and actions sometimes differ"),
        (lambda: ONE, "copies", "the same object each time it is called: return a new environment"),
        (Leaves, "run", r"step 4 .* failed: it asked the program to end \(SystemExit\)"),
        (Nothing, "spaces", "has no entries, so a policy would see nothing"),
        (TooMany, "spaces", "5,000,000 values needs as many one-hot entries, and at most 32,768 are"),
        (OneBuffer, "buffers", "return a new array each time"),
        (OwnRandomness, "determinism", "self.np_random"),
        (ForgetsToReset, "determinism", "reset the whole state"),
        (TextAction, "spaces", "not supported"),
        (lambda: FailsAt(at=3, unlucky=0), "run", "step 3 .* failed: ZeroDivisionError: a bad day"),
    ],
)
def test_a_defect_is_an_error_with_its_remedy(env, name, says):
    found = findings(env, "error")
    assert name in found, found
    assert one_plain_line(found[name]) and re.search(says, found[name]), found[name]


def one_plain_line(message):
    """One line, without the colours of a terminal."""
    return "\n" not in message and "\x1b" not in message


class AnyWords(Walk):
    def reset(self, *words, **more):
        return super().reset(seed=more.get("seed"))


class Scalars(Walk):
    """Its rewards and flags are arrays of one number, or NumPy's scalars."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.float32(reward), np.array(terminated), np.bool_(truncated), info


class IntegerReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.array(int(reward)), *rest


@pytest.mark.parametrize("env", [AnyWords, Scalars, IntegerReward])
def test_what_training_takes_is_no_error(env):
    assert findings(env, "error") == {}


class OneValue(Walk):
    """An entry of its observations has one value."""

    observation_space = spaces.Box(np.float32([-9, 1]), np.float32([9, 1]))

    def _observation(self):
        return np.array([self.position, 1], np.float32)


class Crossed(Walk):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(-9, 9, (2,), np.float32)
        self.observation_space.low[0] = 10


def test_bounds_of_observations_are_judged_once():
    assert findings(OneValue, "warning") == {}
    assert findings(Crossed, "error") == {
        "spaces": "observation: a low bound is above its high bound; swap them"
    }
    assert findings(Crossed, "warning") == {}


class OldSeed(Walk):
    """What Gymnasium warns of, and training takes."""

    action_space = spaces.Box(np.float32([-1, 1]), np.float32([1, 1]))

    def seed(self, seed=None):
        pass

    def step(self, action):
        return super().step(action[0] > 0)


def test_what_gymnasium_warns_of_is_told_in_its_own_words():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_seed_deprecation(OldSeed())
        check_action_space(OldSeed.action_space)
    found = findings(OldSeed, "warning")
    for said, name in zip(caught, ("reset and step", "spaces"), strict=True):
        assert found[name] in str(said.message)
        assert one_plain_line(found[name])


class Arrays(Walk):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward]), np.array([terminated]), np.array([truncated, truncated]), info


def test_an_environment_is_not_blamed_for_what_the_check_makes_of_its_arrays():
    found = findings(Arrays, "error")
    assert set(found) == {"truncated"}
    assert "array of bool (2,) as truncated, which is not a bool" in found["truncated"]


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        (ArrayReward, "reward", "step 1 .* float64 (1,) as its reward, taken for 0.54371; return a float"),
        (BoolReward, "reward", "step 1 .* the bool True as its reward, taken for 1; return a float"),
        (
            NumberFlag,
            "terminated",
            "step 1 .* the int 0 as terminated, taken for False; return True or False",
        ),
        (
            WrongPart,
            "observation space",
            "in its part ['position'], its dtype is float64, the space has float",
        ),
        (WrongDtype, "observation space", "its dtype is float64, the space has float32 (use .astype(np.floa"),
    ],
)
def test_what_training_takes_but_others_may_not_is_told_and_not_refused(env, name, says):
    assert findings(env, "error") == {}
    before, _, after = says.partition(" .* ")
    message = findings(env, "warning")[name]
    assert before in message and after in message and one_plain_line(message)


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ("info", "its info has an 'action_mask'"),
        ("method", "it has a method action_masks()"),
        ("part", "its observation has a part 'action_mask'"),
    ],
)
def test_action_masks_are_told_and_checked_in_every_step(how, where):
    message = findings(lambda: gym.wrappers.TimeLimit(Tells(how), 9), "ok")["action mask"]
    assert message == f"3 flags ({where}); illegal actions are never taken"
    assert "action mask" not in findings(lambda: Tells(""), "ok")
    wrong = findings(partial(Tells, says={"action_mask": np.ones(2)}), "error")["action mask"]
    assert wrong.startswith("step 2 ") and "its action space has 3 values" in wrong and one_plain_line(wrong)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (partial(Wrong, np.zeros(5)), "its action mask allows no action; allow one, or end the episode"),
        (partial(Wrong, np.array([1, 0, 2, 0, 0])), "its action mask has values other than 0 and 1"),
        (partial(Wrong, np.ones(5), "info+method"), ""),
    ],
    ids=["nothing", "values", "twice the same"],
)
def test_what_is_wrong_with_an_action_mask_later_on_is_found_before_a_training(env, says):
    found = findings(env, "error").get("action mask", "")
    assert says in found and found.startswith("step 2 " if says else "")


def test_two_places_that_tell_other_actions_are_found():
    class Two(Bandit):
        def action_masks(self):
            return np.array([1, 0, 0, 0, 0])

    found = findings(Two, "error")["action mask"]
    assert "they differ in flag 2; tell which actions are legal in one place" in found


@pytest.mark.parametrize("env", [Bandit, Closes, Game], ids=lambda env: env.__name__)
def test_a_check_takes_legal_actions_alone(env):
    """They raise at others: also of another seed, of a second copy beside the first, in a vector."""
    assert findings(env, "error") == {}


def test_a_seed_that_changes_nothing_is_found_in_spite_of_masks():
    class Same(Game):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed if seed is None else 0)

    assert "seeds" in findings(Same, "warning") and "seeds" not in findings(Game, "warning")


def test_spaces_that_have_no_codec_are_named_with_their_keys():
    class Lists(Bandit):
        def __init__(self):
            super().__init__()
            items = spaces.Sequence(spaces.Discrete(2))
            self.observation_space = spaces.Dict(me=spaces.Dict(items=items))

    found = findings(Lists, "error")["spaces"]
    assert "the part 'me/items' of the observation space, Sequence" in found and "a fixed size" in found


def test_a_part_that_changes_its_shape_is_named_with_its_keys():
    class Grows(Bandit):
        def __init__(self):
            super().__init__("part")
            self.pulls = 0

        def told(self):
            obs, info = super().told()
            return {**obs, "one": np.ones(1 + (self.pulls > 1), np.float32)}, info

        def step(self, action):
            self.pulls += 1
            return super().step(action)

    found = findings(Grows, "error")["observation space"]
    assert found.startswith("step ") and "in its part ['one'], its shape is (2,)" in found


def test_an_action_mask_that_comes_with_steps_alone_is_an_error():
    class Late(Tells):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed, options=options)[0], {}

    message = findings(Late, "error")["action mask"]
    assert message.endswith("an 'action_mask' in step(), and none in reset(); return one in both")


class Talks(Walk):
    """Texts and actions in parts."""

    observation_space = spaces.Dict(step=spaces.Box(0, 99, (1,)), word=spaces.Text(4))
    action_space = spaces.Dict(go=spaces.Discrete(3), push=spaces.Box(0, 9, (2,)))

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.time = 0
        return self.told(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        return self.told(), float(action["go"]), self.time == 9, False, {}

    def told(self):
        word = "".join(self.np_random.choice(["x", "y"], 3))
        return {"step": np.full(1, self.time, np.float32), "word": word}


def test_texts_and_actions_in_parts_pass_a_check():
    assert findings(Talks, "error") == {}


class Foreign(Talks):
    def told(self):
        return {**super().told(), "word": "x-y" if self.time == 3 else "x"}


def test_a_character_outside_of_the_charset_is_named_by_a_check():
    problems = " / ".join(findings(Foreign, "error").values())
    assert "the character '-' in its observation['word']" in problems or "'x-y' is not in Text" in problems


class SameForEverySeed(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=123)


class NoEnd(Walk):
    observation_space = spaces.Box(-1000, 1000, (2,), np.float32)

    def __init__(self):
        super().__init__(limit=10**9)

    def step(self, action):
        self.position *= 0.5
        return super().step(action)


class Blind(Walk):
    def _observation(self):
        return np.zeros(2, np.float32)


class Huge(Walk):
    observation_space = spaces.Box(-1e7, 1e7, (2,), np.float32)

    def _observation(self):
        return 1e6 * super()._observation()


class HugeReward(Walk):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 1e5 * reward, *rest


class NoReward(Walk):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


class FloatImage(Walk):
    observation_space = spaces.Box(-9, 9, (3, 8, 8), np.float32)

    def _observation(self):
        return np.full((3, 8, 8), self.clock, np.float32)


class SlowReset(Walk):
    def reset(self, *, seed=None, options=None):
        np.random.default_rng(0).random(1_000_000)
        return super().reset(seed=seed)


class WideAction(Walk):
    action_space = spaces.Box(-500, 300, (1,), np.float32)

    def step(self, action):
        return super().step(action[0] > 0)


class FarAction(WideAction):
    action_space = spaces.Box(np.float32([-1, 100]), np.float32([1, 200]))


class NarrowAction(WideAction):
    action_space = spaces.Box(0, 1e-3, (1,), np.float32)


class ByteAction(WideAction):
    action_space = spaces.Box(0, 255, (1,), np.uint8)


class HalfBoundedAction(WideAction):
    action_space = spaces.Box(np.float32([-1, 0]), np.float32([1, np.inf]))


class RoundedClock(Walk):
    """Seconds since 1970 in float32, which holds them in steps of 128."""

    observation_space = spaces.Box(0, 2e9, (2,), np.float32)

    def _observation(self):
        return np.array([1.7e9 + self.clock, self.position + 10], np.float32)


class SuddenlyFar(Walk):
    observation_space = spaces.Box(-20, 2e9, (2,), np.float64)

    def _observation(self):
        return np.array([1.7e9 + self.clock if self.clock else 0, self.position])


class Busy(Walk):
    """There can be one."""

    made = 0

    def __init__(self):
        super().__init__()
        if Busy.made:
            raise OSError("port 5005 is in use")
        Busy.made += 1

    def close(self):
        Busy.made -= 1


class Taken(Walk):
    """Only the one that was reset first can be reset."""

    owner = None

    def reset(self, *, seed=None, options=None):
        if Taken.owner not in (None, self):
            raise OSError("the arm is taken")
        Taken.owner = self
        return super().reset(seed=seed)

    def close(self):
        Taken.owner = None if Taken.owner is self else Taken.owner


class ClosesBadly(Walk):
    def close(self):
        raise RuntimeError("the window is gone")


class ClosesAll(Walk):
    connected = False

    def __init__(self):
        super().__init__()
        ClosesAll.connected = True

    def close(self):
        ClosesAll.connected = False

    def step(self, action):
        if not self.connected:
            raise RuntimeError("not connected")
        return super().step(action)


class NoState(Walk):
    def get_state(self, agent):
        return {}

    def set_state(self, state):
        pass


class ObjectState(NoState):
    def get_state(self):
        return {"position": self.position, "clock": {self.clock}}


class HalfState(NoState):
    def get_state(self):
        return {"clock": self.clock}

    def set_state(self, state):
        self.clock = state["clock"]


def twice_normalised():
    return gym.wrappers.NormalizeReward(gym.wrappers.NormalizeObservation(Walk()))


class NoModes(Walk):
    metadata = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        (SameForEverySeed, "seeds", "two seeds give the same stream"),
        (NoEnd, "ends", "gymnasium.wrappers.TimeLimit"),
        (Blind, "observations", "never changes"),
        (Huge, "observations", "normalisation"),
        (HugeReward, "reward", "reward scaling"),
        (NoReward, "reward", "every reward was 0"),
        (FloatImage, "spaces", "looks like a picture's, but float32 from -9 to 9 is read as 192 numbers"),
        (SlowReset, "speed", "a reset takes"),
        (
            HalfBoundedAction,
            "actions",
            "entry 1 of the action goes from 0 to inf: without two finite bounds it cannot be scaled",
        ),
        (
            RoundedClock,
            "observations",
            "near 1.7e+09, where float32 numbers are 128 apart and smaller changes are lost",
        ),
        (SuddenlyFar, "observations", "subtract an offset in the environment (training subtracts the first"),
        (
            Busy,
            "copies",
            "cannot exist beside the first one: Busy could not be made: OSError: port 5005 is in",
        ),
        (Taken, "copies", "cannot exist beside the first one: reset() failed: OSError: the arm is taken"),
        (ClosesBadly, "close", "close() failed: RuntimeError: the window is gone"),
        (
            NoState,
            "state",
            "get_state() of NoState failed, so a resumed run starts new episodes: TypeE",
        ),
        (ObjectState, "state", "get_state() of ObjectState contains a set"),
        (HalfState, "state", "after set_state(get_state()) call 2 gives different results"),
        (
            twice_normalised,
            "wrappers",
            "NormalizeReward keeps running statistics that are not saved with the model",
        ),
        (NoModes, "rendering", "render_modes"),
    ],
)
def test_a_weakness_is_a_warning_with_its_remedy(env, name, says):
    assert findings(env, "error") == {}
    assert says in findings(env, "warning").get(name, "nothing"), findings(env, "warning")


@pytest.mark.parametrize("env", [WideAction, FarAction, NarrowAction, ByteAction])
def test_bounds_of_any_size_need_no_advice_since_actions_are_scaled(env):
    assert "actions" not in findings(env, "warning")


def test_a_copy_that_another_ones_end_breaks_is_told():
    assert (
        "closing one copy breaks another: RuntimeError: not connected"
        in findings(ClosesAll, "warning")["copies"]
    )


class Clock(RoundedClock):
    observation_space = spaces.Box(-20, 2e9, (2,), np.float64)

    def _observation(self):
        return np.array([1.7e9 + self.clock, self.position])


def test_an_offset_that_training_subtracts_is_no_weakness():
    assert findings(Clock, "warning") == {}
    assert "near 1.7e+09; training subtracts that" in findings(Clock, "ok")["observations"]


class WholeState(HalfState):
    def get_state(self):
        return {"clock": self.clock, "position": self.position}

    def set_state(self, state):
        self.clock, self.position = state["clock"], state["position"]


def test_a_state_that_can_be_put_back_is_told():
    assert findings(WholeState, "warning") == {}
    assert "continues with identical results" in findings(WholeState, "ok")["state"]


@pytest.fixture
def registered():
    """Register a class of env_probes under an id, which another process finds by its name."""
    names = []

    def register(name):
        gym.register(f"{name}Checked-v0", f"env_probes:{name}")
        names.append(f"{name}Checked-v0")
        return names[-1]

    yield register
    for name in names:
        del gym.registry[name]


@pytest.mark.skipif(not spare_workers(2), reason="there is no core for a process beside this one")
def test_it_is_stepped_in_a_process_of_its_own(registered):
    found = findings(registered("Walk"), "ok", steps=30)["worker process"]
    assert "the same results in another process" in found
    says = findings(registered("StaysHere"), "error", steps=30)["worker process"]
    assert "failed at its reset: RuntimeError: not in this process" in says and "sync" in says


class PaysForTheSeam(gym.vector.SyncVectorEnv):
    """A vector of its own that gives a reward for the step which only resets."""

    def __init__(self, num_envs, **_):
        super().__init__([Walk] * num_envs)

    def step(self, actions):
        seam = self._autoreset_envs.copy()
        obs, reward, *rest = super().step(actions)
        return obs, reward + seam, *rest


def test_the_vector_version_of_an_environment_is_looked_at_too():
    gym.register("Paying-v0", Walk, vector_entry_point=PaysForTheSeam)
    try:
        found = findings("Paying-v0", "error")
    finally:
        del gym.registry["Paying-v0"]
    assert list(found) == ["autoreset of its own vector"]
    assert "the step after an end gave reward 1.0" in found["autoreset of its own vector"]


def test_an_instance_is_compared_with_itself_and_stays_open():
    env = gym.make("CartPole-v1")
    assert findings(env, "error") == {}
    env.reset(seed=0)


def test_what_cannot_be_checked_says_so():
    with pytest.raises(UserError, match="no environment is called"):
        check("CartPoul-v1")
    with pytest.raises(UserError, match="single environment"):
        check(gym.vector.SyncVectorEnv([Walk]))
    with pytest.raises(UserError, match="steps is 0"):
        check(Walk, steps=0)
