"""Kullback-Leibler divergences: three estimates from samples, and the exact ones of three families.

Everywhere KL(p || q) is the mean, over samples of p, of log p - log q, in nats. The PPO paper's penalty
(eq. 8) and stop are on KL(old || new), so p is the policy that collected the data.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def k1(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The plain estimate of KL(old || new): without bias, but with either sign.

    Schulman 2020, "Approximating KL divergence", k1, with x = log pi_new - log pi_old:  -x

    A stop on it may never fire, since it can be negative: use `k3` there.

    log_ratio  [...], x at actions sampled from the old policy, in nats
    returns    [...], in nats

    Raises nothing.
    """
    return -log_ratio


def k2(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The squared estimate of KL(old || new): biased, with little variance, never negative.

    Schulman 2020, "Approximating KL divergence", k2, with x = log pi_new - log pi_old:  x^2 / 2

    log_ratio  [...], x at actions sampled from the old policy, in nats
    returns    [...], in nats

    Raises nothing.
    """
    return 0.5 * jnp.square(log_ratio)


def k3(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The estimate of KL(old || new) to log and to stop on: without bias, never negative.

    Schulman 2020, "Approximating KL divergence", k3, with x = log pi_new - log pi_old:  (e^x - 1) - x

    We depart in rounding alone: e^x - 1 is one function, exact for small x. Beyond x = 88 it is inf in
    float32, which stops what it should stop. As a loss its gradient is not that of this divergence.

    log_ratio  [...], x at actions sampled from the old policy, in nats
    returns    [...], in nats

    Raises nothing.
    """
    return jnp.expm1(log_ratio) - log_ratio


def categorical_kl(
    logits_p: Float[Array, "*shape choices"], logits_q: Float[Array, "*shape choices"]
) -> Float[Array, "*shape"]:
    """KL(p || q) of two choices among K, exact.

    sum_i p_i (log p_i - log q_i), with 0 log 0 = 0

    A logit of -inf, or one so low that its probability is 0, is a choice that is not allowed.

    logits  [..., K], not necessarily normalised, in nats
    returns [...], in nats; inf where p allows what q does not; NaN where nothing is allowed

    Raises nothing.
    """
    log_p = jax.nn.log_softmax(logits_p)
    log_q = jax.nn.log_softmax(logits_q)
    return jnp.sum(_expected(jnp.exp(log_p), log_p, log_q), axis=-1)


def diagonal_gaussian_kl(
    mean_p: Float[Array, "*shape size"],
    log_std_p: Float[Array, "*shape size"],
    mean_q: Float[Array, "*shape size"],
    log_std_q: Float[Array, "*shape size"],
) -> Float[Array, "*shape"]:
    """KL(p || q) of two normal distributions with independent components, exact.

    sum_i log(sigma_q / sigma_p) + (sigma_p^2 + (mu_p - mu_q)^2) / (2 sigma_q^2) - 1/2

    We depart in rounding alone: with d = log sigma_p - log sigma_q the spread's part is
    (e^{2d} - 1 - 2d) / 2, which is not negative in float32 either.

    mean     [..., size], unit of the action
    log_std  [..., size], log of the standard deviation
    returns  [...], in nats

    Raises nothing.
    """
    wider = 2.0 * (log_std_p - log_std_q)
    apart = (mean_p - mean_q) * jnp.exp(-log_std_q)
    return 0.5 * jnp.sum(jnp.expm1(wider) - wider + jnp.square(apart), axis=-1)


def bernoulli_kl(
    logits_p: Float[Array, "*shape size"], logits_q: Float[Array, "*shape size"]
) -> Float[Array, "*shape"]:
    """KL(p || q) of two sets of independent switches, exact.

    sum_i p_i log(p_i / q_i) + (1 - p_i) log((1 - p_i) / (1 - q_i)), with 0 log 0 = 0

    A logit of -inf is a switch that is always off, one of inf a switch that is always on.

    logits   [..., size], log odds of "on", in nats
    returns  [...], in nats; inf where p allows what q does not

    Raises nothing.
    """
    on = _expected(jax.nn.sigmoid(logits_p), jax.nn.log_sigmoid(logits_p), jax.nn.log_sigmoid(logits_q))
    off = _expected(jax.nn.sigmoid(-logits_p), jax.nn.log_sigmoid(-logits_p), jax.nn.log_sigmoid(-logits_q))
    return jnp.sum(on + off, axis=-1)


def _expected(
    p: Float[Array, "*shape"], log_p: Float[Array, "*shape"], log_q: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    # Both logarithms are replaced before they meet: -inf - -inf is NaN.
    return p * (jnp.where(p > 0, log_p, 0.0) - jnp.where(p > 0, log_q, 0.0))
