"""Where experience comes from: the environments of a training, and the policies that act in them."""

import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.control.acting import Actor, Columns, on_host
from proximo.control.collect import Stream, advise, collect, rows_of
from proximo.control.config import Config
from proximo.control.seen import codec_asked, codec_of, require_image
from proximo.core.types import Experience
from proximo.envs import HostEnvs, ObservationCodec, advice, make_envs
from proximo.envs.actions import ActionCodec
from proximo.envs.parts import only, without, without_masks
from proximo.envs.scaling import require_bounds, require_numbers, scaled_codec
from proximo.envs.space_words import in_words, masks_in_words
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.errors import UserError
from proximo.learn.batches import memory_advice
from proximo.learn.update import Learner
from proximo.options import kebab
from proximo.policies import takes_parts
from proximo.policies.attention import Transformer
from proximo.policies.distributions import Normal
from proximo.policies.encoders import reading_in_words
from proximo.runs.forks import refuse_after_fork
from proximo.runs.progress import FOUND


class Arena:
    """Environments in the middle of their stream, and who acts in them.

    stream   where the environments are; closed with the arena
    actor    the policies of their columns
    keys     of the noise of actions: a JAX key, or [policies]
    horizon  T
    """

    def __init__(self, stream: Stream, actor: Actor, keys: Array, horizon: int) -> None:
        self.stream, self.actor, self.keys = stream, actor, keys
        self.shape = (horizon, stream.envs.num_envs // (actor.columns.policies or 1))

    def experience(self, learner: Learner, number: int) -> Experience:
        """T steps of every environment, [T, N, ...]; of several policies [T, policies, N / policies, ...].

        number  of the iteration: what the noise of its actions is drawn from, with the keys
        """
        actor, stream = self.actor, self.stream
        noise = on_host(actor.noise(self.keys, np.uint32(number), shape=self.shape))
        noise = actor.columns.join(noise, axis=1)
        first = rows_of(noise)[0]
        act = actor.stepper(actor.parameters(learner.policy, learner.observations), stream.obs, first)
        stream.carry = actor.columns.split(stream.carry)
        found = collect(act, stream, noise)
        stream.carry = actor.columns.join(stream.carry)
        return split_experience(found, actor.columns)

    def __enter__(self) -> "Arena":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.envs.close()


def split_experience(experience: Experience, columns: Columns) -> Experience:
    """Experience of several policies, [T, policies, N / policies, ...]; its carry is split already."""
    without: Experience = columns.split(experience._replace(carry=()), axis=1)
    return without._replace(carry=experience.carry)


def environments(config: Config, num_envs: int, **make_options: Any) -> HostEnvs:
    """The environments that a configuration asks for; `make_options` as in `make_envs`."""
    refuse_after_fork()
    require_window(config)
    mode = config.vectorization_mode
    if mode != "vector_entry_point":
        watch = {name: getattr(config, name) for name in ("step_timeout", "restart_interval")}
        members = num_envs // config.num_envs
        watch["max_restarts"] = 0 if mode == "sync" else config.max_restarts * members
        make_options = {"vector_kwargs": watch, **make_options}
    make_options = {"env_kwargs": config.env_kwargs, **make_options}
    envs = make_envs(config.env, num_envs, vectorization_mode=mode, **make_options)
    try:
        envs.action, envs.life_loss = action_map(config, envs), config.life_loss
        if envs.found:
            FOUND.info(envs.found)
        seen = envs.spaces[0] if config.network.flatten else without_masks(*envs.spaces)
        private = config.network.critic_only
        alone = only(seen, private) if private else None
        FOUND.info(
            in_words(without(seen, private), envs.spaces[1], scaled=maps_actions(config), private=alone)
        )
        codec = codec_asked(config.network, envs.spaces)
        require_image(config.network, codec)
        require_memory(envs, codec, config.horizon)
    except UserError:
        envs.close()
        raise
    ours = isinstance(envs.vector, ParallelVectorEnv)
    if not ours and envs.seam_rows:  # elsewhere a reset, which may take longer, is part of a step
        envs.step_timeout = config.step_timeout * envs.num_envs
    return envs


def require_window(config: Config) -> None:
    """Raise UserError where a transformer would remember more rows than a rollout has."""
    memory = config.network.memory
    if isinstance(memory, Transformer) and memory.window > config.horizon:
        raise UserError(
            f"the transformer's window of {memory.window} rows is longer than a rollout, horizon "
            f"{config.horizon}: no gradient goes further back; raise horizon, or take a window of at most "
            f"{config.horizon}"
        )


def maps_actions(config: Config) -> bool:
    """Whether actions are mapped to the bounds: where they are scaled, and where their distribution ends."""
    return config.scale_actions or config.network.distribution.inside is not None


def action_map(config: Config, envs: HostEnvs) -> ActionCodec:
    """What the policy's actions become. Raises UserError where these do not fit the distribution."""
    space, distribution = envs.spaces[1], config.network.distribution
    called = kebab(type(distribution).__name__)
    if distribution.inside is not None:
        require_bounds(space, called)
    elif distribution != Normal():
        require_numbers(space, called)
    return scaled_codec(space, scaled=config.scale_actions, inside=distribution.inside)


def require_memory(envs: HostEnvs, codec: ObservationCodec, horizon: int) -> None:
    """Raise UserError where this machine cannot hold a rollout of observations that a codec makes.

    An update needs them twice, as they came and normalised.
    """
    arrays = [(codec.shape, codec.dtype), *((part.shape, part.dtype) for part in codec.parts.values())]
    numbers = sum(math.prod(shape) for shape, _ in arrays)
    each = sum(math.prod(shape) * dtype.itemsize for shape, dtype in arrays)
    size = 2 * (horizon + 1) * envs.num_envs * each
    has = memory()
    if has is not None and size > has:
        raise UserError(
            f"a rollout of horizon x num_envs = {horizon} x {envs.num_envs} observations of "
            f"{numbers:,} numbers takes {size / 2**30:,.0f} GiB, but this machine has "
            f"{has / 2**30:,.0f}: lower horizon or num_envs, or make the observations smaller"
        )


def memory() -> int | None:
    """Bytes of this machine's memory; None where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; and systems that know no such names
        return None


def open_stream(learner: Learner, config: Config, envs: HostEnvs, seeds: list[int]) -> Stream:
    """Experience that begins now. Its observations are relative to what the learner's were.

    Where it has seen none, also in no other run, the first ones decide that (`with_offset_of`), unless they
    are not normalised: then every entry is to reach the networks as it is.
    """
    new = learner.steps == 0
    fresh = new and not learner.observations.moments.count  # else the policy comes from another run
    undecided = fresh and config.update.normalise_observations
    offset = None if undecided else np.asarray(learner.observations.offset)
    policy = learner.policy
    stream = Stream(envs, seeds, offset, policy.begin(envs.num_envs), codec_of(policy, envs.spaces))
    if new:
        std = math.exp(config.network.initial_log_std)
        actions = advice.unreachable_actions(envs.spaces[1], std, scaled=maps_actions(config))
        advise(actions + advice.running_statistics(envs.vector))
        if takes_parts(config.network):
            seen = without_masks(*envs.spaces)
            ours = config.network.own_network is None  # else it is given images as they come
            advise(advice.pictures_as_numbers(seen) + (advice.unclear_channels(seen) if ours else []))
        if envs.legal is not None:
            FOUND.info(masks_in_words(envs.mask_source, envs.legal.shape[1]))
        words = reading_in_words(config.network, envs.observation.seen)
        if words and config.network.own_network is None:
            FOUND.info(words)
        if jax.tree.leaves(stream.carry):
            sizes = (config.num_envs, config.horizon, config.update.minibatch_size)
            advise(memory_advice(*sizes))
        stream.unproven = True
    return stream


def with_offset_of(learner: Learner, stream: Stream) -> Learner:
    """The learner of a stream that has begun: it knows what its observations are relative to."""
    offset = jnp.asarray(stream.offset)
    return learner._replace(observations=learner.observations._replace(offset=offset))
