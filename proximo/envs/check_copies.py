"""What only shows with a second copy, in a vector, in a process of its own, or when a state is put back."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.findings import Finding, error, ok, warning
from proximo.envs.host import HostEnvs
from proximo.envs.make import make_envs
from proximo.envs.recording import (
    FAILURES,
    Recording,
    as_bool,
    as_bytes,
    continue_recording,
    digest,
    states,
)
from proximo.envs.vector import snapshot
from proximo.errors import UserError, reason

TURNS = 200  # steps of two copies in turns
AGAIN = 3  # times alone, before two copies are blamed for what chance may have done
FEW = 20  # steps in a process of its own, or after a state was put back
ALONE = "train it with --num-envs 1"


def check_turns(first: gym.Env, second: gym.Env, one: Recording) -> Finding:
    """Whether two copies that are stepped in turns leave each other alone.

    one  what the first gave alone
    """
    actions = one.actions[:TURNS]
    mine, theirs = states(first, one, one.seed, actions), states(second, one, one.seed + 1, actions)
    number = 0
    try:
        for number, (expected, found) in enumerate(zip(one.states, mine, strict=False)):
            if found == expected:
                next(theirs, None)
                continue
            if all(_same_alone(first, one) for _ in range(AGAIN)):
                how = "(0 is the reset) the first one gives other results than alone"
                return _copies_interfere(f"from call {number} on {how}")
            message = (
                "two runs with one seed and the same actions differ now and then: its numbers depend on "
                "something that no seed decides, such as where memory lies or which thread comes first"
            )
            return error("determinism", message)
    except FAILURES as raised:
        return _copies_interfere(f"after call {number} {reason(raised)}")
    return ok("copies", "two copies that were stepped in turns left each other alone")


def _copies_interfere(how: str) -> Finding:
    message = (
        f"two copies that are stepped in turns disturb each other: {how}. Give each instance a simulator, a "
        f"generator and a state of its own, and keep nothing in the class or the module; until then, {ALONE}"
    )
    return error("copies", message)


def _same_alone(first: gym.Env, one: Recording, steps: int = TURNS) -> bool:
    """Whether it gives now, alone, what it gave before."""
    again = states(first, one, one.seed, one.actions[:steps])
    return all(expected == found for expected, found in zip(one.states, again, strict=False))


def check_closing(first: gym.Env, one: Recording) -> Iterator[Finding]:
    """Whether the first copy goes on as before, now that a second one was closed."""
    try:
        how = "" if _same_alone(first, one, FEW) else "the other one then gives other results"
    except FAILURES as raised:
        how = reason(raised)
    if how:
        remedy = "Let close() end what is the instance's own alone"
        yield warning("copies", f"closing one copy breaks another: {how}. {remedy}")


def check_close(env: gym.Env) -> Iterator[Finding]:
    """Close it; what fails in that is a finding."""
    try:
        env.close()
    except FAILURES as raised:
        remedy = "Training goes on after that with a warning; correct it"
        yield warning("close", f"close() failed: {reason(raised)}. {remedy}")


def check_state(env: gym.Env, one: Recording) -> Iterator[Finding]:
    """Whether a run goes on where it was: what `get_state` and `set_state` do, where there are any."""
    consequence = "so a run that is resumed begins new episodes"
    offering = [layer for layer in snapshot.layers(env) if snapshot.offers(layer)]
    for layer in offering:
        name = f"get_state() of {type(layer).__name__}"
        try:
            snapshot.pack(layer.get_state())  # type: ignore[attr-defined]
        except snapshot.NotPlain as raised:
            remedy = "return numbers, strings, None, NumPy arrays, and dicts, lists or tuples of them"
            yield warning("state", f"{name} has a {raised} in it, {consequence}: {remedy}")
            return
        except FAILURES as raised:
            yield warning("state", f"{name} failed, {consequence}: {reason(raised)}")
            return
    if offering:
        try:
            yield _check_restore(env, one, consequence)
        except FAILURES as raised:
            yield warning("state", f"its state could not be put back, {consequence}: {reason(raised)}")


def _check_restore(env: gym.Env, one: Recording, consequence: str) -> Finding:
    """Save after the first step; what follows once that is restored must be what followed it alone."""
    env.reset(seed=one.seed)
    _, _, terminated, truncated, _ = env.step(one.actions[0])
    if as_bool(terminated) or as_bool(truncated):
        return ok("state", "get_state() gives plain data; an episode of one step shows no more")
    saved = snapshot.save(env)
    if saved is None:
        fault = f"there are get_state() and set_state(), but not in every wrapper, {consequence}"
        return warning("state", f"{fault}: give those of your own the two methods too")
    env.reset(seed=one.seed + 1)
    snapshot.restore(env, saved)
    found = continue_recording(env, one, one.actions[1 : FEW + 1])
    for number, (expected, state) in enumerate(zip(one.states[2:], found, strict=False), 2):
        if expected != state:
            message = (
                f"after set_state(get_state()) call {number} gives other results, so a resumed run is not "
                "the one that was cut short: let the two methods have all that a step depends on"
            )
            return warning("state", message)
    return ok("state", "it goes on from get_state() and set_state() as if nothing had happened")


def check_vectors(env: Any, one: Recording, allow_import: bool) -> Iterator[Finding]:
    """NEXT_STEP as it should be, in our vector and in the environment's own where it has one."""
    name, own = "autoreset", "vector_entry_point"
    try:
        with make_envs(env, 1, allow_import=allow_import) as envs:
            yield _seam(envs, name, one, one.after_first_end)
            spec = envs.spec if isinstance(env, str) else None
        if spec is not None and spec.vector_entry_point is not None:
            name = "autoreset of its own vector"
            with make_envs(env, 1, vectorization_mode=own, allow_import=allow_import) as envs:
                # Its random numbers are its own, so what the reset returns cannot be foreseen.
                yield _seam(envs, name, one, None)
    except UserError as raised:
        yield error(name, str(raised))


