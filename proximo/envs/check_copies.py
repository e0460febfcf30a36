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
from proximo.envs.vector.trees import put
from proximo.errors import UserError, reason

TURNS = 200  # steps of two copies in turns
AGAIN = 3  # times alone, before two copies are blamed for what chance may have done
FEW = 20  # steps in a process of its own, or after a state was put back
ALONE = "train it with --num-envs 1"


def check_turns(first: gym.Env, second: gym.Env, one: Recording, other: Recording) -> Finding:
    """Whether two copies that are stepped in turns leave each other alone.

    one    what the first gave alone
    other  what the second gave alone
    """
    mine = states(first, one, one.seed, one.actions[:TURNS])
    theirs = states(second, one, other.seed, other.actions)
    number = 0
    try:
        for number, (expected, found) in enumerate(zip(one.states, mine, strict=False)):
            if found == expected:
                next(theirs, None)
                continue
            if all(_same_alone(first, one) for _ in range(AGAIN)):
                how = "(0 is the reset) the first one gives different results than alone"
                return _copies_interfere(f"from call {number} on {how}")
            message = (
                "two runs with the same seed and actions sometimes differ: the results depend on something "
                "that the seed does not control, such as memory addresses or the order of threads"
            )
            return error("determinism", message)
    except FAILURES as raised:
        return _copies_interfere(f"after call {number} {reason(raised)}")
    return ok("copies", "two copies that are stepped alternately do not affect each other")


def _copies_interfere(how: str) -> Finding:
    message = (
        f"two copies that are stepped alternately affect each other: {how}. Give each instance its own "
        f"simulator, random generator and state, and store none in the class or module; until then, {ALONE}"
    )
    return error("copies", message)


def _same_alone(first: gym.Env, one: Recording, steps: int = TURNS) -> bool:
    """Whether it gives now, alone, what it gave before."""
    again = states(first, one, one.seed, one.actions[:steps])
    return all(expected == found for expected, found in zip(one.states, again, strict=False))


def check_closing(first: gym.Env, one: Recording) -> Iterator[Finding]:
    """Whether the first copy goes on as before, now that a second one was closed."""
    try:
        how = "" if _same_alone(first, one, FEW) else "the other one then gives different results"
    except FAILURES as raised:
        how = reason(raised)
    if how:
        remedy = "Let close() release only what belongs to the instance"
        yield warning("copies", f"closing one copy breaks another: {how}. {remedy}")


def check_close(env: gym.Env) -> Iterator[Finding]:
    """Close it; what fails in that is a finding."""
    try:
        env.close()
    except FAILURES as raised:
        remedy = "Training continues after this with a warning; fix close()"
        yield warning("close", f"close() failed: {reason(raised)}. {remedy}")


def check_state(env: gym.Env, one: Recording) -> Iterator[Finding]:
    """Whether a run goes on where it was: what `get_state` and `set_state` do, where there are any."""
    consequence = "so a resumed run starts new episodes"
    offering = [layer for layer in snapshot.layers(env) if snapshot.offers(layer)]
    for layer in offering:
        name = f"get_state() of {type(layer).__name__}"
        try:
            snapshot.pack(layer.get_state())  # type: ignore[attr-defined]
        except snapshot.NotPlain as raised:
            remedy = "return numbers, strings, None, NumPy arrays, and dicts, lists or tuples of them"
            yield warning("state", f"{name} contains a {raised}, {consequence}: {remedy}")
            return
        except FAILURES as raised:
            yield warning("state", f"{name} failed, {consequence}: {reason(raised)}")
            return
    if offering:
        try:
            yield _check_restore(env, one, consequence)
        except FAILURES as raised:
            yield warning("state", f"its state could not be restored, {consequence}: {reason(raised)}")


def _check_restore(env: gym.Env, one: Recording, consequence: str) -> Finding:
    """Save after the first step; what follows once that is restored must be what followed it alone."""
    env.reset(seed=one.seed)
    _, _, terminated, truncated, _ = env.step(one.actions[0])
    if as_bool(terminated) or as_bool(truncated):
        return ok(
            "state", "get_state() returns plain data; episodes of one step are too short to test set_state()"
        )
    saved = snapshot.save(env)
    if saved is None:
        fault = f"get_state() and set_state() exist, but not in every wrapper, {consequence}"
        return warning("state", f"{fault}: define both methods in your own wrappers too")
    env.reset(seed=one.seed + 1)
    snapshot.restore(env, saved)
    found = continue_recording(env, one, one.actions[1 : FEW + 1])
    for number, (expected, state) in enumerate(zip(one.states[2:], found, strict=False), 2):
        if expected != state:
            message = (
                f"after set_state(get_state()) call {number} gives different results, so a resumed run "
                "differs from the interrupted one: save and restore everything that a step depends on"
            )
            return warning("state", message)
    return ok("state", "after set_state(get_state()) it continues with identical results")


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
        batch = envs.sample()
        if envs.legal is None or expected is not None:
            put(batch, 0, action)
        step = envs.step(batch)
        if not (step.terminated | step.truncated)[0]:
            continue
        if not envs.seam_rows:
            return ok(name, "it resets within the step that ends an episode, which is supported")
        seam = envs.step(batch)
        if seam.reward[0] != 0 or seam.terminated[0] or seam.truncated[0]:
            message = (
                f"the step after an end gave reward {seam.reward[0]}, terminated {seam.terminated[0]}, "
                f"truncated {seam.truncated[0]}: it must only reset, with reward 0 and both flags False"
            )
            return error(name, message)
        if expected is not None and expected != _digest(envs, seam.obs, one):
            what = "the observation after an end is not what reset() returned before"
            return warning(name, f"{what}: see determinism")
        return ok(name, "the step after an end returns the reset observation and reward 0")
    return ok(name, "no episode ended, so this was not tested")


def check_process(env: Any, one: Recording, allow_import: bool) -> Iterator[Finding]:
    """Whether it gives the same results in another process, where `parallel` would move it there."""
    name = "worker process"
    limits = {"max_restarts": 0, "step_timeout": 60.0, "reset_timeout": 60.0}
    options: dict[str, Any] = dict(vectorization_mode="parallel", vector_kwargs=limits)
    try:
        with make_envs(env, 2, allow_import=allow_import, **options) as envs:
            if not getattr(envs.vector, "workers", ()):
                return
            found = [_digest(envs, envs.reset([one.seed, one.seed]), one)]  # one action is legal in both
            for action in one.actions[:FEW]:
                batch = envs.action_space.sample()
                put(batch, ..., action)
                step = envs.step(batch)
                row = as_bytes(step.reward[1], step.terminated[1], step.truncated[1])
                found.append(_digest(envs, step.obs, one) + row)
                if step.terminated[1] or step.truncated[1]:
                    break
    except UserError as raised:
        remedy = "Use --vectorization-mode sync, which steps it in the training process"
        yield error(name, f"with --vectorization-mode parallel: {raised}. {remedy}")
        return
    if found != one.states[: len(found)]:
        message = (
            "in another process it gives different results with the same seed and actions: it depends on "
            "what this process did before; let reset(seed=...) determine everything"
        )
        yield warning(name, message)
    else:
        yield ok(name, "it gives the same results in another process")


def _digest(envs: HostEnvs, obs: Any, one: Recording) -> bytes:
    """Of the last environment's observation in a batch, as `Recording.digest`."""
    out = np.empty((envs.num_envs, *one.codec.shape), np.float32)
    one.codec.about(one.offset).encode(obs, out)
    return digest(out[-1])
