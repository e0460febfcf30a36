"""From rewards and values to advantages and value targets, time first: every array is [T, N].

There is no `done` here. Three arrays say what an end means, and each is data, not a branch:

next_value    value of the true successor of the row, in units of reward
discount      gamma in [0, 1]; 0 at a true termination, where there is no future to count
same_episode  1 where row t+1 continues the episode of row t; 0 at any cut, whatever its reason

So a termination has (0, 0), a time limit (gamma, 0), and any other row (gamma, 1). A seam or padding
row is kept out by `same_episode = 0` on the row before it; whatever it holds, NaN included, goes no
further than its own row. Within an episode the stream is one: `next_value[t]` is `value[t + 1]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import Scalar

Row = tuple[Float[Array, " N"], ...]


def gae(
    reward: Float[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    discount: Float[Array, "T N"],
    same_episode: Float[Array, "T N"],
    lam: Scalar | Float[Array, " N"],
) -> Float[Array, "T N"]:
    """Truncated generalised advantage estimation.

    Schulman 2017, eq. 11 and 12 (from Schulman 2016, arXiv 1506.02438, eq. 16):

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma lambda A_{t+1},    A_T = 0

    We depart in one thing: the paper's segment lies within one episode. Here gamma becomes
    `discount_t`, and A_{t+1} counts only where `same_episode_t` is 1.

    reward, value, next_value  [T, N], units of reward
    discount, same_episode     [T, N], without unit; see the head of this file
    lam                        lambda in [0, 1]: 0 trusts the values, 1 trusts the rewards; [N] for one each
    returns                    advantage [T, N], units of reward

    Raises nothing; ranges are checked where options are read.
    """
    delta = reward + _discounted(discount, next_value) - value

    def step(later: Float[Array, " N"], row: Row) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        delta, discount, same_episode = row
        advantage = delta + discount * lam * jnp.where(same_episode > 0, later, 0.0)
        return advantage, advantage

    beyond = jnp.zeros_like(delta[0])
    return jax.lax.scan(step, beyond, (delta, discount, same_episode), reverse=True)[1]


def td_lambda_returns(
    reward: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    discount: Float[Array, "T N"],
    same_episode: Float[Array, "T N"],
    lam: Scalar,
) -> Float[Array, "T N"]:
    """The lambda-return, the usual target of the value function.

    Sutton and Barto 2018, eq. 12.20, with the horizon's end as a cut:

        G_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1})

    At a cut, and in the last row, lambda is 0: the value stands for all that follows.
    Equal to `gae(...) + value`; written on its own, so that each is a test of the other.

    reward, next_value      [T, N], units of reward
    discount, same_episode  [T, N], without unit; see the head of this file
    lam                     lambda in [0, 1]
    returns                 target [T, N], units of reward

    Raises nothing; ranges are checked where options are read.
    """

    def step(later: Float[Array, " N"], row: Row) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        reward, next_value, discount, same_episode = row
        blend = (1.0 - lam) * next_value + lam * later
        target = reward + _discounted(discount, jnp.where(same_episode > 0, blend, next_value))
        return target, target

    return jax.lax.scan(step, next_value[-1], (reward, next_value, discount, same_episode), reverse=True)[1]


def monte_carlo_returns(
    reward: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    discount: Float[Array, "T N"],
    same_episode: Float[Array, "T N"],
) -> Float[Array, "T N"]:
    """The discounted sum of the rewards that were seen, to the end of the episode.

    Sutton and Barto 2018, eq. 3.9:  G_t = r_t + gamma G_{t+1}

    We depart where the rewards stop and the episode does not: at a time limit and in the last row
    `next_value` stands for the rest. Equal to `td_lambda_returns` at lambda = 1.

    reward, next_value      [T, N], units of reward
    discount, same_episode  [T, N], without unit; see the head of this file
    returns                 return [T, N], units of reward

    Raises nothing.
    """

    def step(later: Float[Array, " N"], row: Row) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        reward, next_value, discount, same_episode = row
        total = reward + _discounted(discount, jnp.where(same_episode > 0, later, next_value))
        return total, total

    return jax.lax.scan(step, next_value[-1], (reward, next_value, discount, same_episode), reverse=True)[1]


def _discounted(discount: Float[Array, "*shape"], future: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # Chosen, not only multiplied: 0 * NaN is NaN, and after a termination the successor may hold anything.
    return discount * jnp.where(discount > 0, future, 0.0)