def _seam(envs: HostEnvs, name: str, one: Recording, expected: bytes | None) -> Finding:
    """Replay the recorded actions up to the first end, and look at the row after it.

    expected  the digest of the second episode's first observation, where it is known
    """
    envs.reset([one.seed])
    for action in one.actions:
        batch = envs.action_space.sample()
        batch[0] = action
        step = envs.step(batch)
        if not (step.terminated | step.truncated)[0]:
            continue
        if not envs.seam_rows:
            return ok(name, "it resets within the step that ends an episode; that is understood")
        seam = envs.step(batch)
        if seam.reward[0] != 0 or seam.terminated[0] or seam.truncated[0]:
            message = (
                f"the step after an end gave reward {seam.reward[0]}, terminated {seam.terminated[0]}, "
                f"truncated {seam.truncated[0]}: it must only reset, with reward 0 and both flags False"
            )
            return error(name, message)
        if expected not in (None, _digest(envs, seam.obs, one)):
            what = "the observation after an end is not what reset() returned before"
            return warning(name, f"{what}: see determinism")
        return ok(name, "the row after an end holds the reset observation and reward 0")
    return ok(name, "no episode ended, so it was not seen")


def check_process(env: Any, one: Recording, allow_import: bool) -> Iterator[Finding]:
    """Whether it steps in a process of its own as it does here, where `parallel` would move it there."""
    name = "worker process"
    limits = {"max_restarts": 0, "step_timeout": 60.0, "reset_timeout": 60.0}
    options: dict[str, Any] = dict(vectorization_mode="parallel", vector_kwargs=limits)
    try:
        with make_envs(env, 2, allow_import=allow_import, **options) as envs:
            if not getattr(envs.vector, "workers", ()):
                return
            found = [_digest(envs, envs.reset([one.seed + 1, one.seed]), one)]
            for action in one.actions[:FEW]:
                batch = envs.action_space.sample()
                batch[:] = action
                step = envs.step(batch)
                row = as_bytes(step.reward[1], step.terminated[1], step.truncated[1])
                found.append(_digest(envs, step.obs, one) + row)
                if step.terminated[1] or step.truncated[1]:
                    break
    except UserError as raised:
        remedy = "With --vectorization-mode sync it stays here"
        yield error(name, f"with --vectorization-mode parallel: {raised}. {remedy}")
        return
    if found != one.states[: len(found)]:
        message = (
            "in a process of its own it gives other results, with the same seed and actions: it depends on "
            "what this process has done before; let reset(seed=...) decide all of it"
        )
        yield warning(name, message)
    else:
        yield ok(name, "it steps in a process of its own as it does here")


def _digest(envs: HostEnvs, obs: Any, one: Recording) -> bytes:
    """Of the last environment's observation in a batch, as `Recording.digest`."""
    out = np.empty((envs.num_envs, *one.codec.shape), np.float32)
    one.codec.about(one.offset).encode(obs, out)
    return digest(out[-1])
