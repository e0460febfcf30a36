"""PPO for language models: sample, score, estimate advantages token by token, improve (Ziegler et al. 2019).

Tokens are time steps and a response is an episode: `gae`, the objectives, the value losses and the means
are those of `proximo.core`, which HalfCheetah is trained with.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core import (
    KLController,
    Moments,
    Scalar,
    empty_moments,
    explained_variance,
    masked_sum,
    merge,
    moments_of,
    standard_deviation,
    whiten,
)
from proximo.language.files.adapter_files import save_with_adapters
from proximo.language.model.compiling import jit
from proximo.language.train.critics import critic_of_row, own_value, where_they_agree
from proximo.language.train.experience import Returns, response_facts, returns_of
from proximo.language.train.job import Outcome
from proximo.language.train.loss import policy_loss, unweighted
from proximo.language.train.optimise import in_precision, learning_rate_at, remaining_at, rows_of_part
from proximo.language.train.policy import Policy, Sequences, reference_log_probs, response_mask, said
from proximo.language.train.ppo_options import PPOOptions
from proximo.language.train.rollout import Rollouts
from proximo.language.train.update import Batch, compiled_for, minibatch_order, update
from proximo.learn.descend import adam, in_parts


class Learner(NamedTuple):
    """All that learning changes.

    weights   the policy's trained arrays; None where an array is frozen
    moments   Adam's
    kl        the price of a nat
    scores    running moments of the scores
    """

    weights: Any
    moments: Any
    kl: KLController
    scores: Moments


class PPO:
    """The trainer (see `job.Trainer`).

    options    checked
    policy     to begin with
    trained    tree of booleans: which of its arrays learn
    reference  the model that the policy is tethered to
    rollouts   prompts, sampling and scores
    """

    def __init__(
        self, options: PPOOptions, policy: Policy, trained: Any, reference: Any, rollouts: Rollouts
    ) -> None:
        self.options, self.rollouts, self.reference = options, rollouts, reference
        self.compiled_for, self.notes = compiled_for(options), rollouts.notes
        self.first, self.frozen = eqx.partition(policy, trained)
        self.rows = options.sampling.batch_size * options.sampling.samples
        self.total = -(-options.episodes // self.rows)

    def begin(self) -> Learner:
        """The policy as it was given, and nothing seen."""
        moments = adam(self.first)
        kl = jax.tree.map(jnp.float32, self.options.kl)
        return Learner(self.first, moments, kl, empty_moments(()))

    def iterate(self, state: Learner, number: int) -> Outcome:
        """Sample responses, score them, and learn from them."""
        options, started = self.options, time.perf_counter()
        policy = eqx.combine(state.weights, self.frozen)
        actor = in_precision(policy.model, options.optimisation)  # draws with the numbers that it learns with
        rollout = self.rollouts.collected(actor, number)
        batch, kl, scores, facts = experience(
            policy,
            self.reference,
            rollout.sequences,
            rollout.score,
            rollout.log_prob,
            state.kl,
            state.scores,
            self.compiled_for,
            rollout.width,
            rollout.judged,
        )
        rate = learning_rate_at(options.optimisation, remaining_at(number, self.total))
        order = minibatch_order(options.run.seed, number, options.steps, self.rows)
        warming = options.critic.critic_warmup
        # What the actor said before its first step has a KL of 0, which says nothing of the price.
        kl = state.kl if number <= warming else kl
        weights, moments, metrics = update(
            part_loss,
            state.weights,
            restarted(state.moments) if 0 < warming == number else state.moments,
            self.frozen,
            batch,
            state.kl.beta,
            rate,
            order,
            self.compiled_for,
            rollout.width,
            held=jnp.asarray(number < warming) if warming else None,
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
        completions = rollout.rows() if look else ()
        return Outcome(Learner(weights, moments, kl, scores), numbers, rollout.tokens, completions)

    def save(self, state: Learner, folder: Path) -> None:
        """Write the policy's model; its critics stay in the checkpoints."""
        model = eqx.combine(state.weights, self.frozen).model
        save_with_adapters(folder, model, self.rollouts.tokenizer, self.options.model)


def restarted(moments: Any) -> Any:
    """Adam's moments as before the first step, for the actor to begin with.

    While it was held they took in zeros in the place of its gradients, and the count of steps, one for all
    weights, rose. Corrected for bias by that count, its first steps would be up to six times the learning
    rate: after k equal gradients (1 - 0.9^k) / sqrt(1 - 0.999^k), which is 6.6 at k = 12. The critic's begin
    again with them.
    """
    return jax.tree.map(jnp.zeros_like, moments)


def passes(
    policy: Policy, reference: Any, sequences: Sequences, options: PPOOptions, width: int
) -> tuple[Float[Array, "B T"], Float[Array, "B C T1"], Float[Array, "B T"]]:
    """Log-probabilities of the policy, what its critics say, and log-probabilities of the reference."""
    temperature, optimisation = options.sampling.temperature, options.optimisation
    policy, reference = (in_precision(tree, optimisation) for tree in (policy, reference))

    def both(part: Sequences) -> tuple[Array, Array, Array]:
        now = said(policy, part, width, temperature)
        return now.log_prob, now.values, reference_log_probs(reference, part, width, temperature)

    rows = rows_of_part(len(sequences.ids), sequences.ids.shape[1], options.steps.micro_batch_tokens)
    parts = jax.lax.map(both, in_parts(sequences, rows))
    log_prob, values, reference_log_prob = (x.reshape(-1, *x.shape[2:]) for x in parts)
    return log_prob, values, reference_log_prob


