"""What is acted on: environments from any source, as arrays, with faults that name their place.

Importing it costs next to nothing, for worker processes import from inside of it; a name loads with its
first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proximo.envs.actions import action_codec
    from proximo.envs.compare import check_fits
    from proximo.envs.description import EnvDescription, description_from_json, name_of
    from proximo.envs.episodes import Episode, EpisodeStatistics
    from proximo.envs.faults import check_finite
    from proximo.envs.host import HostEnvs
    from proximo.envs.make import family, find_spec, make_envs, make_one, own_num_envs
    from proximo.envs.remake import select_environment
    from proximo.envs.space_json import count_of, is_single, space_from_json, space_to_json
    from proximo.envs.spaces import ObservationCodec, observation_codec

_HOMES = {
    "actions": ("action_codec",),
    "compare": ("check_fits",),
    "description": ("EnvDescription", "description_from_json", "name_of"),
    "episodes": ("Episode", "EpisodeStatistics"),
    "faults": ("check_finite",),
    "host": ("HostEnvs",),
    "make": ("family", "find_env", "find_spec", "make_envs", "make_one", "own_num_envs"),
    "remake": ("select_environment",),
    "space_json": ("count_of", "is_single", "space_from_json", "space_to_json"),
    "spaces": ("ObservationCodec", "observation_codec"),
}

__all__ = [
    "EnvDescription",
    "Episode",
    "EpisodeStatistics",
    "HostEnvs",
    "ObservationCodec",
    "action_codec",
    "check_finite",
    "check_fits",
    "count_of",
    "description_from_json",
    "family",
    "find_env",
    "find_spec",
    "is_single",
    "make_envs",
    "make_one",
    "name_of",
    "observation_codec",
    "own_num_envs",
    "select_environment",
    "space_from_json",
    "space_to_json",
]


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
