"""Steps an environment and records what it returns: the material for the checks of its stream."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.spaces import EXACT, ObservationCodec
from proximo.envs.vector import returned
from proximo.envs.vector.masks import LATE, MASK, Masks
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.trees import children
from proximo.errors import EnvironmentFault, Misfit, reason

FAILURES = (Exception, SystemExit)  # what an environment may raise; the last is `sys.exit()`
FIRST = 50  # steps in which an observation is looked at again once the next one is there


@dataclass
class Recording:
    """A stream under random actions, in little: bytes to compare, extremes, times.

    codec      of its observations; seed, of its first reset
    offset     [size], what the encoded observations are relative to, as in training
    states     one per reset and per step: what was returned there, as bytes to compare (`digest`, `as_bytes`)
    problems   name -> message of what was wrong with a single value, the first of each kind
    loose      the same of what training takes, but other libraries may not
    source     where a reset told which actions are legal (`Masks.source`), and `code`, how; `legal`, the
               flags of the next action
    low, high  [size] extremes of the encoded observations
    changed    [size], how often an entry was another one than before; `lost`, how often float32 hid that
    """

    codec: ObservationCodec
    seed: int
    offset: Any = None
    actions: list[Any] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)
    source: str = ""
    code: int = 0
    legal: Any = None
    masks: Any = None
    low: Any = np.inf
    high: Any = -np.inf
    changed: Any = 0
    lost: Any = 0
    step_us: list[float] = field(default_factory=list)
    reset_us: list[float] = field(default_factory=list)
    ends: int = 0
    after_first_end: bytes | None = None
    crash: str | None = None

    def note(self, name: str, message: str) -> None:
        """A problem, unless there is one of that name."""
        self.problems.setdefault(name, message)

    def exact(self, obs: Any) -> np.ndarray:
        """An observation with all its digits, [size]."""
        out = np.empty((1, *self.codec.shape), EXACT if np.any(self.codec.wide) else self.codec.dtype)
        self.codec.encode(self.codec.batch_of_one(obs), out)
        return out[0]

    def encoded(self, exact: np.ndarray) -> np.ndarray:
        """The same as the networks get it."""
        return (exact - self.offset).astype(self.codec.dtype)

    def digest(self, obs: Any) -> bytes:
        """An observation, to be compared."""
        return digest(self.encoded(self.exact(obs)))


def record(
    env: gym.Env, codec: ObservationCodec, seed: int, actions: Iterable[Any] | int, offset: Any = None
) -> Recording:
    """Take these actions, or so many random ones. Where an action is illegal a random legal one is taken.

    What the environment raises is noted.

    offset  None for what training would choose
    """
    recording = Recording(codec, seed, offset)
    place = "reset()"
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is noted
        try:
            obs, exact = _reset(env, recording, seed)
            for number, action in enumerate(_taken(env, recording, actions), 1):
                place = f"step {number} with the action {action!r}"
                recording.actions.append(action)
                started = time.perf_counter()
                following, reward, terminated, truncated, info = env.step(action)
                recording.step_us.append((time.perf_counter() - started) * 1e6)
                if number <= FIRST and not np.array_equal(recording.exact(obs), exact, equal_nan=True):
                    recording.note(
                        "buffers",
                        f"step {number} changed the observation that was returned before it: return a new "
                        "array each time (self.state.copy()), otherwise stored experience is overwritten",
                    )
                obs, exact = following, _observe(env, recording, following, place, exact)
                _look_at_step(recording, reward, terminated, truncated, info, place)
                over = as_bool(terminated) or as_bool(truncated)
                _look_at_mask(env, recording, obs, info, place, over)
                recording.states[-1] += as_bytes(reward, terminated, truncated)
                if over:
                    recording.ends += 1
                    place = f"reset() after step {number}"
                    obs, exact = _reset(env, recording, None)
                    recording.after_first_end = recording.after_first_end or recording.states[-1]
        except EnvironmentFault as error:  # the codec's: it says what does not fit
            recording.crash = f"{place}: {error}"
        except FAILURES as error:
            recording.crash = f"{place} failed: {reason(error)}"
    return recording


def states(env: gym.Env, one: Recording, seed: int, actions: list[Any]) -> Iterator[bytes]:
    """The states of a `Recording` of these actions, one at a time. Raises what the environment raises."""
    obs, _ = env.reset(seed=seed)
    yield one.digest(obs)
    yield from continue_recording(env, one, actions)


def continue_recording(env: gym.Env, one: Recording, actions: list[Any]) -> Iterator[bytes]:
    """`states` without the first reset: from where the environment is."""
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        yield one.digest(obs) + as_bytes(reward, terminated, truncated)
        if as_bool(terminated) or as_bool(truncated):
            obs, _ = env.reset(seed=None)
            yield one.digest(obs)


def digest(encoded: np.ndarray) -> bytes:
    """An encoded observation, to be compared: a thousand images are too many to keep."""
    return hashlib.blake2b(encoded.tobytes(), digest_size=16).digest()


def as_bool(flag: Any) -> bool:
    """Whether a flag says that the episode has ended, whatever its kind."""
    try:
        return bool(np.any(np.asarray(flag)))
    except Exception:
        return True


def as_bytes(*values: Any) -> bytes:
    """Rewards and flags, to be compared. What is no number goes by what it is printed as."""
    try:
        return np.array([np.asarray(value, np.float64) for value in values]).tobytes()
    except Exception:
        return repr(values).encode()


def _reset(env: gym.Env, recording: Recording, seed: int | None) -> tuple[Any, np.ndarray]:
    started = time.perf_counter()
    obs, info = env.reset(seed=seed)
    recording.reset_us.append((time.perf_counter() - started) * 1e6)
    _look_at_mask(env, recording, obs, info, "reset()")
    return obs, _observe(env, recording, obs, "reset()", None)


def _look_at_mask(
    env: gym.Env, recording: Recording, obs: Any, info: Any, place: str, ended: Any = None
) -> None:
    """Which actions are legal next, looked at as in training; `ended` is None after a reset."""
    masks = recording.masks = recording.masks or Masks(env.action_space)
    try:
        if ended is None and not recording.actions:
            recording.source = masks.source(env, obs, info)
            recording.code = masks.code(recording.source, env, obs, info) if recording.source else 0
        if recording.code:
            over = ended is not None and as_bool(ended)
            recording.legal = masks.now(recording.source, recording.code, env, obs, info, over)
        elif masks.parts and isinstance(info, dict) and info.get(MASK) is not None:
            raise Misfit(LATE)
    except Misfit as misfit:
        recording.note("action mask", f"{place}: {misfit}")
        recording.legal = None


def _taken(env: gym.Env, recording: Recording, actions: Iterable[Any] | int) -> Iterator[Any]:
    """The actions to take: those that are given where they are legal, else, and of a number, random ones."""
    space, masks, code = env.action_space, recording.masks, recording.code
    for action in [None] * actions if isinstance(actions, int) else actions:
        legal = recording.legal
        if action is not None and (legal is None or masks.allow(space, legal, code, action)):
            yield action
        else:
            yield space.sample() if legal is None else masks.sample(space, legal, code)


def _observe(
    env: gym.Env, recording: Recording, obs: Any, place: str, before: np.ndarray | None
) -> np.ndarray:
    """The observation, `exact`; `before`, the one before it in the episode."""
    if not env.observation_space.contains(obs):
        for how, taken in _differences(env.observation_space, obs):
            what = f"{place} returned an observation outside its space: {how}"
            told = recording.loose if taken else recording.problems
            told.setdefault("observation space", f"{what}; correct observation_space or what is returned")
    if recording.offset is None:
        recording.offset = recording.codec.offset_from(recording.codec.batch_of_one(obs), 1)
    exact = recording.exact(obs)
    encoded = recording.encoded(exact)
    bad = ~np.isfinite(encoded)
    if bad.any():
        value = exact[np.argmax(bad)]
        why = ": find the division by zero, the overflow or the unstable simulation behind it"
        if np.isfinite(value):
            why = f", which is too large for float32 (at most {np.finfo(encoded.dtype).max:.2g}): scale it"
        recording.note("finite", f"{place} returned {value:g} in the observation{why}")
    recording.low = np.minimum(recording.low, encoded)
    recording.high = np.maximum(recording.high, encoded)
    if before is not None:
        changed = exact != before
        recording.changed = recording.changed + changed
        recording.lost = recording.lost + (changed & (encoded == recording.encoded(before)))
    recording.states.append(digest(encoded))
    return exact


def _look_at_step(
    recording: Recording, reward: Any, terminated: Any, truncated: Any, info: Any, place: str
) -> None:
    """Check reward and flags as in training."""
    try:
        number = returned.number(reward)
    except Misfit as misfit:
        recording.note("reward", f"{place}: {misfit}")
    else:
        if np.isfinite(number):
            recording.rewards.append(number)
        else:
            why = "find the division by zero or the logarithm of zero behind it"
            recording.note("finite", f"{place} returned the reward {reward}: {why}")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        try:
            returned.flag(flag, name)
        except Misfit as misfit:
            recording.note(name, f"{place}: {misfit}")
    if not isinstance(info, dict):
        kind = type(info).__name__
        recording.note("info", f"{place} returned a {kind} as info: return a dict; {{}} will do")
    if not {"reward", "terminated", "truncated"} & recording.problems.keys():
        for name, line in returned.loose(reward, terminated, truncated).items():
            recording.loose.setdefault(name, f"{place}: {line}")


def _differences(space: Any, obs: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """How an observation misses its space, part by part, and whether training takes it so."""
    inside = children(space)
    if inside is None:
        if not space.contains(obs):
            where = f"in its part {path}, " if path else ""
            yield where + _difference(space, obs), _wider(space, obs)
        return
    for key, part in inside.items():
        try:
            found = obs[key]
        except (KeyError, IndexError, TypeError):
            yield f"it has no part {path}[{key!r}], which the space declares", False
        else:
            yield from _differences(part, found, f"{path}[{key!r}]")
    if hasattr(obs, "__len__") and len(obs) > len(inside):
        where = f"its part {path}" if path else "it"
        yield f"{where} has parts that the space does not declare", isinstance(obs, dict)


def _wider(space: Any, obs: Any) -> bool:
    """Whether an observation of a Box has another dtype alone, which training converts: float64, mostly."""
    dtype = getattr(obs, "dtype", np.dtype(object))
    if not hasattr(space, "low") or space.dtype.kind != "f" or dtype.kind not in "biuf":
        return False
    with np.errstate(over="ignore"):
        return bool(space.contains(obs.astype(space.dtype)))


def _difference(space: Any, obs: Any) -> str:
    """How an observation misses its space."""
    shape, dtype = getattr(obs, "shape", None), getattr(obs, "dtype", None)
    if not hasattr(space, "low") or shape is None:
        return f"{type(obs).__name__} {one_line(obs, 60)} is not in {one_line(space)}"
    if shape != space.shape:
        return f"its shape is {shape}, the space has {space.shape}"
    if dtype is not None and not np.can_cast(dtype, space.dtype):
        return f"its dtype is {dtype}, the space has {space.dtype} (use .astype(np.{space.dtype}))"
    outside = np.argwhere(~((obs >= space.low) & (obs <= space.high)))
    where = tuple(outside[0].tolist()) if len(outside) else ()
    return f"entry {list(where)} is {obs[where]}, outside {space.low[where]} to {space.high[where]}"
