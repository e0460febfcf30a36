"""Training on a policy's own responses: sample, score, estimate advantages, update (Ziegler et al. 2019).

This is the trainer of PPO and of GRPO's variants, which differ in their estimator (`estimators`). Tokens are
time steps and a response is an episode. `gae`, the objectives, the value losses and the means come from
`proximo.core`, the same that train HalfCheetah.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.core import Scalar, k1, masked_mean, select
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.files.loading import partition_trainable
from proximo.language.model.compiling import jit
from proximo.language.text.packing import epoch_permutation
from proximo.language.train.estimators import Signals, estimator_of
from proximo.language.train.experience import response_facts
from proximo.language.train.job import Outcome
from proximo.language.train.loss import policy_loss, prepare_minibatch
from proximo.language.train.optimise import (
    Learner,
    in_precision,
    learning_rate_at,
    remaining_at,
    rows_of_part,
    static_options,
    step_of_adam,
)
from proximo.language.train.options import GRPOOptions, PPOOptions, StepOptions
from proximo.language.train.policy import Policy, evaluate_responses
from proximo.language.train.responses import Batch, Responses, cut_to_length, response_mask, sort_by_length
from proximo.language.train.rollout import Rollout, Rollouts
from proximo.learn.descend import Adam, Gradient, adam, in_parts
from proximo.learn.update import State, Task, largest_epoch, minibatch_steps

Method = PPOOptions | GRPOOptions


def update_options(options: Method) -> Method:
    """The options that an update depends on. Runs that differ in other options, or in numbers, compile once.

    All other options are left empty. A coefficient of 0 becomes None, and its term is not computed.
    """
    entropy: Any = options.steps.entropy_coefficient or None
    changes: dict[str, Any] = dict(
        data="",
        episodes=0,
        samples_every=0,
        model=None,
        sampling=replace(options.sampling, batch_size=0, prompt_length=0, stop=()),
        rewards=replace(options.rewards, reward=(), reward_model=(), reward_weights=()),
        steps=replace(options.steps, entropy_coefficient=entropy),
        optimisation=static_options(options.optimisation),
        run=None,
    )
    if isinstance(options, GRPOOptions):
        changes["beta"] = options.beta or None
    return replace(options, **changes)


class Frozen(NamedTuple):
    """Everything that is not trained."""

    weights: Any  # the policy's other arrays; None where an array is trained
    reference: Any  # the reference model of the KL penalty


class Experience(NamedTuple):
    """An iteration's responses with their scores."""

    responses: Responses
    log_prob: Float[Array, "B T"]  # of the tokens when they were sampled, in nats
    # units of reward; NaN for a response without a score, which is not trained on
    score: Float[Array, "B"]
    order: Int[Array, "K minibatches rows"]  # rows of each minibatch (`minibatch_order`)
    number: Int[Array, ""]  # of the iteration, from 0


