"""An update under the microscope: the same update, epoch by epoch, and what the policy has become by then.

`replay` takes the steps that `update` takes, with the same keys, and ends with the same weights, bit for bit.
Between the epochs it looks at every sample of the rollout: how far its ratio has moved, what the exact
divergence is beside its three estimates, and whether the objective still has a slope there.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core import Unclipped, explained_variance, k1, k2, k3, masked_mean, whiten
from proximo.core.arrays import global_norm
from proximo.core.surrogates import LOG_RATIO_LIMIT, clip_fraction
from proximo.core.types import Experience
from proximo.learn.batches import take
from proximo.learn.descend import in_parts, summed_gradients
from proximo.learn.loss import clip_range
from proximo.learn.options import UpdateOptions
from proximo.learn.update import Learner, Prepared, State, Task, minibatch_steps, prepared
from proximo.policies import ActorCritic


class Samples(NamedTuple):
    """What a policy says of every sample of the rollout that an earlier policy has collected, [T, N].

    log_ratio  log pi(a|s) - log pi_old(a|s), in nats
    kl         exact KL(pi_old(.|s) || pi(.|s)), in nats
    moving     whether the objective still has a slope in the ratio
    advantage  as the actor sees it, normalised over the whole batch
    value      of the critic, in units of scaled reward; of the reward alone
    target     what the critic should say, as it was before the update
    counts     whether the sample counts
    """

    log_ratio: Float[Array, "T N"]
    kl: Float[Array, "T N"]
    moving: Bool[Array, "T N"]
    advantage: Float[Array, "T N"]
    value: Float[Array, "T N"]
    target: Float[Array, "T N"]
    counts: Bool[Array, "T N"]


class Epoch(NamedTuple):
    """Where an update is after some epochs.

    number   of epochs done; 0 is the policy that collected the rollout, or, where the actor has a step of
             its own, what this step has made of it
    policy   by then
    samples  what it says of all samples
    means    of these: `kl`, its estimates `k1`, `k2` and `k3`, all in nats; `outside` and `no_slope`, the
             shares of samples whose ratio has left the range, and where the objective is flat; `surrogate`
             and `unclipped`, in units of the advantage; `entropy`, in nats; `value_error`, the mean squared
             error of the critic; `explained_variance`
    steps    of the epoch just done, each [minibatches]: the metrics of its minibatch steps, `grad_norm`
             before it is bounded, and `cosine` between a minibatch's gradient and the whole batch's, both at
             the weights that the epoch began with; empty for number 0
    """

    number: int
    policy: ActorCritic
    samples: Samples
    means: dict[str, Array]
    steps: dict[str, Array]


def replay(
    learner: Learner, experience: Experience, options: UpdateOptions, remaining: float | Array
) -> Iterator[Epoch]:
    """The epochs of `update` with the same arguments, from before the first to after the last.

    The last one's policy is that of the learner which `update` returns: the same bits.
    """
    state, samples, means = _begin(learner, experience, options, remaining)
    yield Epoch(0, state.weights, samples, means, {})
    for number in range(options.epochs):
        state, samples, means, steps = _epoch(learner, experience, options, remaining, state, number)
        yield Epoch(number + 1, state.weights, samples, means, steps)


@jax.jit
def _begin(
    learner: Learner, experience: Experience, options: UpdateOptions, remaining: Any
) -> tuple[State, Samples, dict[str, Array]]:
    start = prepared(learner, experience, options, remaining)
    return start.state, *look(start.state.weights, start, options)


@jax.jit
def _epoch(
    learner: Learner,
    experience: Experience,
    options: UpdateOptions,
    remaining: Any,
    state: State,
    number: Int[Array, ""] | int,
) -> tuple[State, Samples, dict[str, Array], dict[str, Array]]:
    # All that precedes the first step is computed again: it costs less than to keep it between the calls.
    start = prepared(learner, experience, options, remaining)
    order = start.orders[number]
    after, history = minibatch_steps(state, order[None], start.task)
    steps = {name: values[0] for name, values in history.items()}
    steps["cosine"] = cosines(state.weights, order, start.task)
    return after, *look(after.weights, start, options), steps


def look(policy: ActorCritic, start: Prepared, options: UpdateOptions) -> tuple[Samples, dict[str, Array]]:
    """What a policy says of the samples of an update, and the means of it (see `Epoch`)."""
    batch, objective = start.batch, start.objective
    output = batch.read_by(policy)
    log_ratio = output.distribution.log_prob(batch.action) - batch.log_prob
    kl = batch.distribution.kl(output.distribution)
    advantage = batch.advantage
    if options.advantage_normalisation == "minibatch":  # of the batch they are normalised already
        advantage = whiten(advantage, batch.mask)
    slope = jax.grad(lambda x: jnp.sum(objective(x, advantage, kl)))(log_ratio)
    mean = partial(masked_mean, mask=batch.mask)
    value, target = output.value[..., 0], batch.target[..., 0]
    bounded = jnp.minimum(log_ratio, LOG_RATIO_LIMIT)
    means = {
        "kl": mean(kl),
        "k1": mean(k1(log_ratio)),
        "k2": mean(k2(log_ratio)),
        "k3": mean(k3(bounded)),
        "outside": mean(clip_fraction(log_ratio, *clip_range(objective))),
        "no_slope": mean((slope == 0.0).astype(jnp.float32)),
        "surrogate": mean(objective(log_ratio, advantage, kl)),
        "unclipped": mean(Unclipped()(log_ratio, advantage)),
        "entropy": mean(output.distribution.entropy()),
        "value_error": mean(jnp.square(value - target)),
        "explained_variance": explained_variance(value, target, batch.mask),
    }
    samples = Samples(log_ratio, kl, slope != 0.0, advantage, value, target, batch.mask > 0)
    return samples, means


def cosines(weights: Any, order: Int[Array, "minibatches rows"], task: Task) -> Float[Array, " minibatches"]:
    """The cosine between the gradient of each minibatch and their mean, all at the same weights.

    The mean over an epoch's minibatches is the whole batch's gradient, up to how advantages are normalised.
    """
    rows = task.rows(weights)

    def gradient(index: Int[Array, " rows"]) -> Any:
        whole, _ = task.prepare(take(rows, index))
        size = len(index) if task.part_rows is None else task.part_rows
        return summed_gradients(task.gradient, weights, in_parts(whole, size))[0]

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, order[0]))

    def add(total: Any, index: Int[Array, " rows"]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(index)), None

    total = jax.lax.scan(add, zeros, order)[0]
    length = global_norm(total)

    def cosine(index: Int[Array, " rows"]) -> Float[Array, ""]:
        one = gradient(index)
        inner = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (one, total)), strict=True))
        return jnp.asarray(inner / jnp.maximum(global_norm(one) * length, 1e-30))

    # Gradients are computed twice, so that one at a time is in memory.
    return jax.lax.map(cosine, order)
