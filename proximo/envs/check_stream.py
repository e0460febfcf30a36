"""What only a run can show: numbers, seeds, ends, scales and speed."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from proximo.envs import advice
from proximo.envs.recording import FAILURES, Recording, reason
from proximo.envs.spaces import FAR, ObservationCodec

LARGE_OBSERVATION = 1e4  # beyond it a network without a normaliser saturates
LARGE_REWARD = 1e3  # beyond it the value loss swamps the rest without reward scaling
SLOW_RESET = 100  # resets that cost more than this many steps are worth a word
LARGE_SEED = 2**31 - 1000  # environments are seeded with numbers below 2**31


@dataclass(frozen=True)
class Finding:
    """What one check found.

    level    "error": training would fail or mislead; "warning": it may learn badly, or another library would
             refuse it; "ok": looked at, nothing to change
    name     what was looked at
    message  what is wrong and what to change
    """

    level: Literal["error", "warning", "ok"]
    name: str
    message: str


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
            f"two runs with one seed and the same actions differ from call {differs} on (0 is the reset): "
            "call super().reset(seed=seed), draw every number from self.np_random, reset all of the state"
        )
        findings = [Finding("warning" if random else "error", "determinism", message)]
    else:
        findings = [
            Finding("ok", "determinism", f"the same seed and actions gave identical results on {count} calls")
        ]
    if other.states and other.states == one.states[: len(other.states)]:
        message = (
            "two seeds give the same stream: if something in it is meant to be random, draw it from "
            "self.np_random after super().reset(seed=seed); if nothing is, more environments add no variety"
        )
        return [*findings, Finding("warning", "seeds", message)]
    return [*findings, Finding("ok", "seeds", "different seeds gave different streams")]


def check_large_seed(env: gym.Env) -> Finding:
    """Whether a seed is taken that is as large as those of a training."""
    try:
        env.reset(seed=LARGE_SEED)
    except FAILURES as error:
        message = (
            f"reset(seed={LARGE_SEED}) failed: {reason(error)}. In training seeds are whole numbers below "
            "2**31: take them all; where a library takes less, reduce the seed first, such as seed % 2**16"
        )
        return Finding("error", "seeds", message)
    return Finding("ok", "seeds", "large seeds are taken too")


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
    findings = _precision(codec, recording)
    lost = any(finding.level == "warning" for finding in findings)
    still = np.asarray(recording.changed) == 0
    if lost:
        pass
    elif still.all():
        message = (
            "the observation never changes, so a policy cannot tell one state from another: return the state"
        )
        findings.append(Finding("warning", "observations", message))
    elif (still & codec.normalised).any():
        message = f"{int((still & codec.normalised).sum())} of {len(still)} entries never changed; harmless"
        findings.append(Finding("ok", "observations", message))
    sizes = np.maximum(-recording.low, recording.high)
    largest = float(np.max(sizes, initial=0.0, where=codec.normalised & np.isfinite(sizes)))
    if largest > LARGE_OBSERVATION and not lost:
        message = (
            f"observations reach {largest:.3g}: keep their normalisation on, or divide by a typical size"
        )
        findings.append(Finding("warning", "observations", message))
    rewards = np.abs(recording.rewards)
    if rewards.max(initial=0) > LARGE_REWARD:
        message = (
            f"rewards reach {rewards.max():.3g}: keep reward scaling on, or divide them by a typical size"
        )
        findings.append(Finding("warning", "reward", message))
    if len(rewards) and rewards.max() == 0:
        message = "every reward was 0 under random actions: reward progress too, or learning may not start"
        findings.append(Finding("warning", "reward", message))
    return findings or [Finding("ok", "scales", "observations and rewards have a moderate size")]


def _precision(codec: ObservationCodec, recording: Recording) -> list[Finding]:
    """What float32 leaves of the observations: relative to the first one, as in training."""
    rows = np.stack([recording.low, recording.high])[:, None]
    lines = advice.lost_precision(rows, codec, recording.offset)
    mostly = 2 * np.asarray(recording.lost) > np.asarray(recording.changed)
    farthest = advice.farthest(recording.low, recording.high)
    distant = codec.normalised & (np.abs(farthest) > FAR)
    lines = lines or advice.precision_advice(mostly & distant, farthest, codec, recording.offset)
    if lines:
        return [Finding("warning", "observations", line) for line in lines]
    if np.any(recording.offset):
        largest = float(np.max(np.abs(recording.offset)))
        message = (
            f"observations lie near {largest:.3g}; training subtracts that before they become float32, if it "
            "normalises observations"
        )
        return [Finding("ok", "observations", message)]
    return []


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
