"""What only shows with a second copy, in a vector, in a process of its own, or when a state is put back."""

from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.check_stream import Finding
from proximo.envs.host import HostEnvs
from proximo.envs.make import make_envs
from proximo.envs.recording import (
    FAILURES,
    Recording,
    as_bool,
    as_bytes,
    continue_recording,
    digest,
    reason,
    states,
)
from proximo.envs.spaces import ObservationCodec
from proximo.envs.vector import snapshot
from proximo.errors import UserError

TURNS = 200  # steps of two copies in turns
AGAIN = 3  # times alone, before two copies are blamed for what chance may have done
FEW = 20  # steps in a process of its own, or after a state was put back
ALONE = "train it with --num-envs 1"


def check_turns(
    first: gym.Env, second: gym.Env, codec: ObservationCodec, one: Recording, seed: int
) -> list[Finding]:
    """Whether two copies that are stepped in turns leave each other alone.

    one  what the first gave alone, with this seed
    """
    actions = one.actions[:TURNS]
    mine = states(first, codec, seed, actions, one.offset)
    theirs = states(second, codec, seed + 1, actions, one.offset)
    number = 0
    try:
        for number, (expected, found) in enumerate(zip(one.states, mine, strict=False)):
            if found != expected:
                if not all(_same_alone(first, codec, one, seed) for _ in range(AGAIN)):
                    return [_by_chance()]
                return [
                    _copies_interfere(
                        f"from call {number} on (0 is the reset) the first one gives other results than alone"
                    )
                ]
            next(theirs, None)
    except FAILURES as error:
        return [_copies_interfere(f"after call {number} {reason(error)}")]
    return [Finding("ok", "copies", "two copies that were stepped in turns left each other alone")]


def _copies_interfere(how: str) -> Finding:
    return Finding(
        "error",
        "copies",
        f"two copies that are stepped in turns disturb each other: {how}. Give each instance a simulator, a "
        f"generator and a state of its own, and keep nothing in the class or the module; until then, {ALONE}",
    )


def _same_alone(
    first: gym.Env, codec: ObservationCodec, one: Recording, seed: int, steps: int = TURNS
) -> bool:
    """Whether it gives now, alone, what it gave before."""
    again = states(first, codec, seed, one.actions[:steps], one.offset)
    return all(expected == found for expected, found in zip(one.states, again, strict=False))


def _by_chance() -> Finding:
    message = (
        "two runs with one seed and the same actions differ now and then: its numbers depend on something "
        "that no seed decides, such as where memory lies or which thread comes first"
    )
    return Finding("error", "determinism", message)


def check_closing(first: gym.Env, codec: ObservationCodec, one: Recording, seed: int) -> list[Finding]:
    """Whether the first copy goes on as before, now that a second one was closed."""
    try:
        same = _same_alone(first, codec, one, seed, FEW)
        how = "" if same else "the other one then gives other results"
    except FAILURES as error:
        how = reason(error)
    if not how:
        return []
    message = f"closing one copy breaks another: {how}. Let close() end what is the instance's own alone"
    return [Finding("warning", "copies", message)]


def check_close(env: gym.Env) -> list[Finding]:
    """Close it; what fails in that is a finding."""
    try:
        env.close()
    except FAILURES as error:
        message = f"close() failed: {reason(error)}. Training goes on after that with a warning; correct it"
        return [Finding("warning", "close", message)]
    return []


def check_state(env: gym.Env, codec: ObservationCodec, one: Recording, seed: int) -> list[Finding]:
    """Whether a run goes on where it was: what `get_state` and `set_state` do, where there are any."""
    offering = [layer for layer in snapshot.layers(env) if snapshot.offers(layer)]
    if not offering:
        return []
    consequence = "so a run that is resumed begins new episodes"
    for layer in offering:
        try:
            snapshot.pack(layer.get_state())  # type: ignore[attr-defined]
        except snapshot.NotPlain as error:
            message = (
                f"get_state() of {type(layer).__name__} has a {error} in it, {consequence}: return numbers, "
                "strings, None, NumPy arrays, and dicts, lists or tuples of them"
            )
            return [Finding("warning", "state", message)]
        except FAILURES as error:
            message = f"get_state() of {type(layer).__name__} failed, {consequence}: {reason(error)}"
            return [Finding("warning", "state", message)]
    try:
        return [_check_restore(env, codec, one, seed, consequence)]
    except FAILURES as error:
        message = f"its state could not be put back, {consequence}: {reason(error)}"
        return [Finding("warning", "state", message)]


