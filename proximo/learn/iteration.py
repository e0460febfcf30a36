"""One turn of training, and what every kind of training starts from."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from proximo.config import Config
from proximo.envs import Episode, EpisodeStatistics, HostEnvs
from proximo.learn.agent import Agent
from proximo.learn.normalise import observation_normaliser, reward_normaliser
from proximo.learn.streams import Streams
from proximo.learn.update import Learner, optimiser
from proximo.policies import ActorCritic, ScheduledGaussianHead


@dataclass(frozen=True)
class Iteration:
    """One turn of the loop: what was learned, and how it went.

    steps     environment steps learned from so far
    learner   everything that learning changes
    agent     the policy, ready to act
    metrics   the update's metrics, read from the device
    episodes  the episodes that ended in this rollout; their returns are raw
    """

    number: int
    steps: int
    learner: Learner
    agent: Agent
    metrics: dict[str, float]
    episodes: list[Episode]
    mean_return: float  # of the last 100 training episodes; NaN before the first has ended
    mean_length: float

    @property
    def sound(self) -> bool:
        """Whether the update stayed within the finite numbers; only members of an ensemble come without."""
        return all(math.isfinite(value) for value in self.metrics.values())


def new_learner(config: Config, envs: HostEnvs, seeds: Streams) -> Learner:
    """The learner before its first rollout."""
    features = envs.observation.shape[0]
    active = envs.observation.normalised & config.update.normalise_observations
    policy = ActorCritic(seeds.initialisation, features, envs.action.kind, config.network)
    adam = optimiser(config.update)
    return Learner(
        policy=policy,
        optimiser=adam.init(policy),
        actor_memory=config.update.actor_step.start(policy, adam),
        kl_coefficient=jnp.full((), getattr(config.update.objective, "beta", 0.0)),
        learning_rate=jnp.full((), config.update.learning_rate),
        observations=observation_normaliser(active),
        rewards=reward_normaliser(config.num_envs),
        key=seeds.shuffling,
        steps=jnp.zeros((), jnp.int32),
    )


def scheduled(learner: Learner, remaining: float | Array) -> Learner:
    """The learner with what follows a schedule, not the gradient, where the schedule has it."""
    if not isinstance(learner.policy.head, ScheduledGaussianHead):
        return learner
    head = learner.policy.head.annealed(remaining)
    return learner._replace(policy=eqx.tree_at(lambda policy: policy.head, learner.policy, head))


def solved(statistics: EpisodeStatistics, until: float | None) -> bool:
    """Whether the last 100 episodes (all of them there) reach the wanted mean return, if one is wanted."""
    if until is None:
        return False
    return len(statistics.recent) == statistics.recent.maxlen and statistics.mean_return() >= until
