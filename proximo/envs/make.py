"""Environments from whatever the user has: an id, a class, a function, an instance or a vector."""

import ast
import difflib
import importlib
import math
import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from proximo.envs import atari
from proximo.envs.actions import codecs
from proximo.envs.description import described, name_of, plain_arguments
from proximo.envs.host import HostEnvs
from proximo.envs.in_use import mark_in_use
from proximo.envs.mujoco_warnings import make_with_unique_warnings
from proximo.envs.pool import POOL, register_pool
from proximo.envs.vector.parallel import ParallelVectorEnv, spare_workers
from proximo.errors import UserError, reason
from proximo.importing import defined_in, import_named, user_object

Made = TypeVar("Made")

VECTORIZATION_MODES = ("sync", "async", "vector_entry_point", "parallel", "auto")
VECTOR_OPTIONS = {"max_restarts", "restart_interval", "step_timeout", "reset_timeout"}  # of our own

# Where a registered environment's code lives -> what it is called here.
FAMILIES = {
    "gymnasium.envs.classic_control": "classic_control",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.toy_text": "toy_text",
    "ale_py": "atari",
    "minatar": "minatar",
    "proximo.envs.pool:AtariPool": "atari",
    "proximo.envs.pool:ProcgenPool": "procgen",
}

# How ids begin that a package registers, once it is imported -> its module. No other is imported for an id.
PACKAGES = {"MinAtar/": "minatar.gym", "MiniGrid-": "minigrid", "BabyAI-": "minigrid", "popgym-": "popgym"}

# A word in the complaint about a missing package -> the extra that installs it.
EXTRAS = {
    **{name: name for name in ("mujoco", "box2d", "minatar", "envpool", "atari")},
    "ale_py": "atari",
}
USE_SYNC = "use vectorization_mode='sync'"


