"""What only a run can show: numbers, seeds, ends, scales and speed."""

import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from proximo.envs.findings import Finding
from proximo.envs.spaces import ObservationCodec, space_name

LARGE_OBSERVATION = 1e4  # beyond it a network without a normaliser saturates
LARGE_REWARD = 1e3  # beyond it the value loss swamps the rest without reward scaling
SLOW_RESET = 100  # resets that cost more than this many steps are worth a word


@dataclass
class Recording:
    """A stream under random actions, in little: bytes to compare, extremes, times.

    states     one per reset and per step: everything that was returned there, as bytes
    problems   (name, message) of what was wrong with a single value, the first of each kind
    low, high  [size] extremes of the encoded observations
    """

    actions: list[Any] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    low: Any = np.inf
    high: Any = -np.inf
    step_us: list[float] = field(default_factory=list)
    reset_us: list[float] = field(default_factory=list)
    ends: int = 0
    after_first_end: bytes | None = None
    crash: str | None = None


def record(
    env: gym.Env, codec: ObservationCodec, steps: int, seed: int, actions: list[Any] | None = None
) -> Recording:
    """Run `steps` steps, with the given actions or random ones. What the environment raises is noted."""
    recording = Recording()
    env.action_space.seed(seed)
    place = "reset()"
    try:
        obs = _reset(env, codec, recording, seed)
        for number in range(1, steps + 1):
            action = env.action_space.sample() if actions is None else actions[number - 1]
            place = f"step {number} with the action {action!r}"
            recording.actions.append(action)
            before = codec.encode_one(obs) if number <= 50 else None
            started = time.perf_counter()
            following, reward, terminated, truncated, info = env.step(action)
            recording.step_us.append((time.perf_counter() - started) * 1e6)
            if before is not None and not np.array_equal(before, codec.encode_one(obs), equal_nan=True):
                _note(
                    recording,
                    "buffers",
                    f"step {number} changed the observation that was returned before it: "
                    "return a new array each time (self.state.copy()), or stored experience is overwritten",
                )
            obs = following
            _observe(env, codec, recording, obs, place)
            _look_at_step(recording, reward, terminated, truncated, info, place)
            recording.rewards.append(float(reward))
            recording.states[-1] += np.array([reward, terminated, truncated], np.float64).tobytes()
            if terminated or truncated:
                recording.ends += 1
                place = f"reset() after step {number}"
                obs = _reset(env, codec, recording, None)
                if recording.ends == 1:
                    recording.after_first_end = recording.states[-1]
    except Exception as error:
        recording.crash = " ".join(f"{place} failed: {type(error).__name__}: {error}".split())
    return recording


def check_recording(env: gym.Env, codec: ObservationCodec, recording: Recording) -> list[Finding]:
    """What one stream shows."""
    findings = [Finding("error", name, message) for name, message in recording.problems.items()]
    if recording.crash is not None:
        message = f"{recording.crash}. Correct it; the checks that need a longer run were left out"
        return [*findings, Finding("error", "run", message)]
    if not findings:
        findings.append(Finding("ok", "values", f"{len(recording.actions)} steps gave sound values"))
    return [*findings, _ending(env, recording), *_scales(codec, recording), *_speed(recording)]


def check_seeds(one: Recording, again: Recording, other: Recording, random: bool) -> list[Finding]:
    """Equal seeds must give equal streams, and different seeds different ones.

    one, again  two streams of one seed and the same actions
    other       a stream of another seed and the same actions, maybe shorter
    random      the environment declares itself nondeterministic
    """
    count = min(len(one.states), len(again.states))
    differs = next((row for row in range(count) if one.states[row] != again.states[row]), None)
    if again.crash is not None:
        findings = [Finding("error", "determinism", f"a second run of the same seed failed: {again.crash}")]
    elif differs is not None:
        message = (
            f"two runs with one seed and the same actions part at return {differs} (0 is the reset): draw "
            "every random number from self.np_random, call super().reset(seed=seed), reset all of the state"
        )
        findings = [Finding("warning" if random else "error", "determinism", message)]
    else:
        findings = [Finding("ok", "determinism", f"equal seeds and actions gave {count} equal returns")]
    if other.states and other.states == one.states[: len(other.states)]:
        message = (
            "two seeds give the same stream: if something in it is meant to be random, draw it from "
            "self.np_random after super().reset(seed=seed); if nothing is, more environments add no variety"
        )
        return [*findings, Finding("warning", "seeds", message)]
    return [*findings, Finding("ok", "seeds", "different seeds gave different streams")]


