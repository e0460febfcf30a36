"""The state of one environment as plain data, and back."""

import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers

from proximo.errors import WorkerError, reason

# Wrappers whose state we know: the attributes that change after construction. Where Gymnasium's checker
# remembers the last observation it is for a warning alone, so its flags suffice.
KNOWN = {
    wrappers.TimeLimit: ("_elapsed_steps",),
    wrappers.OrderEnforcing: ("_has_reset",),
    wrappers.PassiveEnvChecker: ("checked_reset", "checked_step", "checked_render", "checked_data_reuse"),
}
STATELESS = frozenset(
    (
        wrappers.ClipAction,
        wrappers.ClipReward,
        wrappers.DtypeObservation,
        wrappers.FilterObservation,
        wrappers.FlattenObservation,
        wrappers.GrayscaleObservation,
        wrappers.RescaleAction,
        wrappers.RescaleObservation,
        wrappers.ReshapeObservation,
        wrappers.ResizeObservation,
    )
)
FAMILIES = ("classic_control", "mujoco", "toy_text")  # whose own attributes are known to be all there is
NEVER = ("_ezpickle", "_np_random")  # beginnings of names: constants, and what is saved in another way


REFUSED = "its set_state() failed"  # by these words it is known, in whichever process that was


class NotPlain(WorkerError):
    """A value that is not plain data."""


class StateNotAccepted(WorkerError):
    """An environment failed to restore its state."""


def save(env: gym.Env) -> dict[str, Any] | None:
    """Everything that an environment needs to continue exactly, with its wrappers; None if we cannot know.

    Known are Gymnasium's classic control, toy text and MuJoCo environments, Gymnasium's own wrappers
    without a state or with a simple one, and every environment or wrapper that has the two methods

        get_state() -> plain data: numbers, strings, None, NumPy arrays, and dicts, lists, tuples of them
        set_state(state)           takes what the other one gave; called after a reset

    `np_random` of gymnasium.Env is saved beside what they give; a wrapper's pair speaks of itself alone.
    Raises what they raise, and NotPlain for what is not plain data.
    """
    saved = {}
    for number, layer in enumerate(layers(env)):
        state = _save_layer(layer)
        if state is None:
            return None
        saved[str(number)] = {"class": type(layer).__name__, **state}
    return saved


def restore(env: gym.Env, saved: dict[str, Any]) -> None:
    """Put back what `save` gave, into an environment that was reset.

    Raises ValueError if it does not fit, Refused where `set_state` fails.
    """
    found = list(layers(env))
    names = [type(layer).__name__ for layer in found]
    theirs = [saved[str(number)]["class"] for number in range(len(saved))]
    if names != theirs:
        raise ValueError(f"it was saved from {' in '.join(theirs[::-1])}, this is {' in '.join(names[::-1])}")
    for number, layer in enumerate(found):
        _restore_layer(layer, saved[str(number)])


def native(env: gym.Env) -> bool:
    """Whether all of its state is in Gymnasium's own classes."""
    return all(_known(layer) and not offers(layer) for layer in layers(env))


def layers(env: Any) -> Iterator[Any]:
    """An environment or a vector, from its outermost wrapper to itself."""
    while isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
        yield env
        env = env.env
    yield env


def _save_layer(layer: gym.Env) -> dict[str, Any] | None:
    pair = offers(layer)
    if not pair and not _known(layer):
        return None
    state: dict[str, Any] = {}
    if not isinstance(layer, gym.Wrapper):
        if not isinstance(layer.np_random, np.random.Generator):
            kind = type(layer.np_random).__name__
            raise NotPlain(f"its np_random is a {kind}, and only a numpy.random.Generator can be saved")
        state["random"] = pack(layer.np_random.bit_generator.state)
    if pair:
        try:
            return {**state, "offered": pack(layer.get_state())}  # type: ignore[attr-defined]
        except NotPlain as error:
            raise NotPlain(f"its get_state() returns a {error}, which is not plain data") from error
    state["attributes"] = _attributes(layer)
    if _simulated(layer):
        if layer.model.nplugin:  # type: ignore[attr-defined]
            return None  # a plugin may keep a state of its own
        state.update(_save_physics(layer))
    return state


def _restore_layer(layer: gym.Env, state: dict[str, Any]) -> None:
    if not isinstance(layer, gym.Wrapper):
        layer.np_random.bit_generator.state = unpack(state["random"])
    if offers(layer):
        offered = unpack(state["offered"])
        try:
            layer.set_state(offered)  # type: ignore[attr-defined]
        except BaseException as raised:
            raise StateNotAccepted(f"{REFUSED}: {reason(raised)}") from raised
        return
    if not _known(layer):
        raise ValueError(f"{type(layer).__name__} cannot restore its state: define get_state and set_state")
    _restore_attributes(layer, state["attributes"])
    if _simulated(layer):
        _restore_physics(layer, state)


def offers(layer: gym.Env) -> bool:
    """Whether it has the pair. A `set_state` of two arguments, as MujocoEnv's, is another matter."""
    setter = getattr(layer, "set_state", None)
    if not callable(getattr(layer, "get_state", None)) or not callable(setter):
        return False
    try:
        inspect.signature(setter).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def _known(layer: gym.Env) -> bool:
    """By the exact class: one that inherits from it may have more to remember."""
    kind = type(layer)
    if isinstance(layer, gym.Wrapper):
        return kind in KNOWN or kind in STATELESS
    return any(kind.__module__.startswith(f"gymnasium.envs.{family}.") for family in FAMILIES)


