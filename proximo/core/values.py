"""The value function's losses, to MINIMISE, one number per transition; `reduce.masked_mean` makes the scalar.

All take the same three arguments, so that one can stand for another. Each is a tree of arrays, so its
numbers can be traced, annealed, or differ between members of a `vmap`.
"""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core.arrays import traceable
from proximo.core.ranges import above


@traceable
@dataclass(frozen=True)
class SquaredError:
    """Half the squared distance to the target.

    Schulman 2017, eq. 9:  (V - V_targ)^2, here with the factor 1/2 that OpenAI baselines and CleanRL use

    Stable-Baselines3 and Tianshou have no 1/2: their value coefficient counts twice ours.

    value      [...], the value now, units of reward
    old_value  [...], not used here
    target     [...], the return to learn, units of reward
    returns    loss [...], units of reward squared

    Raises nothing.
    """

    def __call__(
        self, value: Float[Array, "*shape"], old_value: Float[Array, "*shape"], target: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return 0.5 * jnp.square(value - target)


@traceable
@dataclass(frozen=True)
class ClippedSquaredError:
    """The squared error, with no gain from moving the value further than epsilon from where it was.

    Huang et al. 2022, detail 9 (not in the PPO paper, though in its code):

        V_near = V_old + clip(V - V_old, -epsilon, epsilon)
        1/2 max((V - V_targ)^2, (V_near - V_targ)^2)

    The larger of the two keeps a gradient where the value has moved the wrong way; the clipped term
    alone has none there. Studies find no gain from it (Andrychowicz 2020), and it depends on the scale
    of the rewards: off by default.

    epsilon    half-width of the range around the old value, units of reward; 0.2 supposes scaled rewards
    value      [...], the value now, units of reward
    old_value  [...], the value when the data was collected, units of reward
    target     [...], the return to learn, units of reward
    returns    loss [...], units of reward squared

    Raises nothing; ranges are checked where options are read.
    """

    epsilon: Annotated[float, above(0)] = 0.2

    def __call__(
        self, value: Float[Array, "*shape"], old_value: Float[Array, "*shape"], target: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        near = old_value + jnp.clip(value - old_value, -self.epsilon, self.epsilon)
        return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(near - target))


@traceable
@dataclass(frozen=True)
class Huber:
    """The squared error near the target, the absolute error far from it.

    Huber 1964, with e = V - V_targ:  e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)

    delta      where the parabola turns into a line, units of reward
    value      [...], the value now, units of reward
    old_value  [...], not used here
    target     [...], the return to learn, units of reward
    returns    loss [...], units of reward squared

    Raises nothing; ranges are checked where options are read.
    """

    delta: Annotated[float, above(0)] = 1.0

    def __call__(
        self, value: Float[Array, "*shape"], old_value: Float[Array, "*shape"], target: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        error = value - target
        near = jnp.clip(error, -self.delta, self.delta)
        return near * (error - 0.5 * near)


ValueLoss = SquaredError | ClippedSquaredError | Huber
