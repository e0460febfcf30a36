"""Does an environment keep its promises? Each promise is looked at, and what is broken is explained."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.check_api import check_interface, check_spaces
from proximo.envs.check_stream import check_recording, check_seeds, record
from proximo.envs.findings import Finding
from proximo.envs.host import HostEnvs
from proximo.envs.make import make_envs, make_one
from proximo.envs.spaces import observation_codec
from proximo.errors import UserError


def check(env: Any, *, steps: int = 1000, seed: int = 0, allow_import: bool = False) -> list[Finding]:
    """Look an environment over, with random actions.

    env           what `make_envs` takes, save a VectorEnv. With an id, a class or a function, two copies are
                  compared; an instance is compared with itself.
    steps         how long each of the streams is
    seed          of the environment and of the actions
    allow_import  whether "module:EnvId" may import its module

    Returns the findings, the errors first. Raises UserError if the environment cannot even be made.
    """
    if isinstance(env, gym.vector.VectorEnv):
        raise UserError("check looks at a single environment: pass its id, its class or one instance")
    if steps < 1:
        raise UserError(f"steps is {steps}: ask for at least 1")
    if seed < 0:
        raise UserError(f"seed is {seed}: it must be at least 0")
    first = make_one(env, allow_import=allow_import)
    second = first if first is env else make_one(env, allow_import=allow_import)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Gymnasium warns about comes back as a finding
        findings = check_spaces(first) + check_interface(first)
        if not any(finding.name == "spaces" and finding.level == "error" for finding in findings):
            findings += _streams(env, first, second, steps, seed, allow_import)
    for made in (first, second):
        if made is not env:
            made.close()
    order = ("error", "warning", "ok")
    return sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.level))


def _streams(
    env: Any, first: gym.Env, second: gym.Env, steps: int, seed: int, allow_import: bool
) -> list[Finding]:
    """What shows only when it runs: three recordings, and its vector."""
    codec = observation_codec(first.observation_space)
    one = record(first, codec, steps, seed)
    findings = check_recording(first, codec, one)
    if one.crash is not None:
        return findings
    again = record(second, codec, steps, seed, one.actions)
    other = record(second, codec, min(steps, 100), seed + 1, one.actions)
    seeds = check_seeds(one, again, other, bool(first.spec and first.spec.nondeterministic))
    findings += seeds
    if not any(finding.level == "error" for finding in findings):
        findings += _vectors(env, one.actions, one.after_first_end, seed, allow_import)
    return findings


def _vectors(
    env: Any, actions: list[Any], expected: bytes | None, seed: int, allow_import: bool
) -> list[Finding]:
    """NEXT_STEP as it should be, in Gymnasium's vector and in the environment's own where it has one."""
    with make_envs(env, 1, allow_import=allow_import) as envs:
        findings = [_seam(envs, "autoreset", actions, expected, seed)]
        own = isinstance(env, str) and envs.spec is not None and envs.spec.vector_entry_point is not None
    if own:
        with make_envs(env, 1, vectorization_mode="vector_entry_point", allow_import=allow_import) as envs:
            # Its random numbers are its own, so what the reset returns cannot be foreseen.
            findings.append(_seam(envs, "autoreset of its own vector", actions, None, seed))
    return findings


def _seam(envs: HostEnvs, name: str, actions: list[Any], expected: bytes | None, seed: int) -> Finding:
    """Replay the recorded actions up to the first end, and look at the row after it.

    expected  the encoded first observation of the second episode, float32 bytes, where it is known
    """
    envs.reset([seed])
    for action in actions:
        batch = envs.action_space.sample()
        batch[0] = action
        step = envs.step(batch)
        if not (step.terminated | step.truncated)[0]:
            continue
        if not envs.seam_rows:
            return Finding("ok", name, "it resets within the step that ends an episode; that is understood")
        seam = envs.step(batch)
        if seam.reward[0] != 0 or seam.terminated[0] or seam.truncated[0]:
            return Finding(
                "error",
                name,
                f"the step after an end gave reward {seam.reward[0]}, terminated {seam.terminated[0]}, "
                f"truncated {seam.truncated[0]}: it must only reset, with reward 0 and both flags False",
            )
        if expected is not None and _encoded(envs, seam.obs) != expected:
            return Finding(
                "warning",
                name,
                "the observation after an end is not what reset() returned before: see determinism",
            )
        return Finding("ok", name, "the row after an end holds the reset observation and reward 0")
    return Finding("ok", name, "no episode ended, so it was not seen")


def _encoded(envs: HostEnvs, obs: Any) -> bytes:
    out = np.empty((1, *envs.observation.shape), np.float32)
    envs.observation.encode(obs, out)
    return out.tobytes()
