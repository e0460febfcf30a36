"""The cross-entropy method: search among parameters by sampling, without a gradient.

One of the PPO paper's baselines (section 6.2). A population is a normal distribution over flat vectors
of P parameters, each on its own; in every round K candidates are drawn and tried, and the population
is fitted again to the best of them. State goes in and comes out.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar


class Population(NamedTuple):
    """Where the candidates of the next round are drawn from.

    mean  [P]  units of the parameters
    std   [P]  standard deviation, units of the parameters
    """

    mean: Float[Array, " P"]
    std: Float[Array, " P"]


def candidates(state: Population, noise: Float[Array, "K P"]) -> Float[Array, "K P"]:
    """What to try in this round.

    Rubinstein 1999:  w_k = mean + std n_k

    Mean [1, 2], std [0.5, 2] and noise [1, -1] make the candidate [1.5, 0].

    state    the population
    noise    [K, P], standard normal numbers, without unit
    returns  [K, P], units of the parameters

    Raises nothing.
    """
    return state.mean + state.std * noise


def refit(
    state: Population,
    candidates: Float[Array, "K P"],
    fitness: Float[Array, " K"],
    elite: int,
    extra_std: Scalar,
) -> Population:
    """The population of the next round, from the best candidates of this one.

    Rubinstein 1999, with the noise of Szita and Lorincz 2006 ("Learning Tetris using the noisy
    cross-entropy method"); I are the `elite` candidates with the highest fitness:

        mean = sum_{i in I} w_i / elite
        std  = sqrt(sum_{i in I} (w_i - mean)^2 / elite + extra_std^2)

    Without the noise the spread shrinks from round to round, and often before the best is near.
    Elite values 1 and 3, extra_std 0.75: mean 2, variance 1, std sqrt(1 + 0.5625) = 1.25.

    We depart where fewer than `elite` candidates have a fitness: the population stays as it is, since
    what failed would only be drawn again.

    state       the population that the candidates came from
    candidates  [K, P], units of the parameters
    fitness     [K], the higher the better, any unit; NaN ranks below everything, -inf too
    elite       how many are kept, 1 to K; a tenth of K is usual
    extra_std   standard deviation of the added noise, units of the parameters; annealed to 0, if at all
    returns     a new population

    Raises ValueError where `elite` is not within 1 to K.
    """
    if not 1 <= elite <= len(candidates):
        raise ValueError(f"elite is {elite}: there are {len(candidates)} candidates")
    order = jnp.argsort(-fitness)[:elite]  # puts NaN last, and -NaN is NaN
    best = candidates[order]
    std = jnp.sqrt(jnp.var(best, axis=0) + jnp.square(extra_std))
    failed = jnp.isnan(fitness[order[-1]])
    return Population(
        jnp.where(failed, state.mean, jnp.mean(best, axis=0)), jnp.where(failed, state.std, std)
    )
