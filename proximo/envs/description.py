"""What an environment really is, as plain data: enough to recreate it, or to say why that is impossible.

A name alone is not enough: an instance may have been made with arguments of its own, and wrapped. What a
registered environment was made with comes from Gymnasium's own `spec`, and is believed only where the layers
of the environment stand as `gymnasium.make` would put them.
"""

import functools
import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.snapshot import layers
from proximo.paths import absolute, short

# They only look on, so an environment is the same without them.
ONLOOKERS = ("RecordEpisodeStatistics", "RecordVideo", "HumanRendering", "RenderCollection")
STATISTICS = ("NormalizeObservation", "NormalizeReward")  # what they have seen is in no file of a run
OF_A_VECTOR = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")  # arguments of `make_vec`
DRAWING = "render_mode"  # how it is drawn does not change what it is
TAGS = ("__array__", "__float__", "__object__", "__tuple__")  # stand where JSON has no form of its own


class NotPlain(ValueError):
    """A value that no file holds."""


@dataclass(frozen=True)
class EnvDescription:
    """What an environment is.

    name      its registered id; for others the name of the class, or of the function that makes it
    kwargs    what it is made with beyond what the registry says, as `plain` gives it
    wrappers  Gymnasium's wrappers around it, the innermost first: (name, keyword arguments as `plain`)
    layers    the classes of its wrappers and its own, the outermost first; none where they cannot be seen, as
              in a vector of the user's own. Each is "Class@" and eight digits of the SHA-256 of its module's
              name, so that a file tells classes of one name apart, and names no module to import
    obstacle  why it cannot be made again from this; None where it can
    only_name whether nothing but the name was recorded, as in the files of version 0.1
    source    what names it on the command line, `shop.py:Shop`, where it needs code of the user's own: text
              for messages, which is never imported; None where that is not known. It is no part of a model
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    layers: tuple[str, ...] = ()
    obstacle: str | None = None
    only_name: bool = False
    source: str | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """As plain data, without `source`."""
        found = asdict(self) | {"wrappers": list(map(list, self.wrappers)), "layers": list(self.layers)}
        return {name: value for name, value in found.items() if name != "source"}


def description_from_json(data: Mapping[str, Any]) -> EnvDescription:
    """What `as_json` gave. Raises ValueError, KeyError or TypeError where it is not that."""
    added = tuple((name, kwargs) for name, kwargs in data["wrappers"])
    obstacle, layers = data["obstacle"], tuple(data["layers"])
    names = [data["name"], *layers, *(name for name, _ in added)]
    arguments = [data["kwargs"], *(kwargs for _, kwargs in added)]
    if not all(isinstance(name, str) for name in names) or not isinstance(obstacle, str | None):
        raise TypeError("a name in the description of the environment is not text")
    if not all(isinstance(kwargs, dict) for kwargs in arguments):
        raise TypeError("the arguments of the environment are not an object")
    only_name = bool(data["only_name"])
    return EnvDescription(data["name"], data["kwargs"], added, layers, obstacle, only_name)


def name_of(env: Any) -> str:
    """What to call an environment in messages and folders."""
    if isinstance(env, str):
        return env.rpartition(":")[2]
    if isinstance(env, EnvSpec):
        return env.id
    if isinstance(env, functools.partial):
        return name_of(env.func)
    if getattr(env, "__name__", "") == "<lambda>":
        return "lambda"
    spec = getattr(env, "spec", None)
    if isinstance(spec, EnvSpec):
        return spec.id
    bare = env.unwrapped if isinstance(env, gym.Env | gym.vector.VectorEnv) else env
    return getattr(bare, "__name__", type(bare).__name__)


def source_of(env: Any) -> str | None:
    """What names an environment on the command line, where that needs code of the user's own; None otherwise.

    `shop.py:Shop` as it was typed; `shop:Shop` for a class or a function of a module, `script.py:Shop` where
    this is the program that runs, `shop:Shop-v0` for an id that a module registers.
    """
    if isinstance(env, str):
        if ":" in env:
            return env
        env = gym.registry.get(env)
    if isinstance(env, functools.partial):
        return source_of(env.func)
    if isinstance(env, gym.Env):
        env = env.spec or type(env)
    if isinstance(env, EnvSpec):
        entry = env.entry_point
        module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        return _of_module(module, env.id) if module and not module.startswith(KNOWN) else None
    return _of_module(env.__module__, env.__qualname__) if callable(env) and importable(env) else None


KNOWN = ("gymnasium.", "ale_py.")  # registered without a module of the user's


def _of_module(module: str, name: str) -> str | None:
    if module != "__main__":
        return f"{module}:{name}"
    file = getattr(sys.modules[module], "__file__", None)  # a notebook has none
    return None if file is None else f"{short(absolute(file))}:{name}"


def importable(env: Any) -> bool:
    """Whether another process finds this by its name: an id, or a class or function of a module."""
    found = sys.modules.get(getattr(env, "__module__", None) or "")
    for part in getattr(env, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return isinstance(env, str) or (callable(env) and found is env)


def described(env: Any, kwargs: Mapping[str, Any], vector: gym.vector.VectorEnv) -> EnvDescription:
    """What the environments of a vector are.

    env     what they were made from: anything that `make_envs` takes
    kwargs  what they were made with
    """
    seen = visible(vector) or ([vector.probe] if isinstance(vector, ParallelVectorEnv) else [])
    if seen:
        found = [_of_one(env, kwargs, one) for one in seen]
        first = found[0]
        unequal = "the environments of its vector differ" if any(one != first for one in found) else None
    else:
        spec = getattr(vector, "spec", None)
        first = _of_spec(spec, None) if isinstance(spec, EnvSpec) else _of_object(env, kwargs, None)
        unequal = None
    *wrapped, _ = (type(layer).__name__ for layer in layers(vector))
    over = next((name for name in wrapped if name not in ONLOOKERS), None)
    obstacle = f"its vector is wrapped in {over}" if over else unequal
    return replace(first, obstacle=obstacle or first.obstacle, source=source_of(env))


def visible(vector: gym.vector.VectorEnv) -> list[gym.Env]:
    """The environments of a vector that lie in this process, as far as it shows them."""
    return [env for env in getattr(vector.unwrapped, "envs", None) or () if isinstance(env, gym.Env)]


def _of_one(env: Any, kwargs: Mapping[str, Any], made: gym.Env) -> EnvDescription:
    return _of_spec(made.spec, made) if isinstance(made.spec, EnvSpec) else _of_object(env, kwargs, made)


def _of_object(env: Any, kwargs: Mapping[str, Any], made: gym.Env | None) -> EnvDescription:
    """Of what is not registered: it can be compared, but not made."""
    if isinstance(env, functools.partial):
        return _of_object(env.func, {**env.keywords, **kwargs}, made)
    named = name_of(made) if made is not None and isinstance(env, gym.vector.VectorEnv) else name_of(env)
    if made is None:
        return EnvDescription(
            named, plain_arguments(kwargs), obstacle="its environments are in other processes"
        )
    what = "Gymnasium's registry has no such id"
    return EnvDescription(named, plain_arguments(kwargs), layers=_layers(made), obstacle=what)


def _of_spec(spec: EnvSpec, made: gym.Env | None) -> EnvDescription:
    """Of what Gymnasium's registry knows.

    made  the environment, where it can be seen
    """
    layers = () if made is None else _layers(made)
    known = gym.registry.get(spec.id)
    if known is None:
        return EnvDescription(spec.id, plain_arguments(spec.kwargs), (), layers, "its id is not registered")
    kwargs = plain_arguments({k: v for k, v in spec.kwargs.items() if k not in OF_A_VECTOR})
    standard = plain_arguments({"max_episode_steps": known.max_episode_steps} | known.kwargs)
    if spec.max_episode_steps != known.max_episode_steps:
        kwargs["max_episode_steps"] = -1 if spec.max_episode_steps is None else spec.max_episode_steps
    kwargs = {k: v for k, v in kwargs.items() if k not in standard or standard[k] != v}
    applied = [one for one in spec.additional_wrappers if one.name not in ONLOOKERS]
    inside = 0 if made is None else _wrapped_by_itself(spec, applied, made)
    added = applied[max(inside or 0, len(known.additional_wrappers)) :]
    obstacles = [
        f"the registry has another {spec.id}" if _entry(spec) != _entry(known) else None,
        "" if made is None else _of_another_class(known, made),
        "its wrappers are not in the order of gymnasium.make" if inside is None else None,
        "its entry point already wraps it" if inside and added else None,
        "its vector was made with wrappers" if spec.kwargs.get("wrappers") else None,
        _unwritable(kwargs),
        *map(_obstacle_of, added),
    ]
    arguments = tuple((one.name, plain_arguments(one.kwargs or {})) for one in added)
    return EnvDescription(spec.id, kwargs, arguments, layers, next(filter(None, obstacles), None))


def _wrapped_by_itself(spec: EnvSpec, applied: list[WrapperSpec], made: gym.Env) -> int | None:
    """How many of its wrappers its entry point applied; None where `gymnasium.make` never makes it so."""
    seen = [type(layer).__name__ for layer in _stack(made)]
    names = [one.name for one in applied]
    limit = ["TimeLimit"] if spec.max_episode_steps is not None else []
    order = ["OrderEnforcing"] if spec.order_enforce else []
    for inside in range(len(names) + 1):
        if [*names[inside:][::-1], *limit, *order, *names[:inside][::-1]] == seen[:-1]:
            return inside
    return None


def _of_another_class(known: EnvSpec, made: gym.Env) -> str | None:
    """A spec can be copied onto an environment that the registry does not mean."""
    entry, own = _entry(known), type(made.unwrapped)
    other = isinstance(entry, type) and not issubclass(entry, gym.Wrapper) and entry is not own
    return f"it is a {own.__name__}, the registry's a {entry.__name__}" if other else None


def _entry(spec: EnvSpec) -> Any:
    """What makes an environment: the class or function itself, where its module is imported already."""
    if not isinstance(spec.entry_point, str):
        return spec.entry_point
    module, _, name = spec.entry_point.partition(":")
    return getattr(sys.modules.get(module), name, spec.entry_point)


def _obstacle_of(wrapper: WrapperSpec) -> str | None:
    """Why a wrapper cannot be put on again from a file."""
    if wrapper.name in STATISTICS:
        return f"the statistics of its wrapper {wrapper.name} are not saved"
    kind = wrapper_called(wrapper.name)
    if kind is None or wrapper.entry_point != entry_point_of(kind):
        return f"its wrapper {wrapper.name} is not one of Gymnasium's"
    if wrapper.kwargs is None:
        return f"its wrapper {wrapper.name} does not record its arguments"
    return _unwritable(plain_arguments(wrapper.kwargs), f" of its wrapper {wrapper.name}")


def wrapper_called(name: str) -> type[gym.Wrapper] | None:
    """Gymnasium's wrapper of this name that may be put on by a file's word; None for all others.

    Nothing but Gymnasium's own list is looked into, so a name imports nothing of anybody else's.
    """
    if name not in wrappers.__all__ or name in (*ONLOOKERS, *STATISTICS):
        return None
    kind = vars(wrappers).get(name)  # what it would import first, of other array libraries, is left alone
    return kind if isinstance(kind, type) and issubclass(kind, gym.Wrapper) else None


def entry_point_of(kind: type) -> str:
    """Where Gymnasium finds a class."""
    return f"{kind.__module__}:{kind.__name__}"


def _stack(env: gym.Env) -> list[gym.Env]:
    """The environment with its wrappers, the outermost first, without those that change nothing."""
    stack: list[gym.Env] = []
    while isinstance(env, gym.Wrapper):
        if type(env).__name__ not in (*ONLOOKERS, "PassiveEnvChecker") and not _later_limit(stack, env):
            stack.append(env)
        env = env.env
    return [*stack, env]


def _later_limit(outer: list[gym.Env], layer: gym.Env) -> bool:
    """A time limit directly inside one that ends every episode before."""
    limits = [one for one in (*outer[-1:], layer) if isinstance(one, wrappers.TimeLimit)]
    return len(limits) == 2 and limits[0]._max_episode_steps <= limits[1]._max_episode_steps


def _layers(env: gym.Env) -> tuple[str, ...]:
    stack = [layer for layer in _stack(env) if not isinstance(layer, wrappers.OrderEnforcing)]
    return tuple(f"{type(layer).__qualname__}@{_digest(type(layer).__module__)}" for layer in stack)


def _digest(module: str) -> str:
    """Of a module's name; nothing for the script that is run, which has another name where it is imported."""
    return "" if module == "__main__" else hashlib.sha256(module.encode()).hexdigest()[:8]


