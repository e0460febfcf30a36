"""GRPO: PPO's objective with a group of responses in the place of a critic (Shao et al. 2024, DeepSeekMath).

Each prompt is answered several times, and a response is judged against its group's other responses. The
members of the family differ in how (`GroupAdvantage`), and in what counts alike in the mean
(`loss.token_weights`):

    GRPO      --advantage standardised  --aggregation sequences
    Dr. GRPO  --advantage centred       --aggregation length  --beta 0
    DAPO      --advantage standardised  --aggregation tokens  --objective asymmetric-clip:0.2,0.28
              --truncated mask  --skip-equal-groups  --beta 0
    RLOO      --advantage leave-one-out --aggregation length  --kl-in reward

We depart from DAPO in one thing: groups that are all equal are left out, not sampled again until the batch is
full.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core import Scalar, differ, k1, select
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.model.compiling import jit
from proximo.language.train.experience import response_facts
from proximo.language.train.grpo_options import GRPOOptions
from proximo.language.train.job import Outcome
from proximo.language.train.loss import policy_loss, unweighted
from proximo.language.train.optimise import in_precision, learning_rate_at, remaining_at, rows_of_part
from proximo.language.train.policy import Policy, Sequences, reference_log_probs, response_mask, said
from proximo.language.train.rollout import Rollouts
from proximo.language.train.update import Batch, compiled_for, minibatch_order, update
from proximo.learn.descend import adam, in_parts


class Learner(NamedTuple):
    """All that learning changes: the policy's trained arrays and Adam's moments."""

    weights: Any
    moments: Any


class GRPO:
    """The trainer (see `job.Trainer`).

    options    checked
    model      to begin with
    trained    tree of booleans: which of its arrays learn
    reference  the model that the policy is tethered to
    rollouts   prompts, sampling and scores
    """

    def __init__(
        self, options: GRPOOptions, policy: Policy, trained: Any, reference: Any, rollouts: Rollouts
    ) -> None:
        self.options, self.rollouts, self.reference = options, rollouts, reference
        self.compiled_for, self.notes = compiled_for(options), rollouts.notes
        self.first, self.frozen = eqx.partition(policy, trained)
        self.rows = options.sampling.batch_size * options.sampling.samples
        self.total = -(-options.episodes // self.rows)

    def begin(self) -> Learner:
        """The policy as it was given."""
        return Learner(self.first, adam(self.first))

    def iterate(self, state: Learner, number: int) -> Outcome:
        """Sample a group of responses to each prompt, score them, and learn from them."""
        options, started = self.options, time.perf_counter()
        policy = eqx.combine(state.weights, self.frozen)
        actor = in_precision(policy.model, options.optimisation)  # draws with the numbers that it learns with
        rollout = self.rollouts.collected(actor, number)
        batch, facts = experience(
            policy,
            self.reference,
            rollout.sequences,
            rollout.score,
            rollout.log_prob,
            self.compiled_for,
            rollout.width,
            rollout.judged,
        )
        rate = learning_rate_at(options.optimisation, remaining_at(number, self.total))
        order = minibatch_order(options.run.seed, number, options.steps, self.rows)
        weights, moments, metrics = update(
            part_loss,
            state.weights,
            state.moments,
            self.frozen,
            batch,
            options.beta,
            rate,
            order,
            self.compiled_for,
            rollout.width,
        )
        numbers = {name: float(value) for name, value in jax.device_get(facts | metrics).items()}
        numbers |= rollout.metrics | {
            "lr": float(rate),
            "episode": float((number + 1) * self.rows),
            "eps": self.rows / (time.perf_counter() - started),
        }
        if number == 0:
            self.rollouts.check_first(numbers, options.optimisation.precision)
        look = number % options.samples_every == 0 or number + 1 == self.total
        return Outcome(Learner(weights, moments), numbers, rollout.tokens, rollout.rows() if look else ())

    def save(self, state: Learner, folder: Path) -> None:
        """Write the policy's model."""
        model = eqx.combine(state.weights, self.frozen).model
        save_with_adapters(folder, model, self.rollouts.tokenizer, self.options.model)