class SamplingTrainer:
    """The trainer of PPO and GRPO (see `job.Trainer`).

    options    checked
    policy     the starting policy; `trainable` names the arrays that are trained
    reference  the reference model of the KL penalty
    rollouts   prompts, sampling and scores
    """

    def __init__(
        self,
        options: PPOOptions | GRPOOptions,
        policy: Policy,
        reference: Any,
        rollouts: Rollouts,
    ) -> None:
        self.options, self.rollouts, self.reference = options, rollouts, reference
        self.update_options, self.notes = update_options(options), rollouts.notes
        self.first, self.frozen = partition_trainable(policy)
        self.rows = options.sampling.batch_size * options.sampling.samples
        self.total = -(-options.episodes // self.rows)

    def begin(self) -> Learner:
        """The starting policy, without statistics."""
        return Learner(self.first, adam(self.first), *estimator_of(self.options).begin())

    def iterate(self, state: Learner, number: int) -> Outcome:
        """Sample responses, score them, and update the policy."""
        options, started = self.options, time.perf_counter()
        rollout, arguments = self.before_update(state, number)
        learner, metrics = update(*arguments)
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items()} | rollout.metrics
        numbers |= {
            "episode": float((number + 1) * self.rows),
            "eps": self.rows / (time.perf_counter() - started),
        }
        if number == 0:
            self.rollouts.check_first(numbers, options.optimisation.precision)
        look = number % options.samples_every == 0 or number + 1 == self.total
        return Outcome(learner, numbers, rollout.tokens, rollout.rows() if look else ())

    def before_update(self, state: Learner, number: int) -> tuple[Rollout, tuple[Any, ...]]:
        """Responses with their scores, and the arguments of `update` that learns from them."""
        options = self.options
        policy = eqx.combine(state.weights, self.frozen)
        actor = in_precision(policy.model, options.optimisation)  # in the precision of training
        rollout = self.rollouts.collect(actor, number)
        order = minibatch_order(options.run.seed, number, options.steps, self.rows)
        arrays = map(jnp.asarray, (rollout.log_prob, rollout.score, order, number))
        return rollout, (
            state,
            Experience(rollout.responses, *arrays),
            self.update_options,
            remaining_at(number, self.total),
            Frozen(self.frozen, self.reference),
        )

    def save(self, state: Learner, folder: Path) -> None:
        """Write the policy's model; critics stay in the checkpoints."""
        model = eqx.combine(state.weights, self.frozen).model
        save_with_adapters(folder, model, self.rollouts.tokenizer, self.options.model)


def minibatch_order(
    seed: int, number: int, steps: StepOptions, rows: int
) -> Int[np.ndarray, "K minibatches rows"]:
    """The rows of each minibatch of iteration `number`: every epoch is a new order of all."""
    epochs = [epoch_permutation(seed, number * steps.epochs + epoch, rows) for epoch in range(steps.epochs)]
    return np.stack(epochs).reshape(steps.epochs, steps.minibatches, -1).astype(np.int32)


class Prepared(NamedTuple):
    """An update before its first minibatch step.

    batch        of all responses, with advantages
    scores       the estimator's statistics of scores, with these counted in
    facts        metrics of the batch
    order        rows of each minibatch
    state, task  what the minibatch steps begin with, and what they improve
    """

    batch: Batch
    scores: Any
    facts: dict[str, Array]
    order: Int[Array, "K minibatches rows"]
    state: State
    task: Task


def prepared(
    learner: Learner, experience: Experience, options: Method, remaining: Scalar, frozen: Frozen
) -> Prepared:
    """All that comes before the minibatch steps; arguments as of `update`."""
    estimator, number = estimator_of(options), experience.number
    batch, scores, facts = estimate(learner, experience, options, frozen)
    rate = learning_rate_at(options.optimisation, remaining)
    moments, held = learner.moments, None
    if estimator.warmup:
        moments, held = reset_moments(moments, number == estimator.warmup), number < estimator.warmup
    loss = partial(part_loss, frozen=frozen.weights, price=estimator.price(learner.kl), options=options)
    task, order = task_of(loss, batch, experience.order, options, held)
    return Prepared(
        batch, scores, facts, order, State(learner.weights, moments, rate, jnp.zeros((), bool)), task
    )


@jit
def update(
    learner: Learner, experience: Experience, options: Method, remaining: Scalar, frozen: Frozen
) -> tuple[Learner, dict[str, Array]]:
    """One iteration: epochs of minibatch steps on a batch of responses.

    learner    as at sampling
    options    of `update_options`; its numbers are traced, so changing one does not recompile
    remaining  share of the run that is left; it sets the learning rate

    Returns the learner after the update, and metrics: of the batch before it, and means over its steps.
    """
    start = prepared(learner, experience, options, remaining, frozen)
    state, history = minibatch_steps(start.state, start.order, start.task)
    estimator, facts = estimator_of(options), start.facts
    kl, told = estimator.adapt_price(learner.kl, facts["objective/kl"], len(start.batch.mask))
    # Before the actor's first step the KL is 0, which must not adapt the coefficient.
    kl = jax.tree.map(partial(jnp.where, experience.number <= estimator.warmup), learner.kl, kl)
    furthest = largest_epoch(history["policy/approxkl_avg"], history["counted"])
    more = {"policy/approxkl_max": furthest, "lr": start.state.learning_rate}
    metrics = facts | told | mean_metrics(history) | more
    return Learner(state.weights, state.adam, kl, start.scores), metrics


