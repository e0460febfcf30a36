"""What only a run can show: numbers, seeds, ends, scales and speed."""

from collections.abc import Iterator

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from proximo.envs import advice
from proximo.envs.findings import Finding, error, ok, warning
from proximo.envs.recording import FAILURES, Recording
from proximo.envs.space_words import masks_in_words
from proximo.envs.spaces import FAR
from proximo.envs.vector.snapshot import layers
from proximo.errors import reason

LARGE_OBSERVATION = 1e4  # beyond it a network without a normaliser saturates
LARGE_REWARD = 1e3  # beyond it the value loss swamps the rest without reward scaling
SLOW_RESET = 100  # resets that cost more than this many steps are worth a word
LARGE_SEED = 2**31 - 1000  # environments are seeded with numbers below 2**31


def check_recording(env: gym.Env, recording: Recording) -> Iterator[Finding]:
    """What one stream shows."""
    for name, message in recording.problems.items():
        yield error(name, message)
    for name, message in recording.loose.items():
        yield warning(name, message)
    if recording.crash is not None:
        yield error(
            "run", f"{recording.crash}. Fix this first; the checks that need a longer run were skipped"
        )
        return
    if recording.source and "action mask" not in recording.problems:
        flags = recording.masks.count(recording.code)
        yield ok("action mask", masks_in_words(recording.source, flags).removeprefix("action mask: "))
    if not recording.problems:
        yield ok("values", f"{len(recording.actions)} steps returned valid values")
    yield _ending(env, recording)
    yield from list(_scales(recording)) or [ok("scales", "observations and rewards have a moderate size")]
    yield from _speed(recording)


def check_seeds(one: Recording, again: Recording, other: Recording, random: bool) -> Iterator[Finding]:
    """Equal seeds must give equal streams, and different seeds different ones.

    one, again  two streams of one seed and the same actions
    other       a stream of another seed and the same actions, maybe shorter
    random      the environment declares itself nondeterministic
    """
    count = min(len(one.states), len(again.states))
    differs = next((row for row in range(count) if one.states[row] != again.states[row]), None)
    if again.crash is not None:
        yield error("determinism", f"a second run with the same seed failed: {again.crash}")
    elif differs is not None:
        message = (
            f"two runs with the same seed and actions differ from call {differs} on (call 0 is the reset): "
            "call super().reset(seed=seed), draw every number from self.np_random, reset the whole state"
        )
        yield (warning if random else error)("determinism", message)
    else:
        yield ok("determinism", f"the same seed and actions gave identical results on {count} calls")
    if other.states and other.states == one.states[: len(other.states)]:
        message = (
            "two seeds give the same stream: if something in it is meant to be random, draw it from "
            "self.np_random after super().reset(seed=seed); if nothing is, more environments add no variety"
        )
        yield warning("seeds", message)
    else:
        yield ok("seeds", "different seeds gave different streams")


def check_large_seed(env: gym.Env) -> Finding:
    """Whether a seed is taken that is as large as those of a training."""
    try:
        env.reset(seed=LARGE_SEED)
    except FAILURES as raised:
        message = (
            f"reset(seed={LARGE_SEED}) failed: {reason(raised)}. Training uses integer seeds below "
            "2**31: accept them all; if a library accepts less, reduce the seed first, such as seed % 2**16"
        )
        return error("seeds", message)
    return ok("seeds", "large seeds are accepted")


def _ending(env: gym.Env, recording: Recording) -> Finding:
    steps = len(recording.actions)
    if recording.ends:
        return ok("ends", f"{recording.ends} episodes ended in {steps} steps")
    for layer in layers(env):
        if isinstance(layer, TimeLimit):
            limit = f"a time limit of {layer._max_episode_steps} steps will end them"
            return ok("ends", f"no episode ended in {steps} steps; {limit}")
    message = (
        f"no episode ended in {steps} steps and there is no time limit: a return is known only at an end. "
        "Register it with max_episode_steps=..., or wrap it with gymnasium.wrappers.TimeLimit(env, 1000)"
    )
    return warning("ends", message)


def _scales(recording: Recording) -> Iterator[Finding]:
    lost, normalised = _lost_precision(recording), recording.codec.normalised
    yield from (warning("observations", line) for line in lost)
    if np.any(recording.offset) and not lost:
        near = f"observations lie near {np.max(np.abs(recording.offset)):.3g}"
        when = "before they become float32, if it normalises observations"
        yield ok("observations", f"{near}; training subtracts that {when}")
    still = np.asarray(recording.changed) == 0
    if still.all() and not lost:
        why = "so a policy cannot tell one state from another: return the state"
        yield warning("observations", f"the observation never changes, {why}")
    elif (still & normalised).any() and not lost:
        entries = f"{int((still & normalised).sum())} of {len(still)} entries"
        yield ok("observations", f"{entries} never changed, which is harmless")
    sizes = np.maximum(-recording.low, recording.high)
    largest = float(np.max(sizes, initial=0.0, where=normalised & np.isfinite(sizes)))
    if largest > LARGE_OBSERVATION and not lost:
        remedy = "keep observation normalisation on, or divide by a typical size"
        yield warning("observations", f"observations reach {largest:.3g}: {remedy}")
    rewards = np.abs(recording.rewards)
    if rewards.max(initial=0) > LARGE_REWARD:
        remedy = "keep reward scaling on, or divide them by a typical size"
        yield warning("reward", f"rewards reach {rewards.max():.3g}: {remedy}")
    if len(rewards) and rewards.max() == 0:
        remedy = "reward progress too, or learning may not start"
        yield warning("reward", f"every reward was 0 under random actions: {remedy}")


def _lost_precision(recording: Recording) -> list[str]:
    """What float32 hides of the observations: relative to the first one, as in training."""
    codec, offset = recording.codec, recording.offset
    lines = advice.lost_precision(np.stack([recording.low, recording.high])[:, None], codec, offset)
    mostly = 2 * np.asarray(recording.lost) > np.asarray(recording.changed)
    farthest = advice.farthest(recording.low, recording.high)
    distant = codec.normalised & (np.abs(farthest) > FAR)
    return lines or advice.precision_advice(mostly & distant, farthest, codec, offset)


def _speed(recording: Recording) -> Iterator[Finding]:
    median, slow = np.percentile(recording.step_us, (50, 99))
    yield ok("speed", f"a step takes {median:.0f} us (median), {slow:.0f} us (99th percentile)")
    reset = float(np.median(recording.reset_us))
    if reset > SLOW_RESET * median:
        message = (
            f"a reset takes {reset:.0f} us, as long as {reset / median:.0f} steps: in a sync vector all "
            "others wait for it; build what does not change once, in __init__"
        )
        yield warning("speed", message)
