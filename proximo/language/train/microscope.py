"""An update on responses under the microscope: the steps of `update`, epoch by epoch, and every token.

As `proximo.learn.microscope` for control: it ends with the weights of `update`, bit for bit.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from proximo.core import Scalar, Unclipped, clip_fraction, explained_variance, k1, k2, k3, masked_mean, select
from proximo.language.model.compiling import jit
from proximo.language.train.estimators import estimator_of
from proximo.language.train.experience import token_rewards
from proximo.language.train.loss import log_ratio_of
from proximo.language.train.optimise import Learner, in_precision, rows_of_part
from proximo.language.train.policy import PolicyOutputs, evaluate_responses, own_value
from proximo.language.train.responses import Responses
from proximo.language.train.sampling import Experience, Frozen, Method, Prepared, prepared
from proximo.learn.descend import in_parts
from proximo.learn.loss import clip_range
from proximo.learn.microscope import cosines
from proximo.learn.update import State, minibatch_steps


class Tokens(NamedTuple):
    """What a policy says of the tokens that an earlier policy has sampled, [B, T] each.

    log_prob   of the tokens under it, in nats
    log_ratio  log pi - log pi_old as the objective compares them, in nats
    moving     whether the objective still has a slope in the ratio
    counts     whether the token counts
    """

    log_prob: Float[Array, "B T"]
    log_ratio: Float[Array, "B T"]
    moving: Bool[Array, "B T"]
    counts: Bool[Array, "B T"]


class Epoch(NamedTuple):
    """Where an update is after some epochs; names as in `proximo.learn.microscope.Epoch`.

    Without the exact KL, which would need the probabilities of all tokens of the vocabulary.
    """

    number: int
    weights: Any
    tokens: Tokens
    means: dict[str, Array]
    steps: dict[str, Array]


class Ledger(NamedTuple):
    """What every sampled token was paid, [B, T] each; 0 where there is no token.

    log_prob   of the token when it was sampled, in nats
    reference  the same of the reference model
    paid       the KL penalty taken from its reward, units of reward; 0 where the loss has the penalty
    reward     the response's score at its last token, less `paid`
    advantage  as the objective sees it
    """

    log_prob: Float[Array, "B T"]
    reference: Float[Array, "B T"]
    paid: Float[Array, "B T"]
    reward: Float[Array, "B T"]
    advantage: Float[Array, "B T"]


def replay(
    learner: Learner, experience: Experience, options: Method, remaining: Scalar, frozen: Frozen
) -> Iterator[Epoch]:
    """The epochs of `update` with the same arguments, from before the first to after the last."""
    state, tokens, means = _begin(learner, experience, options, remaining, frozen)
    yield Epoch(0, state.weights, tokens, means, {})
    for number in range(options.steps.epochs):
        state, tokens, means, steps = _epoch(
            learner, experience, options, remaining, frozen, state, np.int32(number)
        )
        yield Epoch(number + 1, state.weights, tokens, means, steps)


@jit
def _begin(
    learner: Learner, experience: Experience, options: Method, remaining: Scalar, frozen: Frozen
) -> tuple[State, Tokens, dict[str, Array]]:
    start = prepared(learner, experience, options, remaining, frozen)
    return start.state, *look(start.state.weights, start, options, frozen)


@jit
def _epoch(
    learner: Learner,
    experience: Experience,
    options: Method,
    remaining: Scalar,
    frozen: Frozen,
    state: State,
    number: Any,
) -> tuple[State, Tokens, dict[str, Array], dict[str, Array]]:
    start = prepared(learner, experience, options, remaining, frozen)
    order = start.order[number]
    after, history = minibatch_steps(state, order[None], start.task)
    steps = {name: values[0] for name, values in history.items()}
    steps["cosine"] = cosines(state.weights, order, start.task)
    return after, *look(after.weights, start, options, frozen), steps


def look(weights: Any, start: Prepared, options: Method, frozen: Frozen) -> tuple[Tokens, dict[str, Array]]:
    """What weights say of the tokens of an update, and the means over those that count."""
    batch, objective, mask = start.batch, options.steps.objective, start.batch.mask
    now = _outputs(weights, batch.responses, options, frozen, mask.shape[1])
    by_token = log_ratio_of(now.log_prob, batch.log_prob, mask, "token")
    log_ratio = log_ratio_of(now.log_prob, batch.log_prob, mask, options.steps.ratio)
    slope = jax.grad(lambda x: jnp.sum(objective(x, batch.advantage)))(log_ratio)

    def mean(x: Array) -> Array:
        return masked_mean(x, mask)

    means = {
        "k1": mean(k1(by_token)),
        "k2": mean(k2(by_token)),
        "k3": mean(k3(by_token)),
        "outside": mean(clip_fraction(log_ratio, *clip_range(objective))),
        "no_slope": mean((slope == 0.0).astype(jnp.float32)),
        "surrogate": mean(objective(log_ratio, batch.advantage)),
        "unclipped": mean(Unclipped()(log_ratio, batch.advantage)),
        "entropy": mean(now.entropy),
    }
    if batch.value is not None:
        value = own_value(batch.critic, now.values)
        means["value_error"] = mean(jnp.square(value - batch.target))
        means["explained_variance"] = explained_variance(value, batch.target, mask)
    return Tokens(now.log_prob, log_ratio, slope != 0.0, mask > 0), means


def _outputs(
    weights: Any, responses: Responses, options: Method, frozen: Frozen, length: int
) -> PolicyOutputs:
    """What a policy says of all responses, a few at a time."""
    policy = in_precision(eqx.combine(weights, frozen.weights), options.optimisation)
    count, columns = responses.ids.shape
    rows = rows_of_part(count, columns, options.steps.micro_batch_tokens)

    def of_part(part: Responses) -> PolicyOutputs:
        return evaluate_responses(policy, part, columns - length, options.sampling.temperature)

    parts = jax.lax.map(of_part, in_parts(responses, rows))
    whole: PolicyOutputs = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), parts)
    return whole


@jit
def ledger(
    learner: Learner, experience: Experience, options: Method, remaining: Scalar, frozen: Frozen
) -> Ledger:
    """What every token was paid; arguments as of `update`. Rewards are as scored, before any scaling."""
    batch = prepared(learner, experience, options, remaining, frozen).batch
    lengths, finished = experience.responses.lengths, experience.responses.finished
    mask = (jnp.arange(batch.mask.shape[1]) < lengths[:, None]).astype(jnp.float32)
    kl = select(batch.log_prob - batch.reference_log_prob, mask)
    price = estimator_of(options).price(learner.kl) if options.kl_in == "reward" else None
    beta: Any = 0.0 if price is None else price
    score = jnp.nan_to_num(experience.score) - options.rewards.missing_eos_penalty * ~finished
    reward = token_rewards(score, kl, lengths, beta)
    parts = (batch.log_prob, batch.reference_log_prob, beta * kl, reward, batch.advantage)
    return Ledger(*(select(part, mask) for part in parts))
