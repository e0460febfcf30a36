"""Stepping an environment while writing down what it returns: what checks of its stream are made on."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.spaces import EXACT, ObservationCodec, space_name
from proximo.errors import EnvironmentFault

FAILURES = (Exception, SystemExit)  # what an environment may raise; the last is `sys.exit()`


@dataclass
class Recording:
    """A stream under random actions, in little: bytes to compare, extremes, times.

    states     one per reset and per step: what was returned there, as bytes to compare (`digest`, `as_bytes`)
    problems   (name, message) of what was wrong with a single value, the first of each kind
    offset     [size], what the encoded observations are relative to, as in training
    low, high  [size] extremes of the encoded observations
    changed    [size], how often an entry was another one than before; `lost`, how often float32 hid that
    """

    actions: list[Any] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    offset: Any = None
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


class RecordedObservation:
    """An observation, with all its digits, `exact`, and as the networks get it, `encoded`; each [size].

    offset  what `encoded` is relative to; None for what training would choose where this is the first one
    """

    def __init__(self, codec: ObservationCodec, obs: Any, offset: np.ndarray | None) -> None:
        batch = codec.batch_of_one(obs)
        exact = np.empty((1, *codec.shape), EXACT if np.any(codec.wide) else codec.dtype)
        codec.encode(batch, exact)
        self.offset = codec.offset_from(batch, 1) if offset is None else offset
        self.exact = exact[0]
        self.encoded: np.ndarray = (self.exact - self.offset).astype(codec.dtype)


def record(
    env: gym.Env,
    codec: ObservationCodec,
    steps: int,
    seed: int,
    actions: list[Any] | None = None,
    offset: np.ndarray | None = None,
) -> Recording:
    """Run `steps` steps, with the given actions or random ones. What the environment raises is noted."""
    recording = Recording(offset=offset)
    env.action_space.seed(seed)
    place = "reset()"
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is noted
        try:
            obs, seen = _reset(env, codec, recording, seed)
            for number in range(1, steps + 1):
                action = env.action_space.sample() if actions is None else actions[number - 1]
                place = f"step {number} with the action {action!r}"
                recording.actions.append(action)
                started = time.perf_counter()
                following, reward, terminated, truncated, info = env.step(action)
                recording.step_us.append((time.perf_counter() - started) * 1e6)
                if number <= 50 and not _same(codec, obs, seen):
                    recording.note(
                        "buffers",
                        f"step {number} changed the observation that was returned before it: return a new "
                        "array each time (self.state.copy()), or stored experience is overwritten",
                    )
                obs, seen = following, _observe(env, codec, recording, following, place, seen)
                _look_at_step(recording, reward, terminated, truncated, info, place)
                recording.states[-1] += as_bytes(reward, terminated, truncated)
                if as_bool(terminated) or as_bool(truncated):
                    recording.ends += 1
                    place = f"reset() after step {number}"
                    obs, seen = _reset(env, codec, recording, None)
                    if recording.ends == 1:
                        recording.after_first_end = recording.states[-1]
        except EnvironmentFault as error:  # the codec's: it says what does not fit
            recording.crash = f"{place}: {error}"
        except FAILURES as error:
            recording.crash = f"{place} failed: {reason(error)}"
    return recording


def states(
    env: gym.Env, codec: ObservationCodec, seed: int, actions: list[Any], offset: np.ndarray
) -> Iterator[bytes]:
    """The states of a `Recording` of these actions, one at a time. Raises what the environment raises."""
    obs, _ = env.reset(seed=seed)
    yield digest(RecordedObservation(codec, obs, offset).encoded)
    yield from continue_recording(env, codec, actions, offset)


def continue_recording(
    env: gym.Env, codec: ObservationCodec, actions: list[Any], offset: np.ndarray
) -> Iterator[bytes]:
    """`states` without the first reset: from where the environment is."""
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        yield digest(RecordedObservation(codec, obs, offset).encoded) + as_bytes(
            reward, terminated, truncated
        )
        if as_bool(terminated) or as_bool(truncated):
            obs, _ = env.reset()
            yield digest(RecordedObservation(codec, obs, offset).encoded)


def reason(error: BaseException) -> str:
    """What an environment raised, on one line."""
    if isinstance(error, SystemExit):
        return "it asked the program to end (SystemExit)"
    return " ".join(f"{type(error).__name__}: {error}".split())


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


def _reset(
    env: gym.Env, codec: ObservationCodec, recording: Recording, seed: int | None
) -> tuple[Any, RecordedObservation]:
    started = time.perf_counter()
    obs, _ = env.reset(seed=seed) if seed is not None else env.reset()
    recording.reset_us.append((time.perf_counter() - started) * 1e6)
    return obs, _observe(env, codec, recording, obs, "reset()", None)


def _same(codec: ObservationCodec, obs: Any, seen: RecordedObservation) -> bool:
    """Whether an observation still is what it was."""
    return np.array_equal(RecordedObservation(codec, obs, seen.offset).exact, seen.exact, equal_nan=True)


def _observe(
    env: gym.Env,
    codec: ObservationCodec,
    recording: Recording,
    obs: Any,
    place: str,
    before: RecordedObservation | None,
) -> RecordedObservation:
    space = env.observation_space
    if not space.contains(obs):
        recording.note(
            "observation space",
            f"{place} returned an observation outside its space: "
            f"{_difference(space, obs)}; correct observation_space or what is returned",
        )
    seen = RecordedObservation(codec, obs, recording.offset)
    recording.offset = seen.offset
    bad = ~np.isfinite(seen.encoded)
    if bad.any():
        index = int(np.argmax(bad))
        value = seen.exact[index]
        why = "find the division by zero, the overflow or the unstable simulation behind it"
        if np.isfinite(value):
            why = f"which is too large for float32 (at most {np.finfo(codec.dtype).max:.2g}): scale it"
        recording.note("finite", f"{place} returned {value:g} in the observation{_colon(value)}{why}")
    recording.low = np.minimum(recording.low, seen.encoded)
    recording.high = np.maximum(recording.high, seen.encoded)
    if before is not None:
        changed = seen.exact != before.exact
        recording.changed = recording.changed + changed
        recording.lost = recording.lost + (changed & (seen.encoded == before.encoded))
    recording.states.append(digest(seen.encoded))
    return seen


def _colon(value: Any) -> str:
    return ", " if np.isfinite(value) else ": "


def _look_at_step(
    recording: Recording, reward: Any, terminated: Any, truncated: Any, info: Any, place: str
) -> None:
    if _kind(reward) not in ("i", "u", "f"):
        how = "float(reward)" if _is_single(reward, "biufSU") else "one float"
        recording.note("reward", f"{place} returned the reward {reward!r}, not one number: return {how}")
    elif not np.isfinite(reward):
        recording.note(
            "finite",
            f"{place} returned the reward {reward}: find the division by zero or the "
            "logarithm of zero behind it",
        )
    else:
        recording.rewards.append(float(reward))
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if _kind(flag) != "b":
            how = f"bool({name})" if _is_single(flag, "biuf") else "True or False"
            recording.note(name, f"{place} returned {name} = {flag!r}, not a bool: return {how}")
    if not isinstance(info, dict):
        recording.note(
            "info",
            f"{place} returned a {type(info).__name__} as info: return a dict; {{}} will do",
        )


def _kind(value: Any) -> str:
    """NumPy's letter for the kind of a scalar; "" for what is not one value."""
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, and whatever an object of theirs does when it is asked
        return ""
    return array.dtype.kind if array.shape == () else ""


def _is_single(value: Any, kinds: str) -> bool:
    """Whether it is one value of such kinds, perhaps in an array or a list."""
    try:
        array = np.asarray(value)
    except Exception:
        return False
    return array.size == 1 and array.dtype.kind in kinds


def _difference(space: Any, obs: Any) -> str:
    """How an observation misses its space."""
    shape, dtype = getattr(obs, "shape", None), getattr(obs, "dtype", None)
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None or shape is None:
        return f"{type(obs).__name__} {obs!r:.60} is not in {space_name(space)}"
    if shape != space.shape:
        return f"its shape is {shape}, the space has {space.shape}"
    if dtype is not None and not np.can_cast(dtype, space.dtype):
        return f"its dtype is {dtype}, the space has {space.dtype} (use .astype(np.{space.dtype}))"
    outside = np.argwhere(~((obs >= low) & (obs <= high)))
    where = tuple(outside[0].tolist()) if len(outside) else ()
    return f"entry {list(where)} is {obs[where]}, outside {low[where]} to {high[where]}"