def _reset(env: gym.Env, codec: ObservationCodec, recording: Recording, seed: int | None) -> Any:
    started = time.perf_counter()
    obs, _ = env.reset(seed=seed) if seed is not None else env.reset()
    recording.reset_us.append((time.perf_counter() - started) * 1e6)
    _observe(env, codec, recording, obs, "reset()")
    return obs


def _observe(env: gym.Env, codec: ObservationCodec, recording: Recording, obs: Any, place: str) -> None:
    space = env.observation_space
    if not space.contains(obs):
        _note(
            recording,
            "observation space",
            f"{place} returned an observation outside its space: "
            f"{_difference(space, obs)}; correct observation_space or what is returned",
        )
    encoded = codec.encode_one(obs)
    if not np.isfinite(encoded).all():
        _note(
            recording,
            "finite",
            f"{place} returned {encoded[~np.isfinite(encoded)][0]} in the observation: find "
            "the division by zero, the overflow or the unstable simulation behind it",
        )
    recording.low = np.minimum(recording.low, encoded)
    recording.high = np.maximum(recording.high, encoded)
    recording.states.append(encoded.tobytes())


def _look_at_step(
    recording: Recording, reward: Any, terminated: Any, truncated: Any, info: Any, place: str
) -> None:
    if np.ndim(reward) != 0 or not np.issubdtype(np.asarray(reward).dtype, np.number):
        _note(
            recording, "reward", f"{place} returned the reward {reward!r}, not a number: return float(reward)"
        )
    elif not np.isfinite(reward):
        _note(
            recording,
            "finite",
            f"{place} returned the reward {reward}: find the division by zero or the "
            "logarithm of zero behind it",
        )
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            _note(recording, name, f"{place} returned {name} = {flag!r}, not a bool: return bool({name})")
    if not isinstance(info, dict):
        _note(
            recording,
            "info",
            f"{place} returned a {type(info).__name__} as info: return a dict; {{}} will do",
        )


def _note(recording: Recording, name: str, message: str) -> None:
    recording.problems.setdefault(name, message)


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


def _ending(env: gym.Env, recording: Recording) -> Finding:
    steps, limit = len(recording.actions), _time_limit(env)
    if recording.ends:
        return Finding("ok", "ends", f"{recording.ends} episodes ended in {steps} steps")
    if limit is not None:
        return Finding(
            "ok", "ends", f"no episode ended in {steps} steps; a time limit of {limit} steps will end them"
        )
    message = (
        f"no episode ended in {steps} steps and there is no time limit: returns are known at an end only. "
        "Register it with max_episode_steps=..., or wrap it with gymnasium.wrappers.TimeLimit(env, 1000)"
    )
    return Finding("warning", "ends", message)


def _time_limit(env: gym.Env) -> int | None:
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, TimeLimit):
            return layer._max_episode_steps
        layer = layer.env
    return None


def _scales(codec: ObservationCodec, recording: Recording) -> list[Finding]:
    findings = []
    still = recording.low == recording.high
    if still.all():
        message = (
            "the observation never changes, so a policy cannot tell one state from another: return the state"
        )
        findings.append(Finding("warning", "observations", message))
    elif (still & codec.normalised).any():
        message = f"{int((still & codec.normalised).sum())} of {len(still)} entries never changed; harmless"
        findings.append(Finding("ok", "observations", message))
    largest = float(
        np.max(np.where(codec.normalised, np.maximum(-recording.low, recording.high), 0.0), initial=0.0)
    )
    if largest > LARGE_OBSERVATION:
        message = (
            f"observations reach {largest:.3g}: keep their normalisation on, or divide by a typical size"
        )
        findings.append(Finding("warning", "observations", message))
    rewards = np.abs(recording.rewards)
    if rewards.max() > LARGE_REWARD:
        message = (
            f"rewards reach {rewards.max():.3g}: keep reward scaling on, or divide them by a typical size"
        )
        findings.append(Finding("warning", "reward", message))
    if rewards.max() == 0:
        message = "every reward was 0 under random actions: reward progress too, or learning may not start"
        findings.append(Finding("warning", "reward", message))
    return findings or [Finding("ok", "scales", "observations and rewards have a moderate size")]


def _speed(recording: Recording) -> list[Finding]:
    median, slow = np.percentile(recording.step_us, (50, 99))
    reset = float(np.median(recording.reset_us))
    findings = [
        Finding("ok", "speed", f"a step takes {median:.0f} us (median), {slow:.0f} us (99th percentile)")
    ]
    if reset > SLOW_RESET * median:
        message = (
            f"a reset takes {reset:.0f} us, as long as {reset / median:.0f} steps: in a sync vector all "
            "others wait for it; build what does not change once, in __init__"
        )
        findings.append(Finding("warning", "speed", message))
    return findings
