"""What is acted on: environments from any source, as arrays, with faults that name their place."""

from proximo.envs.check import Finding, check
from proximo.envs.episodes import Episode, EpisodeStatistics
from proximo.envs.faults import check_finite
from proximo.envs.host import HostEnvs, Step
from proximo.envs.make import family, make_envs, make_one, max_episode_steps
from proximo.envs.spaces import ActionCodec, ObservationCodec, action_codec, observation_codec

__all__ = [
    "ActionCodec",
    "Episode",
    "EpisodeStatistics",
    "Finding",
    "HostEnvs",
    "ObservationCodec",
    "Step",
    "action_codec",
    "check",
    "check_finite",
    "family",
    "make_envs",
    "make_one",
    "max_episode_steps",
    "observation_codec",
]