def make_envs(
    env: Any,
    num_envs: int | None = None,
    *,
    vectorization_mode: str | None = None,
    allow_import: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> HostEnvs:
    """Make `num_envs` copies of an environment, stepped together.

    env                 a registered id ("CartPole-v1"); "module:EnvId", which imports the module; an
                        Env subclass or a function that returns an Env, or its name, "module:Name" or
                        "file.py:Name"; a Gymnasium EnvSpec; an Env instance; or a VectorEnv, used as it is
    num_envs            how many, at least 1; None means 1, or as many as the VectorEnv has
    vectorization_mode  "sync" (one after another, in this process), "async" (a process for each),
                        "parallel" (split across cores, one of them for this process), "auto" (that, or
                        "sync" while that is faster), or "vector_entry_point" (the environment's
                        own vector version); None means "sync"
    allow_import        whether such a name may import its module. Importing runs the module's code, so only a
                        name that the user himself typed may; never one read from a file.
    env_kwargs, kwargs  for the environment's constructor; `vector_kwargs` (a dict) for the vector's: limits
                        as of `ParallelVectorEnv`, or what the environment's own version takes. With "sync"
                        time has no limit unless one is given there.

    Raises UserError, in one line that says what to do, if it cannot be made, and if it is an object that a
    training or an evaluation uses already.
    """
    kwargs |= env_kwargs or {}
    own = {name: value for name, value in kwargs.items() if name != "vector_kwargs"}
    mode = "sync" if vectorization_mode is None else vectorization_mode
    if mode not in VECTORIZATION_MODES:
        raise UserError(f"vectorization_mode is {mode!r}: use one of {', '.join(VECTORIZATION_MODES)}")
    if num_envs is not None and num_envs < 1:
        raise UserError(f"num_envs is {num_envs}: it must be at least 1")
    count = 1 if num_envs is None else num_envs
    # EnvPool's environments are both a VectorEnv and an Env, hence vectors come first.
    found = find_env(env, allow_import=allow_import) if isinstance(env, str) else env
    if isinstance(found, gym.vector.VectorEnv):
        envs = _from_vector(found, num_envs, kwargs)
    elif isinstance(found, EnvSpec):
        envs = _from_spec(found, count, mode, kwargs)
    else:
        envs = _from_constructor(found, count, mode, kwargs, named=isinstance(env, str))
    envs.release = mark_in_use(envs, envs.vector)  # what is refused stays open: it is somebody else's
    envs.description = described(env, own, envs.vector)
    if atari.is_atari(envs.vector.unwrapped):  # whose ids all mean the same: what was asked for counts
        envs.description = replace(envs.description, kwargs=plain_arguments(own))
    return envs


def make_one(
    env: Any, *, allow_import: bool = False, env_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
) -> gym.Env:
    """One environment, not vectorised, from what `make_envs` takes, except a VectorEnv. Raises UserError."""
    kwargs |= env_kwargs or {}
    found = find_env(env, allow_import=allow_import) if isinstance(env, str) else env
    if isinstance(found, EnvSpec):
        if found.entry_point is None:
            raise UserError(
                f"{found.id} exists as a vector alone, which can be trained and evaluated: for a single one "
                "take the package that it comes from"
            )
        make = partial(make_with_unique_warnings, found, disable_env_checker=True, **kwargs)
        return _attempt(found.id, make)
    return _one(name_of(found), _constructor(found, kwargs))


def own_num_envs(env: Any) -> int | None:
    """How many environments an object brings along; None where as many as wanted can be made."""
    if isinstance(env, gym.vector.VectorEnv):
        return env.num_envs
    return 1 if isinstance(env, gym.Env) else None


def family(env_id: str | EnvSpec) -> str:
    """The family of a registered environment, read from the registry without making it.

    One of "classic_control", "box2d", "mujoco", "atari", "minatar", "procgen", "toy_text", "other". Raises
    UserError if unknown.
    """
    spec = find_spec(env_id)
    entry = spec.entry_point or spec.vector_entry_point
    place = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return next((name for prefix, name in FAMILIES.items() if place.startswith(prefix)), "other")


_named: dict[str, Callable[..., Any]] = {}  # classes and functions that the user named in this process


def is_known(name: str) -> bool:
    """Whether an id is registered, or a name of the user's code was imported, in this process already."""
    return name in gym.registry or name in _named


def find_env(name: str, *, allow_import: bool = False) -> EnvSpec | Callable[..., Any]:
    """What a name means: the registry's entry for an id, or a class or a function of the user's code.

    name          an id; "module:EnvId", whose module registers it; "module:Name" or "file.py:Name"
    allow_import  whether it may import the module, as of `make_envs`. Without it only those names are known
                  that were imported in this process before, as ids are once they are registered

    Raises UserError, with the nearest names, if there is none.
    """
    module, separator, last = name.rpartition(":")
    if separator and allow_import:
        defined = import_named(module)
        if last not in gym.registry:
            _named[name] = _own(name, defined)
    if name in _named:
        return _named[name]
    return find_spec(name)


def _own(name: str, module: ModuleType) -> Callable[..., Any]:
    """The class or the function that a name stands for in a module. Raises UserError for what is neither."""
    place, _, last = name.rpartition(":")
    if not hasattr(module, last.partition(".")[0]):
        there = {*defined_in(module), *gym.registry}
        close = difflib.get_close_matches(last, there, n=3)
        own = close or [one for one in defined_in(module) if not one.startswith("_")]
        hint = f"did you mean {', '.join(f'{place}:{one}' for one in own)}?" if own else "it defines none"
        raise UserError(f"{place} has no environment {last!r}, neither a class nor a registered id: {hint}")
    found = user_object(name, "environment")
    if not callable(found):
        raise UserError(
            f"{name} is an object of {type(found).__name__}: name its class, or a function that makes it"
        )
    made: Callable[..., Any] = found
    return made


def find_spec(env_id: str | EnvSpec) -> EnvSpec:
    """The registry's entry for an id. Raises UserError, with the nearest names, if there is none."""
    if isinstance(env_id, EnvSpec):
        return env_id
    module, separator, name = env_id.rpartition(":")
    if separator and name not in gym.registry:
        raise UserError(
            f"{env_id!r} names a module to import, which runs its code: type it on the command line, or pass "
            f"allow_import=True if you trust {module!r}"
        )
    package = next((package for start, package in PACKAGES.items() if name.startswith(start)), None)
    if package is not None and name not in gym.registry:
        _attempt(name, lambda: _register(package))
    if name.startswith(POOL) and name not in gym.registry:
        _attempt(name, lambda: register_pool(name))
    spec = gym.registry.get(name) or _attempt(name, lambda: atari.find(name))
    if spec is None:
        raise UserError(_unknown(name))
    return spec


def _register(package: str) -> None:
    """Import what registers ids; MinAtar does so when it is asked."""
    module = importlib.import_module(package)
    getattr(module, "register_envs", lambda: None)()


def _from_vector(env: gym.vector.VectorEnv, num_envs: int | None, kwargs: dict[str, Any]) -> HostEnvs:
    options = sorted(set(kwargs) - {"vector_kwargs"})  # those are limits of our own vector
    if options:
        raise UserError(f"options {options} cannot be given to a vector: pass them when you create it")
    if num_envs not in (None, env.num_envs):
        raise UserError(f"num_envs is {num_envs}, but the vector holds {env.num_envs}: leave num_envs out")
    inner = getattr(env.unwrapped, "envs", None)  # a SyncVectorEnv is best called what it holds
    return HostEnvs(env, name_of(inner[0] if inner and env.spec is None else env), owned=False)


def _from_spec(spec: EnvSpec, count: int, mode: str, kwargs: dict[str, Any]) -> HostEnvs:
    options = kwargs.pop("vector_kwargs", {})
    if mode == "vector_entry_point" and spec.entry_point is not None and family(spec) == "atari":
        envs = HostEnvs(_attempt(spec.id, lambda: atari.make_vector(spec, count, kwargs)), spec.id)
        envs.found = atari.in_words(atari.game_of(spec, kwargs))
        return envs
    if mode == "vector_entry_point" or spec.entry_point is None:  # what has no other is asked for that one
        if spec.vector_entry_point is None:
            raise UserError(f"{spec.id} has no vector version of its own: {USE_SYNC} or 'async'")
        limits = {} if spec.entry_point is None else options  # those of our own vector
        make_vector = partial(gym.make_vec, spec, count, "vector_entry_point", limits, **kwargs)
        return HostEnvs(_attempt(spec.id, make_vector), spec.id)
    entry = spec.entry_point  # by name, another process finds it again: not in the program that was typed
    named = isinstance(entry, str) and not entry.startswith("__main__:")
    workers = _workers(spec.id, mode, count, named)
    if workers and isinstance(entry, str) and not named:
        creator: Any = load_env_creator(entry)
        spec = replace(spec, entry_point=creator)
    make = partial(make_with_unique_warnings, spec, **kwargs)
    return HostEnvs(_vector(spec.id, make, count, mode, workers, options), spec.id)


def _from_constructor(
    env: Any, count: int, mode: str, kwargs: dict[str, Any], *, named: bool = False
) -> HostEnvs:
    name, made = name_of(env), isinstance(env, gym.Env)
    if mode == "vector_entry_point":
        raise UserError(f"vectorization_mode={mode!r} needs a registered id: {USE_SYNC} or 'async'")
    if made and (count != 1 or mode == "async"):
        raise UserError(
            f"num_envs is {count} and vectorization_mode {mode!r}, but an instance is a single "
            "environment in this process: pass the class, or a function that makes a new environment"
        )
    options = kwargs.pop("vector_kwargs", {})
    if made:
        options = {**options, "max_restarts": 0}  # it cannot be made a second time
    make = _constructor(env, kwargs)
    vector = _vector(name, make, count, mode, _workers(name, mode, count, named), options)
    return HostEnvs(vector, name, owned=not made)


def _workers(name: str, mode: str, count: int, named: bool) -> int:
    """How many processes step the environments beside this one.

    named  whether another process finds them by name; functions and classes may share what they remember
    """
    if mode == "async":
        if multiprocessing.current_process().daemon:
            why = "in a worker of a multiprocessing pool"
            raise UserError(f"{name} cannot start worker processes {why}: {USE_SYNC}")
        return count
    return spare_workers(count) if mode in ("parallel", "auto") and named else 0


def _vector(
    name: str, make: Callable[[], gym.Env], count: int, mode: str, workers: int, options: dict[str, Any]
) -> ParallelVectorEnv:
    unknown = sorted(set(options) - VECTOR_OPTIONS)
    if unknown:
        raise UserError(
            f"vector_kwargs has {', '.join(unknown)}: use {', '.join(sorted(VECTOR_OPTIONS))}; for "
            "options of a Gymnasium vector, create that vector and pass it"
        )
    if mode == "sync":
        options = {"step_timeout": math.inf, "reset_timeout": math.inf, **options}
    probe = _one(name, make)

    def assemble() -> ParallelVectorEnv:
        codecs(probe.observation_space, probe.action_space)  # says what is not supported before a vector can
        return ParallelVectorEnv(make, probe, count, workers, adapt=mode == "auto", **options)

    return _attempt(name, assemble)


def _constructor(env: Any, kwargs: dict[str, Any]) -> Callable[[], Any]:
    if isinstance(env, gym.Env):
        if kwargs:
            raise UserError(f"options {sorted(kwargs)} cannot be given to an instance: pass its class")
        return lambda: env
    if not callable(env):
        raise UserError(
            f"{type(env).__name__} is not an environment: pass a registered id such as 'CartPole-v1', a "
            "gymnasium.Env class, a function that returns one, an instance, or a gymnasium VectorEnv"
        )
    return partial(env, **kwargs)


def _one(name: str, make: Callable[[], Any]) -> gym.Env:
    """One environment. Raises UserError for anything else."""
    made = _attempt(name, make)
    if not isinstance(made, gym.Env):
        raise UserError(
            f"{name} makes a {type(made).__name__}, which is not a gymnasium.Env: inherit from "
            "gymnasium.Env (the old `gym` package is not enough)"
        )
    return made


def _attempt(name: str, make: Callable[[], Made]) -> Made:
    """Call `make`; whatever it raises becomes a UserError of one line."""
    try:
        return make()
    except UserError:
        raise
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        what = "something" if _is_beside_python(error) else "a package"
        raise UserError(f"{name} needs {what} that is not installed: {_remedy(name, error)}") from error
    except BaseException as raised:
        why = reason(raised)
        raise UserError(f"{name} could not be made: {why} (--debug shows its traceback)") from raised


def _is_beside_python(error: Exception) -> bool:
    """Whether a package is there and says that it misses another program, as EnvPool's Procgen misses Qt."""
    return type(error) is ImportError and error.name is None


def _remedy(name: str, error: Exception) -> str:
    if _is_beside_python(error):
        return " ".join(str(error).split())
    kind = family(name) if name in gym.registry else ""
    complaint = f"{kind} {getattr(error, 'name', '')} {error}".lower()
    for word, extra in EXTRAS.items():
        if word in complaint and "gymnasium-robotics" not in complaint:
            return f'pip install "proximo[{extra}]"'
    return " ".join(str(error).split())


def _unknown(name: str) -> str:
    file = Path(name if name.endswith(".py") else f"{name}.py")
    if file.is_file():
        return f"{file} is a file: name the class or the function in it, {file}:{_first_class(file)}"
    by_lower_case = {known.lower(): known for known in gym.registry}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.6)
    nearest = ", ".join(by_lower_case[match] for match in close)
    hint = f"did you mean {nearest}?" if nearest else "gymnasium.pprint_registry() lists all"
    return (
        f"no environment is called {name!r}: {hint} (name one of your own with its file or module each time: "
        f"shop.py:Shop, module:{name})"
    )


def _first_class(file: Path) -> str:
    """The first class in a file, which is read, not run; NAME where there is none."""
    try:
        tree = ast.parse(file.read_text())
    except (OSError, ValueError, SyntaxError):
        return "NAME"
    return next((node.name for node in tree.body if isinstance(node, ast.ClassDef)), "NAME")
