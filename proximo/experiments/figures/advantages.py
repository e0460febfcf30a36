"""What lambda does to an advantage: how far it looks ahead, what that costs, and what an end leaves of it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import Scalar, gae
from proximo.experiments.figures.rounded import rounded

LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
GAMMAS = (0.9, 0.97, 0.99, 1.0)
DELAYS = 41
ERRORS = (0.0, 0.1, 0.3, 0.6)  # of the critic, in units of reward
STATES, ROLLOUTS, HORIZON, SEED = 19, 1024, 256, 0
START = STATES // 2
WALK_GAMMA = 0.99
ENDS = {  # what the row before the end has: gamma's factor, and whether the next row goes on
    "none: the episode goes on": (1.0, 1.0),
    "termination": (0.0, 0.0),
    "time limit": (1.0, 0.0),
    "end of the rollout": (1.0, 0.0),
}


def weights(lam: Scalar, gamma: Scalar, delays: int = DELAYS) -> Float[Array, " delays"]:
    """The weight in the first row's advantage of a TD error so many rows later.

    Column k of the rewards holds a single 1, in row k, and all values are 0: its TD errors are the same.
    """
    error = jnp.eye(delays)
    nothing, everything = jnp.zeros_like(error), jnp.ones_like(error)
    return gae(error, nothing, nothing, gamma * everything, everything, lam)[0]


def walk_values() -> Float[Array, " states"]:
    """The true value of each state of the walk: a step to either side with probability 1/2; +1 beyond the
    right end, -1 beyond the left one, where it terminates. They solve V = r + gamma P V."""
    left, right = jnp.eye(STATES, k=-1), jnp.eye(STATES, k=1)
    reward = 0.5 * (jnp.arange(STATES) == STATES - 1) - 0.5 * (jnp.arange(STATES) == 0)
    return jnp.linalg.solve(jnp.eye(STATES) - WALK_GAMMA * 0.5 * (left + right), reward)


def rollouts() -> dict[str, Float[Array, "T N"]]:
    """Walks from the middle whose first step goes right: states, rewards, and which rows count."""
    steps = jax.random.rademacher(jax.random.key(SEED), (HORIZON, ROLLOUTS)).at[0].set(1)
    places = START + jnp.concatenate([jnp.zeros((1, ROLLOUTS), int), jnp.cumsum(steps, axis=0)])
    out = (places[1:] < 0) | (places[1:] >= STATES)
    before = jnp.cumsum(out, axis=0) - out  # ends in earlier rows
    alive = before == 0
    reward = jnp.where(out & alive, jnp.sign(steps), 0).astype(jnp.float32)
    return {
        "place": places,
        "reward": reward,
        "terminated": (out & alive).astype(jnp.float32),
        "alive": alive,
    }


def walk() -> list[dict[str, Any]]:
    """For each error of the critic: bias^2, variance and mean squared error of an advantage, by lambda.

    The critic's error alternates from state to state, so no lambda cancels it by itself. Its error in the
    first state is left out: it is the same for every action there, and moves no gradient.
    """
    true, found = walk_values(), rollouts()
    place, alive = found["place"], found["alive"].astype(jnp.float32)
    going_on = alive * (1.0 - found["terminated"])
    outside = (place < 0) | (place >= STATES)

    def estimates(error: Any, lam: Any) -> Float[Array, " N"]:
        """Of what the first step is worth: reward and value behind it."""
        critic = true + error * (-1.0) ** jnp.arange(STATES)
        value = jnp.where(outside, 0.0, critic[jnp.clip(place, 0, STATES - 1)])
        arrays = (found["reward"], value[:-1], value[1:], WALK_GAMMA * going_on, going_on)
        return gae(*arrays, lam)[0] + value[0]

    by_lambda = jax.vmap(estimates, in_axes=(None, 0))
    all_estimates = jax.jit(jax.vmap(by_lambda, in_axes=(0, None)))(jnp.array(ERRORS), jnp.array(LAMBDAS))
    bias2 = (all_estimates.mean(axis=-1) - WALK_GAMMA * true[START + 1]) ** 2
    variance = all_estimates.var(axis=-1)
    rows = zip(ERRORS, bias2, variance, bias2 + variance, strict=True)
    return [
        {"critic_error": error, "bias2": rounded(b), "variance": rounded(v), "error": rounded(e)}
        for error, b, v, e in rows
    ]


def ends() -> list[dict[str, Any]]:
    """The advantages of eight rows with reward 1 and value 5, where something ends after the fourth.

    After the last row the rollout ends in each case. Each row's advantage is beside the terms that remain.
    """
    rows, last = 8, 3
    found = []
    for name, (future, goes_on) in ENDS.items():
        reward, value = jnp.ones((rows, 1)), jnp.full((rows, 1), 5.0)
        discount = jnp.full((rows, 1), 0.99).at[last].multiply(future)
        same = jnp.ones((rows, 1)).at[last].set(goes_on).at[-1].set(0.0)
        advantage = gae(reward, value, value, discount, same, 0.95)[:, 0]
        if name == "end of the rollout":  # nothing was collected after it
            advantage = advantage.at[last + 1 :].set(jnp.nan)
        found.append({"end": name, "advantage": rounded(advantage)})
    return found


def advantages() -> dict[str, Any]:
    """The numbers of the figure."""
    settings = jnp.array(LAMBDAS), jnp.array(GAMMAS)
    return {
        "lambdas": LAMBDAS,
        "gammas": GAMMAS,
        "weights": rounded(jax.jit(jax.vmap(jax.vmap(weights, (None, 0)), (0, None)))(*settings)),
        "walk": walk(),
        "rollouts": ROLLOUTS,
        "ends": ends(),
    }