def estimate(
    learner: Learner, experience: Experience, options: Method, frozen: Frozen
) -> tuple[Batch, Any, dict[str, Array]]:
    """The batch for the steps, the new `Learner.scores`, and metrics of the batch."""
    estimator, responses = estimator_of(options), experience.responses
    policy = eqx.combine(learner.weights, frozen.weights)
    log_prob, values, reference_log_prob = forward_passes(policy, frozen.reference, experience, options)
    mask = response_mask(responses.lengths, log_prob.shape[1])
    kl = select(k1(reference_log_prob - log_prob), mask)
    nats, judged = jnp.sum(kl, axis=1), ~jnp.isnan(experience.score)
    score = jnp.where(judged, experience.score, 0.0)
    score, scores = estimator.adjust_scores(score, judged, responses.lengths, learner.scores)
    score = score - options.rewards.missing_eos_penalty * ~responses.finished
    price = estimator.price(learner.kl) if options.kl_in == "reward" else None
    price = 0.0 if price is None else price
    counts = mask * judged[:, None]
    if options.rewards.truncated == "mask":
        counts = counts * responses.finished[:, None]
    batch, told = estimator(
        Batch(responses, log_prob, reference_log_prob, counts), Signals(score, judged, kl, values, price)
    )
    facts = response_facts(responses, log_prob, experience.log_prob, nats, mask) | {
        "objective/non_score_reward": jnp.mean(-price * nats),
        "objective/scores": jnp.mean(score, where=judged),
        "objective/rlhf_reward": jnp.mean(score - price * nats, where=judged),
    }
    return batch, scores, facts | told


def forward_passes(
    policy: Policy, reference: Any, experience: Experience, options: Method
) -> tuple[Float[Array, "B T"], Float[Array, "B C T1"], Float[Array, "B T"]]:
    """Log-probabilities of the policy, its critics' values, and log-probabilities of the reference."""
    policy, reference = (in_precision(tree, options.optimisation) for tree in (policy, reference))
    responses, temperature = experience.responses, options.sampling.temperature
    count, length = responses.ids.shape
    width = length - experience.log_prob.shape[1]

    def both(part: Responses) -> tuple[Array, Array, Array]:
        now, tether = (evaluate_responses(p, part, width, temperature) for p in (policy, Policy(reference)))
        return now.log_prob, now.values, tether.log_prob

    rows = rows_of_part(count, length, options.steps.micro_batch_tokens)
    parts = jax.lax.map(both, in_parts(responses, rows))
    log_prob, values, reference_log_prob = (x.reshape(count, *x.shape[2:]) for x in parts)
    return log_prob, values, reference_log_prob


def part_loss(
    weights: Any, part: Batch, frozen: Any, price: Scalar | None, options: Method
) -> tuple[Array, dict[str, Array]]:
    """The contribution of some rows to a minibatch's loss, and to its metrics.

    policy loss + value_coefficient value loss, over the tokens that count (Schulman 2017, eq. 9)

    price  KL coefficient; None for no KL penalty
    """
    steps, optimisation = options.steps, options.optimisation
    policy = in_precision(eqx.combine(weights, frozen), optimisation)
    now = evaluate_responses(
        policy, part.responses, part.width, options.sampling.temperature, optimisation.gradient_checkpointing
    )
    loss, metrics = policy_loss(
        now.log_prob,
        now.entropy,
        part,
        steps.objective,
        ratio_of=steps.ratio,
        entropy_coefficient=steps.entropy_coefficient,
        kl_coefficient=price if options.kl_in == "loss" else None,
        kl_estimate=steps.kl_estimate,
    )
    value_loss, more = estimator_of(options).value_loss(now.values, part)
    return loss + value_loss, metrics | more


