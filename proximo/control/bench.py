"""How fast each part of the loop is, next to the floor: the environments alone."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import jax
from gymnasium.vector import SyncVectorEnv

from proximo.control.acting import actor_of, as_calls_leave, on_host
from proximo.control.arena import environments
from proximo.control.collect import Stream, collect, rows_of
from proximo.control.config import Config, validate
from proximo.control.learner import new_learner
from proximo.control.seen import codec_of
from proximo.control.streams import environment_seeds, streams
from proximo.control.train import training
from proximo.envs import HostEnvs, make_envs, make_one
from proximo.envs.faults import fault
from proximo.errors import UserError, as_error
from proximo.learn.update import update


@dataclass(frozen=True)
class Rates:
    """Environment steps per second of each part.

    env_only     the floor: the environments alone, in Gymnasium's sync vector, as many of them
    vector_only  the environments alone, in the vector that the run uses
    act          the policy alone, for as many environments
    collect      both, with everything that is stored
    update       the update alone
    loop         all of it, as `proximo train` runs it
    """

    env_only: float
    vector_only: float
    act: float
    collect: float
    update: float
    loop: float

    @property
    def floor_share(self) -> float:
        """The whole loop's rate over the environments' own."""
        return self.loop / self.env_only


def bench(config: Config, *, repeats: int = 10, **make_options: Any) -> Rates:
    """Time each part on the same environments, interleaved, so that a noisy machine hits all alike.

    repeats  rounds over the parts; the median of each is reported

    Every part handles one rollout of T x N steps per round. The environments alone step on actions
    drawn beforehand from the action space; where some are illegal, on legal ones, and the time that drawing
    these takes does not count.
    """
    config = validate(config)
    if repeats < 1:
        raise UserError(f"repeats is {repeats}: it must be at least 1")
    if config.population is not None:
        raise UserError("cem has no separate update to measure: choose another preset")
    seeds = streams(config.seed)
    envs = environments(config, config.num_envs, **make_options)
    one = partial(make_one, config.env, env_kwargs=config.env_kwargs, **make_options)
    plain = make_envs(SyncVectorEnv([one] * config.num_envs, copy=False))
    plain.reset(environment_seeds(seeds.environments, plain.num_envs))
    learner = new_learner(config, envs, seeds)
    stream = Stream(
        envs,
        environment_seeds(seeds.environments, envs.num_envs),
        carry=learner.policy.begin(envs.num_envs),
        codec=codec_of(learner.policy, envs.spaces),
    )
    memory = (stream.start if jax.tree.leaves(stream.carry) else None, as_calls_leave(stream.carry))
    noise = on_host(learner.policy.head.noise(seeds.actions, (config.horizon, envs.num_envs)))
    noises = rows_of(noise)
    envs.vector.action_space.seed(config.seed)
    random_actions = [envs.vector.action_space.sample() for _ in range(config.horizon)]
    actor = actor_of(learner.policy, learner.observations)
    act = actor.stepper(actor.parameters(learner.policy, learner.observations), stream.obs, noises[0])
    forever = training(Config(**{**vars(config), "steps": 10**9, "until": None}), **make_options)
    experience = collect(act, stream, noise)

    parts = {
        "env_only": lambda: alone(plain, random_actions),
        "vector_only": lambda: alone(envs, random_actions, stream),
        "act": lambda: [act(stream.obs, row, *memory) for row in noises] and None,
        "collect": lambda: collect(act, stream, noise),
        "update": lambda: update(learner, experience, config.update, 1.0),
        "loop": lambda: next(forever) and None,
    }
    for _, work in itertools.product(range(2), parts.values()):  # compile, and warm the caches
        work()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _, (name, work) in itertools.product(range(repeats), parts.items()):
        started = time.perf_counter()
        done = jax.block_until_ready(work())  # its device work included
        idle = done if isinstance(done, float) else 0.0
        times[name].append(time.perf_counter() - started - idle)
    forever.close()
    envs.close()
    plain.vector.close()
    steps = config.horizon * config.num_envs
    return Rates(**{name: steps / median(values) for name, values in times.items()})


def alone(envs: HostEnvs, actions: Sequence[Any], stream: Stream | None = None) -> float:
    """Step environments on these actions, or on as many legal ones; returns the seconds that drawing took.

    stream  of theirs, which is to continue with legal actions

    Raises EnvironmentFault if an environment fails.
    """
    if envs.legal is None:
        for action in actions:
            envs.steps += 1
            try:
                envs.vector.step(action)
            except BaseException as raised:
                error = as_error(raised)
                raise fault(envs.vector, envs.name, envs.steps, action, error) from error
        return 0.0
    drawing = 0.0
    for _ in actions:
        started = time.perf_counter()
        action = envs.sample()
        drawing += time.perf_counter() - started
        step = envs.step(action)
    if stream is not None:
        envs.write(envs.observation, step.obs, stream.obs, step.legal)
    return drawing