def _simulated(layer: gym.Env) -> bool:
    return type(layer).__module__.startswith("gymnasium.envs.mujoco.")


def _attributes(layer: gym.Env) -> dict[str, Any]:
    """Those attributes that are plain data; spaces, windows and simulations are not."""
    have = vars(layer)
    if isinstance(layer, gym.Wrapper):
        names = [name for name in KNOWN.get(type(layer), ()) if name in have]
    else:
        names = [name for name in have if not name.startswith(NEVER)]
    found = {}
    for name in names:
        if isinstance(have[name], str | dict):
            continue  # paths and descriptions
        try:
            found[name] = pack(have[name])
        except NotPlain:
            continue
    return found


def _restore_attributes(layer: gym.Env, saved: dict[str, Any]) -> None:
    name, have, mine = type(layer).__name__, vars(layer), _attributes(layer)
    unknown = sorted(set(saved) - set(have))
    missing = sorted(key for key in set(mine) - set(saved) if mine[key] is not None)
    if unknown or missing:
        raise ValueError(f"{name} has {'no' if unknown else 'also'} {', '.join(unknown or missing)}")
    for key in set(saved) & set(mine):
        value = unpack(saved[key])
        if isinstance(value, np.ndarray) and isinstance(have[key], np.ndarray):
            _same_shape(f"{name}.{key}", value, have[key])
        setattr(layer, key, value)


def _save_physics(env: Any) -> dict[str, Any]:
    """The simulation's state, and what was derived from it.

    Derived quantities are saved too: after a step they lag the state by a substep, so `mj_forward` would
    give other numbers, and some observations and rewards are read from them before the next step.
    """
    import mujoco

    integration = np.empty(mujoco.mj_stateSize(env.model, _spec()))
    mujoco.mj_getState(env.model, env.data, integration, _spec())
    return {"integration": integration, "derived": {name: np.array(x) for name, x in _derived(env).items()}}


def _restore_physics(env: Any, state: dict[str, Any]) -> None:
    import mujoco

    integration, derived, found = state["integration"], state["derived"], _derived(env)
    if set(derived) != set(found):
        differ = sorted(set(derived) ^ set(found))
        raise ValueError(
            f"the simulation's arrays differ: {', '.join(differ)}; use the version of MuJoCo that saved it"
        )
    _same_shape("the simulation's state", integration, np.empty(mujoco.mj_stateSize(env.model, _spec())))
    for name, array in found.items():
        _same_shape(name, derived[name], array)
    mujoco.mj_setState(env.model, env.data, integration, _spec())
    mujoco.mj_forward(env.model, env.data)  # for contacts, which are not saved: a step finds them anew
    for name, array in found.items():
        array[...] = derived[name]


def _spec() -> int:
    import mujoco

    return int(mujoco.mjtState.mjSTATE_INTEGRATION.value)


def _derived(env: Any) -> dict[str, np.ndarray]:
    """The arrays of numbers whose size does not depend on contacts: those that empty data has too.

    Integers are left alone. They index memory, and a step computes those that change anew.
    """
    import mujoco

    empty = mujoco.MjData(env.model)
    arrays = ((name, getattr(empty, name)) for name in dir(empty) if not name.startswith("_"))
    kept = [name for name, x in arrays if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.size]
    return {name: getattr(env.data, name) for name in kept}


def _same_shape(name: str, found: Any, expected: np.ndarray) -> None:
    if np.shape(found) != expected.shape:
        raise ValueError(f"{name} has the shape {expected.shape}, but {np.shape(found)} in the saved state")


def pack(value: Any) -> Any:
    """As numbers, strings, None, arrays and dicts of them, such that `unpack` gives the same types again.

    A dict has one entry, which says what it stands for: JSON knows no tuples, NumPy scalars, infinities or
    numbers of more than 64 bits. Raises NotPlain.
    """
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if abs(value) < 2**63 else {"int": str(value)}
    if type(value) is float:
        return value if np.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": np.array(value)}
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return np.array(value, order="C")
    if type(value) in (list, tuple):
        return {type(value).__name__: {str(i): pack(x) for i, x in enumerate(value)}}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: pack(x) for key, x in value.items()}}
    raise NotPlain(type(value).__name__)


def unpack(packed: Any) -> Any:
    """What was given to `pack`. Raises ValueError for what `pack` does not give."""
    if not isinstance(packed, dict):
        return packed.copy() if isinstance(packed, np.ndarray) else packed
    if len(packed) != 1:
        raise ValueError(f"a packed value has one entry, not {len(packed)}")
    ((kind, content),) = packed.items()
    if kind == "int":
        return int(content)
    if kind == "float":
        return float(content)
    if kind == "scalar":
        return np.asarray(content)[()]
    if kind in ("list", "tuple"):
        values = [unpack(content[str(i)]) for i in range(len(content))]
        return tuple(values) if kind == "tuple" else values
    if kind == "dict":
        return {key: unpack(x) for key, x in content.items()}
    raise ValueError(f"a packed value cannot be a {kind!r}")