def task_of(
    loss: Any,
    batch: Batch,
    order: Int[Array, "K minibatches rows"],
    options: Method,
    held: Bool[Array, ""] | None = None,
) -> tuple[Task, Int[Array, "K minibatches rows"]]:
    """The task of one update's minibatch steps, and the order of rows.

    loss  (weights, part of a minibatch) -> its contribution to the loss, and to each metric
    held  whether the actor stays fixed, so that only the critic is trained
    """
    steps, lengths, longest = options.steps, batch.responses.lengths, options.sampling.response_length
    part_rows = rows_of_part(order.shape[-1], batch.responses.ids.shape[1], steps.micro_batch_tokens)
    gradient: Gradient = jax.grad(loss, has_aux=True)
    if steps.group_by_length and part_rows < len(lengths):  # all of them are cut to the longest already
        gradient, order = cut_to_length(gradient), sort_by_length(order, lengths)
    adam_step = step_of_adam(options.optimisation)

    def descend(weights: Any, adam: Adam, gradients: Any, *how: Array) -> tuple[Any, Adam, Array]:
        gradients = freeze_actor(held, gradients, jax.tree.map(jnp.zeros_like, gradients))
        moved, adam, norm = adam_step(weights, adam, gradients, *how)
        return freeze_actor(held, moved, weights), adam, norm  # weight decay moves without a gradient

    task = Task(
        rows=lambda weights: batch,
        prepare=partial(prepare_minibatch, aggregation=steps.aggregation, longest=longest),
        gradient=gradient,
        descend=descend,
        part_rows=part_rows,
        target_kl=steps.target_kl,
        kl="policy/approxkl_avg",
    )
    return task, order


def freeze_actor(held: Bool[Array, ""] | None, new: Any, old: Any) -> Any:
    """A new policy's tree, with the old actor if it stays fixed."""
    if held is None:
        return new
    model = jax.tree.map(partial(jnp.where, held), old.model, new.model)
    return eqx.tree_at(lambda tree: tree.model, new, model)


def reset_moments(moments: Adam, again: Bool[Array, ""]) -> Adam:
    """Adam's moments; with `again` they are reset, when the actor starts to train.

    While the actor was fixed, its moments averaged zeros, and the step count, one for all weights, grew.
    With bias correction by that count, its first steps would be up to six times the learning rate: after k
    equal gradients (1 - 0.9^k) / sqrt(1 - 0.999^k), which is 6.6 at k = 12. The critic's moments are reset
    too.
    """
    fresh: Adam = jax.tree.map(lambda x: jnp.where(again, jnp.zeros_like(x), x), moments)
    return fresh


def mean_metrics(history: dict[str, Array]) -> dict[str, Array]:
    """The mean of each metric over the steps taken, and the first step's ratio.

    A step without tokens that count (all groups equal, or all responses masked) is not taken and left out.
    Its ratio, and that of an iteration of only such steps, is 1, since nothing has changed.

    history  each metric at each step, and `counted`: whether it was taken and any of its tokens counted
    """
    counted, ratio = history["counted"], history["val/ratio"]
    means = {name: masked_mean(x, counted) for name, x in history.items() if name != "counted"}
    means["policy/grad_norm"] = means.pop("grad_norm")
    return means | {
        "val/ratio": jnp.where(jnp.any(counted > 0), means["val/ratio"], 1.0),
        "val/first_ratio": jnp.where(counted[0, 0] > 0, ratio[0, 0], 1.0),
    }