def returns_by(
    options: PPOOptions,
    score: Float[Array, "B"],
    log_prob: Float[Array, "B T"],
    reference_log_prob: Float[Array, "B T"],
    value: Float[Array, "B T1"],
    sequences: Sequences,
    counts: Float[Array, "B T"],
    beta: Scalar,
) -> Returns:
    """`returns_of` as the options have it."""
    critic = options.critic
    return returns_of(
        score,
        log_prob,
        reference_log_prob,
        value,
        sequences.lengths,
        sequences.finished,
        beta=beta,
        gamma=critic.gamma,
        lam=critic.gae_lambda,
        critic_lam=critic.critic_lambda,
        length_lam=critic.length_lambda,
        whiten_rewards=options.whiten_rewards,
        counts=counts,
        bootstrap=options.rewards.truncated == "bootstrap",
    )


@partial(jit, static_argnames="width")
def experience(
    policy: Policy,
    reference: Any,
    sequences: Sequences,
    score: Float[Array, "B"],
    sampled: Float[Array, "B T"],
    kl: KLController,
    scores: Moments,
    options: PPOOptions,
    width: int,
    judged: Bool[Array, "B"] | None = None,
) -> tuple[Batch, KLController, Moments, dict[str, Array]]:
    """What the update learns from, and the facts of the batch before it.

    score    of each response, units of reward
    sampled  log-probabilities of the tokens when they were drawn, in nats
    kl       the price of a nat in this batch; the next batch's is returned
    scores   running moments of the scores; with this batch counted in they are returned
    width    columns that prompts take
    judged   whether a response has a score; all do unless given. Nothing is learned from the others
    """
    if judged is not None:
        score = jnp.where(judged, score, 0.0)
    known = jnp.ones_like(score) if judged is None else jnp.asarray(judged, score.dtype)
    scores = merge(scores, moments_of(score[None], known[None]))
    score = score / standard_deviation(scores) if options.scale_scores else score
    score = score - options.rewards.missing_eos_penalty * ~sequences.finished
    log_prob, values, reference_log_prob = passes(policy, reference, sequences, options, width)
    value = jnp.mean(values, axis=1)
    beta = kl.beta if options.kl_in == "reward" else 0.0
    mask = response_mask(sequences.lengths, log_prob.shape[1])
    counts = mask * sequences.finished[:, None] if options.rewards.truncated == "mask" else mask
    if judged is not None:
        counts = counts * known[:, None]
    returns = returns_by(options, score, log_prob, reference_log_prob, value, sequences, counts, beta)
    advantage, bonus = whiten(returns.advantage, counts), None
    gap: dict[str, Array] = {}
    if values.shape[1] > 1:
        shares = options.critic.advantage_masking, options.critic.entropy_filtering
        keeps, bonus, gap = where_they_agree(values, counts, *shares)
        advantage = advantage * keeps
    tokens = unweighted(log_prob, reference_log_prob, advantage, counts, bonus)
    nats = jnp.sum(returns.kl, axis=1)
    facts = gap | response_facts(sequences, log_prob, sampled, nats, mask)
    facts |= {
        "objective/kl_coefficient": jnp.asarray(kl.beta, jnp.float32),
        "objective/non_score_reward": jnp.mean(-beta * nats),
        "objective/scores": jnp.mean(score, where=judged),
        "objective/rlhf_reward": jnp.mean(score - beta * nats, where=judged),
        "val/explained_var": explained_variance(value[:, :-1], returns.target, counts),
    }
    after = kl.adapted(facts["objective/kl"], float(score.size))
    critic = critic_of_row(*values.shape[:2])
    batch = Batch(sequences, tokens, own_value(critic, values), returns.target, critic)
    return batch, after, scores, facts


def part_loss(
    weights: Any, part: Batch, frozen: Any, beta: Scalar, options: PPOOptions, width: int
) -> tuple[Array, dict[str, Array]]:
    """The share that some rows have in a minibatch's loss, and in its metrics.

    policy loss + value_coefficient value loss, over the tokens that count (Schulman 2017, eq. 9)

    Of two critics each learns from its own responses, which count as if they were half of the minibatch's
    tokens, and the losses are added (AsyPPO).
    """
    steps, critic, optimisation = options.steps, options.critic, options.optimisation
    policy = in_precision(eqx.combine(weights, frozen), optimisation)
    now = said(
        policy, part.sequences, width, options.sampling.temperature, optimisation.gradient_checkpointing
    )
    loss, metrics = policy_loss(
        now.log_prob,
        now.entropy,
        part.tokens,
        steps.objective,
        ratio_of=steps.ratio,
        entropy_coefficient=steps.entropy_coefficient,
        kl_coefficient=beta if options.kl_in == "loss" else None,
        kl_estimate=steps.kl_estimate,
    )
    value = own_value(part.critic, now.values)
    error = critic.value_loss(value, part.value, part.target)
    value_loss = masked_sum(error * part.tokens.weight, part.tokens.mask)
    moved = jnp.abs(value - part.value) > getattr(critic.value_loss, "epsilon", jnp.inf)
    metrics |= {
        "loss/value_avg": value_loss,
        "val/clipfrac_avg": masked_sum(moved * part.tokens.share, part.tokens.mask),
    }
    return loss + len(policy.critics) * critic.value_coefficient * value_loss, metrics
