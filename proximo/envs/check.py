"""Does an environment keep its promises? Each one is checked, and what is broken is explained."""

import warnings
from typing import Any

import gymnasium as gym

from proximo.envs.advice import running_statistics
from proximo.envs.check_api import check_interface, check_policy, check_spaces, has_error
from proximo.envs.check_copies import (
    ALONE,
    TURNS,
    check_close,
    check_closing,
    check_process,
    check_state,
    check_turns,
    check_vectors,
)
from proximo.envs.check_stream import check_large_seed, check_recording, check_seeds
from proximo.envs.findings import Finding, error, warning
from proximo.envs.make import make_one
from proximo.envs.recording import Recording, record
from proximo.envs.spaces import observation_codec
from proximo.envs.vector.trees import with_texts
from proximo.errors import UserError


def check(env: Any, *, steps: int = 1000, seed: int = 0, allow_import: bool = False) -> list[Finding]:
    """Check an environment with random actions.

    env           what `make_envs` takes, except a VectorEnv. With an id, a class or a function, two copies
                  are compared. An instance, or what can exist only once, is compared with itself.
    steps         length of each of the streams
    seed          of the environment and of the actions
    allow_import  whether "module:EnvId" may import its module

    Returns the findings, the errors first. Raises UserError if the environment cannot even be made.
    """
    if isinstance(env, gym.vector.VectorEnv):
        raise UserError(
            "check takes a single environment, not a vector: pass its id, its class or one instance"
        )
    if steps < 1:
        raise UserError(f"steps is {steps}: it must be at least 1")
    if seed < 0:
        raise UserError(f"seed is {seed}: it must be at least 0")
    first = make_one(env, allow_import=allow_import)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Gymnasium warns about comes back as a finding
        findings = check_spaces(first)
        if not has_error(findings):
            findings += [*check_policy(first), *check_interface(first)]
        if not has_error(findings):
            findings += _streams(env, first, steps, seed, allow_import)
        if first is not env:
            findings += check_close(first)
    order = ("error", "warning", "ok")
    return sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.level))


def _streams(env: Any, first: gym.Env, steps: int, seed: int, allow_import: bool) -> list[Finding]:
    """What shows only when it runs, alone, beside a second copy, and in a vector."""
    first.action_space.seed(seed)
    codec = observation_codec(with_texts(first.observation_space))
    one = record(first, codec, seed, steps)
    findings = list(check_recording(first, one))
    if one.crash is not None:
        return findings
    findings.append(check_large_seed(first))
    again, second, of_copy = _record_second_copy(env, first, one, allow_import)
    findings += of_copy
    other = record(second, codec, seed + 1, one.actions[:TURNS], one.offset)
    carried = bool(running_statistics(first))  # from stream to stream, so that no two are equal
    if carried:
        one.after_first_end = None
    else:
        findings += check_seeds(one, again, other, bool(first.spec and first.spec.nondeterministic))
    same = not carried and again.crash is None and again.states == one.states
    if same:
        findings += check_state(second, one)
    if second is not first:
        if same:
            findings.append(check_turns(first, second, one, other))
        undisturbed = same and not has_error(findings)
        findings += check_close(second)
        if undisturbed:
            findings += check_closing(first, one)
    if not has_error(findings):
        findings += check_vectors(env if second is not first else first, one, allow_import)
    if not has_error(findings) and second is not first and isinstance(env, str) and same:
        findings += check_process(env, one, allow_import)
    return findings


def _record_second_copy(
    env: Any, first: gym.Env, one: Recording, allow_import: bool
) -> tuple[Recording, gym.Env, list[Finding]]:
    """The same stream again: in a second copy, or in the first one where there can be no other."""

    def again(second: gym.Env) -> Recording:
        return record(second, one.codec, one.seed, one.actions, one.offset)

    if first is env:
        return again(first), first, []
    try:
        second = make_one(env, allow_import=allow_import)
    except UserError as raised:
        return again(first), first, [_only_one(str(raised))]
    if second is first:
        message = "it returns the same object each time it is called: return a new environment each time"
        return again(first), first, [error("copies", message)]
    recording = again(second)
    if recording.crash is None or recording.states:
        return recording, second, []
    findings = list(check_close(second))  # it cannot even be reset; alone, perhaps, it can
    alone = again(first)
    return alone, first, [*findings, _only_one(recording.crash)] if alone.crash is None else findings


def _only_one(reason: str) -> Finding:
    message = f"a second copy cannot exist beside the first one: {reason}. {ALONE.capitalize()}"
    return warning("copies", message)