def overlong_penalty(lengths: Array, longest: int, margin: int) -> Float[Array, "B"]:
    """What a response pays for its length, from 0 to 1.

    DAPO, eq. 13: 0 up to longest - margin tokens, then in proportion, 1 at the limit. `margin` 0: nothing.
    """
    if margin == 0:
        return jnp.zeros(lengths.shape)
    return jnp.clip((lengths - (longest - margin)) / margin, 0.0, 1.0)


@partial(jit, static_argnames="width")
def experience(
    policy: Policy,
    reference: Any,
    sequences: Sequences,
    score: Float[Array, "B"],
    sampled: Float[Array, "B T"],
    options: GRPOOptions,
    width: int,
    judged: Bool[Array, "B"] | None = None,
) -> tuple[Batch, dict[str, Array]]:
    """What the update learns from, and the facts of the batch before it.

    score    of each response, units of reward, groups side by side
    sampled  log-probabilities of the tokens when they were drawn, in nats
    width    columns that prompts take
    judged   whether a response has a score; all do unless given. Nothing is learned from the others
    """
    temperature, group = options.sampling.temperature, options.sampling.samples
    rows = rows_of_part(len(sequences.ids), sequences.ids.shape[1], options.steps.micro_batch_tokens)
    policy, reference = (in_precision(tree, options.optimisation) for tree in (policy, reference))

    def both(part: Sequences) -> tuple[Array, Array]:
        old = said(policy, part, width, temperature).log_prob
        return old, reference_log_probs(reference, part, width, temperature)

    log_prob, reference_log_prob = (
        x.reshape(-1, x.shape[-1]) for x in jax.lax.map(both, in_parts(sequences, rows))
    )
    mask = response_mask(sequences.lengths, log_prob.shape[1])
    kl = jnp.sum(select(k1(reference_log_prob - log_prob), mask), axis=1)
    score = score - options.rewards.missing_eos_penalty * ~sequences.finished
    score = score - overlong_penalty(
        sequences.lengths, options.sampling.response_length, options.soft_overlong
    )
    price = options.beta if options.kl_in == "reward" and options.beta is not None else 0.0
    groups = (score - price * kl).reshape(-1, group)
    there = None if judged is None else jnp.asarray(judged).reshape(-1, group)
    # Of the scores alone: their KLs always differ a little.
    spread = differ(score.reshape(-1, group), there)
    counts = mask * sequences.finished[:, None] if options.rewards.truncated == "mask" else mask
    if judged is not None:
        counts = counts * jnp.asarray(judged)[:, None]
    if options.skip_equal_groups:
        counts = counts * jnp.repeat(spread[:, 0], group)[:, None]
    advantage = select(jnp.broadcast_to(options.advantage(groups, there).reshape(-1, 1), mask.shape), mask)
    tokens = unweighted(log_prob, reference_log_prob, advantage, counts)
    facts = response_facts(sequences, log_prob, sampled, kl, mask) | {
        "objective/non_score_reward": jnp.mean(-price * kl),
        "objective/scores": jnp.mean(score, where=judged),
        "objective/rlhf_reward": jnp.mean(groups, where=there),
        "objective/equal_groups": 1.0 - jnp.mean(spread.astype(jnp.float32)),
    }
    nothing = jnp.zeros_like(counts)
    return Batch(sequences, tokens, nothing, nothing, jnp.zeros_like(sequences.lengths)), facts


def part_loss(
    weights: Any, part: Batch, frozen: Any, beta: Scalar, options: GRPOOptions, width: int
) -> tuple[Array, dict[str, Array]]:
    """The share that some rows have in a minibatch's loss, and in its metrics."""
    optimisation, steps = options.optimisation, options.steps
    policy = in_precision(eqx.combine(weights, frozen), optimisation)
    now = said(
        policy, part.sequences, width, options.sampling.temperature, optimisation.gradient_checkpointing
    )
    return policy_loss(
        now.log_prob,
        now.entropy,
        part.tokens,
        steps.objective,
        ratio_of=steps.ratio,
        entropy_coefficient=steps.entropy_coefficient,
        kl_coefficient=beta if options.kl_in == "loss" and options.beta is not None else None,
        kl_estimate=steps.kl_estimate,
    )
