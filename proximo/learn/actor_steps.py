"""How the actor is updated: the difference between PPO, A2C, TRPO, REINFORCE and CEM, besides the objective.

Each option is a function of (policy, memory, problem) -> (policy, memory, metrics). It is called once per
update with the whole batch, before the minibatch steps; `memory` is what it carries from one update to the
next. Where `joint` is true the actor moves with the critic, minibatch by minibatch, and nothing happens
here; elsewhere the minibatch steps move the critic alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import (
    Population,
    adapted_rate,
    fisher_product,
    line_search,
    masked_mean,
    natural_gradient,
    projected_gradient,
)
from proximo.core.arrays import traceable
from proximo.core.ranges import Range, above, at_least
from proximo.learn.actor_vector import actor_vector, from_rows, rows, with_actor
from proximo.learn.batches import Batch
from proximo.learn.descend import adam
from proximo.policies import ActorCritic, Distribution, Policy, per_state

Metrics = dict[str, Array]


class Problem(NamedTuple):
    """What an actor step is to improve.

    batch          the whole rollout, [T, N, ...]
    objective      distribution -> what is to be maximised, [T, N]
    descend        (policy, Adam's memory, gradients, rate) -> (policy, memory, norm): one clipped Adam step
    learning_rate  of this update
    """

    batch: Batch
    objective: Callable[[Distribution], Float[Array, "T N"]]
    descend: Callable[[ActorCritic, Any, Any, Any], tuple[ActorCritic, Any, Array]]
    learning_rate: Array

    def surrogate(self, policy: ActorCritic) -> Float[Array, ""]:
        """The mean objective of the batch."""
        return masked_mean(self.objective(self.batch.read_by(policy).distribution), self.batch.mask)

    def descent_gradient(self, policy: ActorCritic) -> ActorCritic:
        """The gradient of the surrogate with its sign turned."""
        gradient: ActorCritic = jax.grad(lambda policy: -self.surrogate(policy))(policy)
        return gradient

    def kl(self, policy: ActorCritic) -> Float[Array, ""]:
        """The mean exact KL(old || new) of the batch, in nats (Schulman 2017, eq. 4 and 8)."""
        return mean_kl(policy, self.batch)


def mean_kl(policy: Policy, batch: Batch) -> Float[Array, ""]:
    """Mean exact KL of the policy that collected the batch to this one, in nats."""
    return masked_mean(batch.distribution.kl(batch.read_by(policy).distribution), batch.mask)


@traceable
@dataclass(frozen=True)
class JointGradient:
    """PPO's and A2C's: actor and critic together, minibatch by minibatch."""

    joint: ClassVar[bool] = True

    def start(self, policy: ActorCritic) -> Any:
        return ()

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        return policy, memory, {}


@traceable
@dataclass(frozen=True)
class SingleGradient:
    """REINFORCE's: one Adam step on the whole batch."""

    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Any:
        return adam(policy)

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        policy, memory, norm = problem.descend(
            policy, memory, problem.descent_gradient(policy), problem.learning_rate
        )
        return policy, memory, {"train/actor_grad_norm": norm, "train/kl": problem.kl(policy)}


@traceable
@dataclass(frozen=True)
class AdaptiveGradient:
    """Vanilla policy gradient as in Figure 3: one Adam step whose size follows a target KL.

    It uses the rule of `core.adapted_rate`. The first step has the size `learning_rate`; it is not annealed.

    target_kl  of one update, mean over the batch, in nats
    """

    target_kl: Annotated[float, above(0)] = 0.01
    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Any:
        return adam(policy), jnp.zeros(())  # the rate; 0 before the first update

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        moments, rate = memory
        rate = jnp.where(rate > 0, rate, problem.learning_rate)
        policy, moments, norm = problem.descend(policy, moments, problem.descent_gradient(policy), rate)
        kl = problem.kl(policy)
        metrics = {"train/actor_grad_norm": norm, "train/kl": kl, "train/actor_learning_rate": rate}
        return policy, (moments, adapted_rate(rate, kl, self.target_kl)), metrics


@traceable
@dataclass(frozen=True)
class NaturalGradient:
    """The natural policy gradient (Kakade 2001): the step of a given KL that gains most, to first order.

    max_kl      length of the step, in nats, measured by the quadratic approximation
    damping     added to the Fisher matrix's diagonal
    iterations  of conjugate gradient
    """

    max_kl: Annotated[float, above(0)] = 0.01
    damping: Annotated[float, above(0)] = 0.1
    iterations: Annotated[int, at_least(1)] = 10
    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Any:
        return ()

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        flat, _, step = natural_step(policy, problem, self.max_kl, self.damping, self.iterations)
        moved = with_actor(policy, flat + step)
        return moved, memory, {"train/kl": problem.kl(moved)}


@traceable
@dataclass(frozen=True)
class TrustRegion:
    """TRPO (Schulman 2015): the natural gradient's direction, as far as KL and surrogate both allow.

    max_kl      bound of the mean KL, in nats
    damping     added to the Fisher matrix's diagonal
    iterations  of conjugate gradient
    backtracks  shorter steps to try; if none is good, the actor stays as it was, bit for bit
    """

    max_kl: Annotated[float, above(0)] = 0.01
    damping: Annotated[float, above(0)] = 0.1
    iterations: Annotated[int, at_least(1)] = 10
    backtracks: Annotated[int, at_least(1)] = 10
    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Any:
        return ()

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        flat, evaluate, step = natural_step(policy, problem, self.max_kl, self.damping, self.iterations)
        found = line_search(evaluate, flat, step, self.max_kl, backtracks=self.backtracks)
        metrics = {
            "train/kl": jnp.where(found.accepted, found.kl, 0.0),
            "train/line_search_accepted": found.accepted.astype(jnp.float32),
            "train/line_search_backtracks": found.backtracks.astype(jnp.float32),
        }
        return with_actor(policy, found.parameters), memory, metrics


@traceable
@dataclass(frozen=True)
class AverageTrustRegion:
    """ACER's trust region (Wang 2016, section 3.3): the gradient is corrected towards an average policy.

    In the space of what the network says of each state (mean and log std, or logits) the gradient keeps
    no more than `limit` along the KL from the average policy; then one Adam step on the whole batch.

    limit  of the linearised KL, in nats
    decay  of the average policy's parameters, per update
    """

    limit: Annotated[float, at_least(0)] = 1.0
    decay: Annotated[float, Range(above=0, below=1)] = 0.99
    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Any:
        return adam(policy), jax.tree.map(jnp.array, policy)

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        moments, average = memory
        batch, shape = problem.batch, problem.batch.mask.shape
        said, pull_back = jax.vjp(lambda policy: per_state(batch.read_by(policy).distribution, shape), policy)
        anchor = per_state(batch.read_by(average).distribution, shape)
        uphill = rows(jax.grad(lambda said: jnp.sum(problem.objective(said)))(said), shape)
        away = rows(jax.grad(lambda said: jnp.sum(anchor.kl(said)))(said), shape)
        bent = projected_gradient(uphill, away, self.limit)
        mean_of = batch.mask[..., None] / jnp.maximum(jnp.sum(batch.mask), 1.0)
        (gradients,) = pull_back(from_rows(-jnp.where(mean_of > 0, bent * mean_of, 0.0), said))
        policy, moments, norm = problem.descend(policy, moments, gradients, problem.learning_rate)
        average = jax.tree.map(lambda old, new: self.decay * old + (1.0 - self.decay) * new, average, policy)
        return policy, (moments, average), {"train/actor_grad_norm": norm, "train/kl": problem.kl(policy)}


@traceable
@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy method (Szita and Lorincz 2006): no gradient, no critic, only full episodes.

    Each generation draws actors, plays at least one episode with each, and fits mean and standard
    deviation to the best. It has a loop of its own, `control.cross_entropy`.

    The population is `num_envs`: an actor in each environment.

    elite        how many of the best are fitted
    initial_std  of the first generation's parameters, around the initial actor
    extra_std    added noise, decayed linearly to 0 over the training
    """

    elite: Annotated[int, at_least(1)] = 8
    initial_std: Annotated[float, above(0)] = 1.0
    extra_std: Annotated[float, at_least(0)] = 0.1
    joint: ClassVar[bool] = False

    def start(self, policy: ActorCritic) -> Population:
        mean = actor_vector(policy)
        return Population(mean, jnp.full(mean.shape, self.initial_std))

    def __call__(
        self, policy: ActorCritic, memory: Any, problem: Problem
    ) -> tuple[ActorCritic, Any, Metrics]:
        raise TypeError("a population learns from full episodes: see control.cross_entropy")


ActorStep = (
    JointGradient
    | SingleGradient
    | AdaptiveGradient
    | NaturalGradient
    | TrustRegion
    | AverageTrustRegion
    | CrossEntropy
)


def natural_step(
    policy: ActorCritic, problem: Problem, max_kl: Any, damping: Any, iterations: int
) -> tuple[Array, Callable[[Array], tuple[Array, Array]], Array]:
    """The actor as a vector, (surrogate, KL) as a function of it, and the natural gradient's step."""
    flat = actor_vector(policy)

    def surrogate(flat: Array) -> Array:
        return problem.surrogate(with_actor(policy, flat))

    def kl(flat: Array) -> Array:
        return problem.kl(with_actor(policy, flat))

    product = fisher_product(kl, flat, damping)
    step = natural_gradient(jax.grad(surrogate)(flat), product, max_kl, iterations)
    return flat, lambda flat: (surrogate(flat), kl(flat)), step