def _check_restore(
    env: gym.Env, codec: ObservationCodec, one: Recording, seed: int, consequence: str
) -> Finding:
    """Save after the first step; what follows once that is restored must be what followed it alone."""
    env.reset(seed=seed)
    _, _, terminated, truncated, _ = env.step(one.actions[0])
    if as_bool(terminated) or as_bool(truncated):
        return Finding("ok", "state", "get_state() gives plain data; an episode of one step shows no more")
    saved = snapshot.save(env)
    if saved is None:
        message = (
            f"there are get_state() and set_state(), but not in every wrapper, {consequence}: give those of "
            "your own the two methods too"
        )
        return Finding("warning", "state", message)
    env.reset(seed=seed + 1)
    snapshot.restore(env, saved)
    found = continue_recording(env, codec, one.actions[1 : FEW + 1], one.offset)
    for number, (expected, state) in enumerate(zip(one.states[2:], found, strict=False), 2):
        if expected != state:
            message = (
                f"after set_state(get_state()) call {number} gives other results, so a resumed run is not "
                "the one that was cut short: let the two methods have all that a step depends on"
            )
            return Finding("warning", "state", message)
    return Finding("ok", "state", "it goes on from get_state() and set_state() as if nothing had happened")


def check_vectors(
    env: Any, codec: ObservationCodec, one: Recording, seed: int, allow_import: bool
) -> list[Finding]:
    """NEXT_STEP as it should be, in our vector and in the environment's own where it has one."""
    found, name, own = [], "autoreset", "vector_entry_point"
    try:
        with make_envs(env, 1, allow_import=allow_import) as envs:
            envs.observation = codec.about(one.offset)
            found.append(_seam(envs, name, one.actions, one.after_first_end, seed))
        if isinstance(env, str) and envs.spec is not None and envs.spec.vector_entry_point is not None:
            name = "autoreset of its own vector"
            with make_envs(env, 1, vectorization_mode=own, allow_import=allow_import) as envs:
                # Its random numbers are its own, so what the reset returns cannot be foreseen.
                found.append(_seam(envs, name, one.actions, None, seed))
    except UserError as error:
        found.append(Finding("error", name, str(error)))
    return found


def _seam(envs: HostEnvs, name: str, actions: list[Any], expected: bytes | None, seed: int) -> Finding:
    """Replay the recorded actions up to the first end, and look at the row after it.

    expected  the digest of the second episode's first observation, where it is known
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
        if expected is not None and digest(_encoded(envs, seam.obs)[0]) != expected:
            return Finding(
                "warning",
                name,
                "the observation after an end is not what reset() returned before: see determinism",
            )
        return Finding("ok", name, "the row after an end holds the reset observation and reward 0")
    return Finding("ok", name, "no episode ended, so it was not seen")


def check_process(
    env: Any, codec: ObservationCodec, one: Recording, seed: int, allow_import: bool
) -> list[Finding]:
    """Whether it steps in a process of its own as it does here, where `parallel` would move it there."""
    name = "worker process"
    limits = {"max_restarts": 0, "step_timeout": 60.0, "reset_timeout": 60.0}
    options: dict[str, Any] = dict(vectorization_mode="parallel", vector_kwargs=limits)
    try:
        with make_envs(env, 2, allow_import=allow_import, **options) as envs:
            if not getattr(envs.vector, "workers", ()):
                return []
            envs.observation = codec.about(one.offset)
            found = [digest(_encoded(envs, envs.reset([seed + 1, seed]))[1])]
            for action in one.actions[:FEW]:
                batch = envs.action_space.sample()
                batch[:] = action
                step = envs.step(batch)
                row = digest(_encoded(envs, step.obs)[1])
                found.append(row + as_bytes(step.reward[1], step.terminated[1], step.truncated[1]))
                if step.terminated[1] or step.truncated[1]:
                    break
    except UserError as error:
        message = f"with --vectorization-mode parallel: {error}. With --vectorization-mode sync it stays here"
        return [Finding("error", name, message)]
    if found != one.states[: len(found)]:
        message = (
            "in a process of its own it gives other results, with the same seed and actions: it depends on "
            "what this process has done before; let reset(seed=...) decide all of it"
        )
        return [Finding("warning", name, message)]
    return [Finding("ok", name, "it steps in a process of its own as it does here")]


def _encoded(envs: HostEnvs, obs: Any) -> np.ndarray:
    out = np.empty((envs.num_envs, *envs.observation.shape), np.float32)
    envs.observation.encode(obs, out)
    return out