# ---- arguments as plain data


def plain_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as JSON holds them; what no file holds is named by its kind."""
    return {name: plain(value) for name, value in kwargs.items() if name != DRAWING}


def plain(value: Any) -> Any:
    """A value as JSON holds it, so that `restored` gives the same again."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return {"__array__": plain(value.tolist()), "dtype": str(value.dtype), "scalar": value.ndim == 0}
    if type(value) is float and not math.isfinite(value):
        return {"__float__": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [plain(part) for part in value]
    if type(value) is tuple:
        return {"__tuple__": [plain(part) for part in value]}
    if type(value) is dict and all(type(key) is str and key not in TAGS for key in value):
        return {key: plain(part) for key, part in value.items()}
    kind = type(value).__name__
    return {"__object__": f"{kind} {getattr(value, '__qualname__', '')}".strip()}


def restored(value: Any) -> Any:
    """The inverse of `plain`. Raises NotPlain for what no file holds, KeyError and the like for nonsense."""
    if isinstance(value, list):
        return [restored(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "__object__" in value:
        raise NotPlain(str(value["__object__"]))
    if "__tuple__" in value:
        return tuple(restored(part) for part in value["__tuple__"])
    if "__float__" in value:
        return float(value["__float__"])
    if "__array__" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in "biuf":
            raise ValueError(f"{dtype} is not a numeric type")
        array = np.array(restored(value["__array__"]), dtype)
        return array[()] if value["scalar"] else array
    return {key: restored(part) for key, part in value.items()}


def _unwritable(kwargs: Mapping[str, Any], of: str = "") -> str | None:
    """The first argument that no file holds, in words."""
    for name, value in kwargs.items():
        try:
            restored(value)
        except NotPlain as error:
            return f"the argument {name!r}{of} is a {error}, which cannot be saved in a file"
    return None
