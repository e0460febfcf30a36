"""An environment recreated from its description, or the one that a user passes instead."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gymnasium.envs.registration import EnvSpec, WrapperSpec

from proximo.envs.description import (
    EnvDescription,
    entry_point_of,
    name_of,
    restored,
    wrapper_called,
)
from proximo.envs.make import find_env, find_spec, is_known
from proximo.errors import EnvironmentNotNamed, UserError

Place = tuple[Any, dict[str, Any]]  # what `make_envs` takes as `env` and as `env_kwargs`

# Environments of other libraries, which their arguments name: as good as an import by the file's word.
NAMES_ANOTHER = "shimmy"


def constructor_of(description: EnvDescription) -> Place:
    """What recreates such an environment. Nothing that a file could choose is imported.

    Raises UserError, in one line that says what to do, if it cannot be recreated from its description.
    """
    name, obstacle, source = description.name, description.obstacle, description.source
    if source is not None and not is_known(name if obstacle is None else source):
        raise EnvironmentNotNamed(f"{name} needs code of your own, which no run imports by itself", source)
    if source is not None and obstacle is not None:
        return source, _restored(description.kwargs, name)
    if obstacle is not None:
        raise EnvironmentNotNamed(f"{name} cannot be recreated from the run's files ({obstacle})")
    spec = find_spec(name)
    kwargs = _restored(description.kwargs, description.name)
    if kwargs and NAMES_ANOTHER in str(spec.entry_point):
        raise UserError(f"the arguments of {spec.id} name another environment: pass it yourself, with env=")
    if not description.wrappers:
        return description.name, kwargs
    added = tuple(_wrapper(name, given) for name, given in description.wrappers)
    return replace(spec, additional_wrappers=spec.additional_wrappers + added), kwargs


def select_environment(
    recorded: EnvDescription,
    env: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    allow_import: bool = False,
) -> Place:
    """Where to play: the recorded environment, or the one that the user passes.

    env         None for the recorded one. `module:EnvId` with the recorded id is the recorded one too, with
                its arguments and wrappers: the module is typed only because a file imports none. So are
                `module:Name` and `file.py:Name` with the recorded name, and the class that was recorded.
                Everything else is what it says.
    env_kwargs  arguments that win over the recorded ones
    """
    given = dict(env_kwargs or {})
    if env is None:
        place, kwargs = constructor_of(recorded)
        return place, kwargs | given
    if isinstance(env, str) and ":" in env:
        found = find_env(env, allow_import=allow_import)
        if isinstance(found, EnvSpec) and found.id == recorded.name and recorded.obstacle is None:
            place, kwargs = constructor_of(recorded)
            return place, kwargs | given
        if name_of(env) == recorded.name or (isinstance(found, type) and _is(found, recorded)):
            before = {name: value for name, value in recorded.kwargs.items() if name not in given}
            return env, _restored(before, recorded.name) | given
    if isinstance(env, type) and env_kwargs is None and _is(env, recorded):
        return env, _restored(recorded.kwargs, recorded.name)
    return env, given


def _is(kind: type, recorded: EnvDescription) -> bool:
    """Whether the recorded environment is of this class."""
    name = recorded.layers[-1].partition("@")[0] if recorded.layers else recorded.name
    return name in (kind.__qualname__, kind.__name__)


def _wrapper(name: str, given: Mapping[str, Any]) -> WrapperSpec:
    kind = wrapper_called(name)
    if kind is None:
        raise UserError(f"a file may not name the wrapper {name}: pass the environment yourself, with env=")
    return WrapperSpec(name, entry_point_of(kind), _restored(given, name))


def _restored(kwargs: Mapping[str, Any], owner: str) -> dict[str, Any]:
    try:
        return {name: restored(value) for name, value in kwargs.items()}
    except Exception as error:  # from a file: anything may be wrong with it
        reason = " ".join(f"{error}".split())[:200]
        raise UserError(
            f"the arguments of {owner} cannot be read from a file ({reason}): pass a function that makes it, "
            "as env="
        ) from error
