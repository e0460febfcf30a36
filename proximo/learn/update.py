"""The update: from one rollout to a better policy, in one compiled call (Schulman 2017, algorithm 1)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import (
    Objective,
    adapted_rate,
    explained_variance,
    masked_mean,
)
from proximo.core.arrays import global_norm
from proximo.core.types import Experience
from proximo.learn.actor_steps import Problem, mean_kl
from proximo.learn.batches import Batch, Cut, cut_of, take
from proximo.learn.descend import Adam, Gradient, descend, in_parts, summed_gradients
from proximo.learn.experience import actor_advantages, advantages, normalised, predictions, whole_batch
from proximo.learn.loss import actor_objective, clip_range, loss, prepare_minibatch
from proximo.learn.normalise import ObservationNormaliser, RewardNormaliser
from proximo.learn.options import UpdateOptions
from proximo.learn.own_functions import take_actor_step
from proximo.policies import ActorCritic

EARLY_STOP_FACTOR = 1.5  # a minibatch's estimate is noisy: stop at 1.5 times the target, as Spinning Up


class Learner(NamedTuple):
    """Everything that learning changes, as one tree of arrays."""

    policy: ActorCritic
    optimiser: Any
    actor_memory: Any  # what the actor's own step carries on; () where it has none
    objective: Objective  # its numbers: a KL penalty follows the divergence of each update
    learning_rate: Array  # where it adapts to the KL; options have it elsewhere
    observations: ObservationNormaliser
    rewards: RewardNormaliser
    key: Array  # the stream of shuffles
    steps: Array  # environment steps learned from


class State(NamedTuple):
    """What a minibatch step changes."""

    weights: Any
    adam: Adam
    learning_rate: Array
    stopped: Array  # the target KL was passed


class Task(NamedTuple):
    """What minibatch steps improve, of control and of language models alike.

    rows        weights -> the samples of an epoch, a tree of arrays whose first axis an order counts
    prepare     minibatch -> the same with what depends on all of it, and whether any of it counts
    gradient    (weights, part of it) -> gradients of the part's share of the loss, its share of each metric
    descend     (weights, Adam, gradients, learning rate, whether to move) -> (weights, Adam, gradients' norm)
    after_epoch (state before, state after) -> the state that the next epoch begins with
    part_rows   rows of a minibatch that go through the policy at once; None for all of them
    target_kl   nats; None for no limit
    kl          the metric that is compared with it
    """

    rows: Callable[[Any], Any]
    prepare: Callable[[Any], tuple[Any, Array]]
    gradient: Gradient
    descend: Callable[[Any, Adam, Any, Array, Array], tuple[Any, Adam, Array]]
    after_epoch: Callable[[State, State], State] = lambda before, after: after
    part_rows: int | None = None
    target_kl: Any = None
    kl: str = "train/approx_kl"


def minibatch_step(state: State, minibatch: Any, task: Task) -> tuple[State, dict[str, Array]]:
    """One gradient step on rows of a batch.

    Nothing moves where nothing counts, where the gradient is not finite (its norm tells), or, with a target
    KL, from the first minibatch that is past it, which is checked before the step.

    Metrics are shares of the minibatch's, with `counted` and `grad_norm`; all 0 once it has stopped.
    """

    def step(state: State) -> tuple[State, dict[str, Array]]:
        whole, counted = task.prepare(minibatch)
        size = len(jax.tree.leaves(whole)[0])
        parts = in_parts(whole, size if task.part_rows is None else task.part_rows)
        gradients, metrics = summed_gradients(task.gradient, state.weights, parts)
        stopped = state.stopped
        if task.target_kl is not None:
            stopped = metrics[task.kl] > EARLY_STOP_FACTOR * task.target_kl
        moving = counted & ~stopped
        weights, adam, norm = task.descend(state.weights, state.adam, gradients, state.learning_rate, moving)
        metrics |= {"grad_norm": norm, "counted": counted.astype(norm.dtype)}
        return State(weights, adam, state.learning_rate, stopped), metrics

    if task.target_kl is None:
        return step(state)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, state)[1])
    return jax.lax.cond(state.stopped, lambda state: (state, nothing), step, state)


def minibatch_steps(
    state: State, orders: Int[Array, "K minibatches rows"], task: Task
) -> tuple[State, dict[str, Array]]:
    """K epochs over the task's rows, each in an order of its own; metrics are [K, minibatches]."""

    def epoch(before: State, order: Int[Array, "minibatches rows"]) -> tuple[State, dict[str, Array]]:
        rows = task.rows(before.weights)
        after, metrics = jax.lax.scan(
            lambda state, index: minibatch_step(state, take(rows, index), task), before, order
        )
        return task.after_epoch(before, after), metrics

    return jax.lax.scan(epoch, state, orders)


def step_of_adam(options: UpdateOptions) -> Callable[..., tuple[Any, Adam, Array]]:
    """`descend` as the options have it."""
    return partial(descend, max_grad_norm=options.max_grad_norm, epsilon=options.adam_epsilon)


def task_of(
    batch: Batch, experience: Experience, objective: Objective, options: UpdateOptions, cut: Cut
) -> Task:
    """What the minibatch steps of one update improve.

    batch       of `whole_batch`
    experience  as the networks see it
    """

    def rows(policy: ActorCritic) -> Batch:
        if options.advantages == "once":
            return cut.rows(batch)
        fresh = predictions(policy, experience, cut.length)
        advantage = advantages(fresh, experience, options)
        target = advantage + fresh.value
        advantage = actor_advantages(advantage, target, batch.mask, options)
        return cut.rows(batch._replace(advantage=advantage, target=target, carry=fresh.carry))

    def gradient(policy: ActorCritic, part: Batch) -> tuple[ActorCritic, dict[str, Array]]:
        return jax.grad(loss, has_aux=True)(policy, cut.as_seen(part), objective, options)

    def after_epoch(before: State, after: State) -> State:
        if options.learning_rate_kl is None:
            return after
        rate = adapted_rate(after.learning_rate, mean_kl(after.weights, batch), options.learning_rate_kl)
        # Once stopped, the policy rests: the same KL again is no news.
        return after._replace(learning_rate=jnp.where(before.stopped, after.learning_rate, rate))

    return Task(
        rows=rows,
        prepare=partial(prepare_minibatch, options=options),
        gradient=gradient,
        descend=step_of_adam(options),
        after_epoch=after_epoch,
        target_kl=options.target_kl,
    )


def current_objective(learner: Learner, options: UpdateOptions, remaining: float | Array) -> Objective:
    """The objective as far as it is annealed."""
    if not options.anneal_clip:
        return learner.objective
    return learner.objective.annealed(remaining)  # type: ignore[union-attr]  # `validate` asks for it


def current_learning_rate(learner: Learner, options: UpdateOptions, remaining: float | Array) -> Array:
    """Adam's step size as far as it is annealed, or adapted."""
    if options.learning_rate_kl is not None:
        return learner.learning_rate
    return jnp.asarray(options.learning_rate * (remaining if options.anneal else 1.0))


def actor_problem(
    batch: Batch, objective: Objective, learning_rate: Array, options: UpdateOptions
) -> Problem:
    """What an actor step of its own is to improve."""
    whole, _ = prepare_minibatch(batch, options)
    return Problem(
        batch=whole,
        objective=lambda said: actor_objective(said, whole, objective, options)[0],
        descend=step_of_adam(options),
        learning_rate=learning_rate,
    )


def adapt_objective(
    learner: Learner, policy: ActorCritic, batch: Batch
) -> tuple[Objective, dict[str, Array]]:
    """The objective of the next update, and what to log where it follows the divergence of this one."""
    objective: Any = learner.objective  # perhaps of the user's own
    if not hasattr(objective, "adapted"):
        return objective, {}
    kl = mean_kl(policy, batch)
    beta = {"train/kl_coefficient": jnp.asarray(objective.beta)} if hasattr(objective, "beta") else {}
    return objective.adapted(kl), {"train/kl": kl} | beta


class Prepared(NamedTuple):
    """An update before its first minibatch step.

    batch         all of its experience, [T, N, ...]
    distribution  what the policy said of it
    objective     as far as it is annealed
    orders        rows of each minibatch, [K, minibatches, rows]
    state, task   what the minibatch steps begin with, and what they improve
    rewards       the reward statistics, which have counted this experience in
    key           the stream of shuffles of the next update
    """

    batch: Batch
    distribution: Any
    objective: Objective
    orders: Int[Array, "K minibatches rows"]
    state: State
    task: Task
    rewards: RewardNormaliser
    key: Array
    actor_memory: Any
    actor_metrics: dict[str, Array]


def prepared(
    learner: Learner, experience: Experience, options: UpdateOptions, remaining: float | Array
) -> Prepared:
    """All that comes before the minibatch steps: normalisation, advantages, the actor's own step, orders."""
    objective = current_objective(learner, options, remaining)
    learning_rate = current_learning_rate(learner, options, remaining)
    seen, rewards = normalised(experience, learner.observations, learner.rewards, options)
    cut = cut_of(seen, options.minibatch_size)
    batch, distribution = whole_batch(learner.policy, seen, options, cut)
    problem = actor_problem(batch, objective, learning_rate, options)
    policy, actor_memory, actor_metrics = take_actor_step(
        options.actor_step, learner.policy, learner.actor_memory, problem
    )
    key, shuffle_key = jax.random.split(learner.key)
    shuffle = partial(cut.order, samples=batch.mask.size)
    orders = jax.vmap(shuffle)(jax.random.split(shuffle_key, options.epochs))
    state = State(policy, learner.optimiser, learning_rate, jnp.zeros((), bool))
    task = task_of(batch, seen, objective, options, cut)
    return Prepared(
        batch, distribution, objective, orders, state, task, rewards, key, actor_memory, actor_metrics
    )


@jax.jit
def update(
    learner: Learner, experience: Experience, options: UpdateOptions, remaining: float | Array
) -> tuple[Learner, dict[str, Array]]:
    """One iteration of algorithm 1: K epochs of minibatch steps on N x T samples.

    learner     as it was when the experience was collected
    experience  [T, N, ...], host or device arrays
    options     numbers in it are traced, so changing one does not compile again
    remaining   the fraction of training still to come, 1 at the start; drives the annealing

    Returns the learner after it, and metrics: means over all minibatch steps taken, on the device.
    """
    start = prepared(learner, experience, options, remaining)
    state, history = minibatch_steps(start.state, start.orders, start.task)
    batch = start.batch
    next_objective, penalty_metrics = adapt_objective(learner, state.weights, batch)
    learner = Learner(
        policy=state.weights,
        optimiser=state.adam,
        actor_memory=start.actor_memory,
        objective=next_objective,
        learning_rate=state.learning_rate,
        observations=learner.observations.after(experience),
        rewards=start.rewards,
        key=start.key,
        steps=learner.steps + jnp.sum(experience.mask).astype(learner.steps.dtype),
    )
    metrics = mean_over_updates(history) | {
        "train/learning_rate": start.state.learning_rate,
        "train/clip_range": jnp.asarray(clip_range(start.objective)[1]),
        "train/explained_variance": explained_variance(batch.value[..., 0], batch.target[..., 0], batch.mask),
        "train/parameter_norm": global_norm(state.weights),  # NaN in a weight shows here
        "train/kl_stopped": state.stopped.astype(jnp.float32),
    }
    return learner, metrics | start.actor_metrics | penalty_metrics | spread(start.distribution)


def mean_over_updates(history: dict[str, Array]) -> dict[str, Array]:
    """Means of [epochs, minibatches] metrics over the steps that were checked."""
    counted = history.pop("counted")
    history["train/grad_norm"] = history.pop("grad_norm")
    means = {name: masked_mean(values, counted) for name, values in history.items()}
    furthest = largest_epoch(history["train/approx_kl"], counted)
    return means | {"train/approx_kl_max": furthest, "train/updates": jnp.sum(counted)}


def largest_epoch(
    values: Float[Array, "K minibatches"], counted: Float[Array, "K minibatches"]
) -> Float[Array, ""]:
    """The largest of the epochs' means over the steps that counted; 0 where none did."""
    sums, counts = jnp.sum(values * counted, axis=1), jnp.sum(counted, axis=1)
    return jnp.max(sums / jnp.maximum(counts, 1.0))


def spread(distribution: Any) -> dict[str, Array]:
    """The mean standard deviation of a Gaussian policy; nothing for the others."""
    if not hasattr(distribution, "log_std"):
        return {}
    return {"train/std": jnp.mean(jnp.exp(distribution.log_std))}
