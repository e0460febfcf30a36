"""Running normalisation of observations and rewards; the statistics are part of the learner's state.

Statistics of observations are frozen from the first step of a rollout to the end of its update: the ratio
of new to old policy is 1 before the first gradient step. Statistics of rewards include the rollout before its
update. Evaluation never changes either.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from proximo.core import Moments, empty_moments, merge, moments_of, normalise, select, standard_deviation
from proximo.core.types import VECTOR, Experience, vector_of

BOUND = 10.0  # of what the networks see, in standard deviations (Huang 2022, continuous details 6 and 8)


class ObservationNormaliser(NamedTuple):
    """Brings observation entries to mean 0 and standard deviation 1.

    moments  statistics of every entry, [features]
    active   bool [features]: the entries to normalise; one-hot and binary entries stay as they are
    offset   [features], what encoded observations, and the statistics of them, are relative to: it is
             subtracted before an observation becomes float32 (`ObservationCodec.about`), and chosen at the
             first reset
    """

    moments: Moments
    active: Bool[Array, " features"]
    offset: Float[Array, " features"]

    def __call__(self, obs: Any) -> Any:
        """What the networks see of `obs`, whose vector is [..., features]; images stay as they are."""
        vector = vector_of(obs)
        seen = jnp.where(self.active, normalise(vector, self.moments, BOUND), vector)
        return {**obs, VECTOR: seen} if isinstance(obs, dict) else seen

    def after(self, experience: Experience) -> "ObservationNormaliser":
        """With the observations counted in; seam rows are not."""
        seen = moments_of(vector_of(experience.obs)[:-1], experience.mask)
        return self._replace(moments=merge(self.moments, seen))


def observation_normaliser(active: Any) -> ObservationNormaliser:
    """One that has seen nothing yet: the identity. `active` is bool [features]."""
    return ObservationNormaliser(empty_moments(active.shape), jnp.asarray(active), jnp.zeros(active.shape))


def with_offset(arrays: Mapping[str, np.ndarray], active: Any) -> dict[str, np.ndarray]:
    """Saved arrays as this version has them: those of files that know no offset were relative to 0."""
    return {"observations.offset": np.zeros(active.shape, np.float32), **arrays}


class RewardNormaliser(NamedTuple):
    """Divides the reward by the standard deviation of the discounted return; the mean is not touched.

    Costs stay in their own unit, which that of their limits is.

    moments  statistics of the running discounted return, scalar
    running  that return in each environment, [N]; it starts again at both kinds of end
    """

    moments: Moments
    running: Float[Array, " N"]

    def __call__(self, reward: Float[Array, "T N R"]) -> Float[Array, "T N R"]:
        """Stream 0 in units of the return's standard deviation."""
        scaled = jnp.clip(reward[..., :1] / (standard_deviation(self.moments) + 1e-8), -BOUND, BOUND)
        return jnp.concatenate([scaled, reward[..., 1:]], axis=-1)

    def after(self, experience: Experience, gamma: Float[Array, ""] | float) -> "RewardNormaliser":
        """With the returns counted in.

        No reward statistics were used during the rollout, so this may come before its own update, and
        must: the very first update would see unscaled rewards otherwise.
        """

        def accumulate(running: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            reward, over = row
            running = running * gamma + reward
            return jnp.where(over, 0.0, running), running

        rows = (select(experience.reward[..., 0], experience.mask), experience.over)
        last, returns = jax.lax.scan(accumulate, self.running, rows, unroll=16)
        return RewardNormaliser(merge(self.moments, moments_of(returns, experience.mask)), last)


def reward_normaliser(num_envs: int) -> RewardNormaliser:
    """One that has seen nothing yet."""
    return RewardNormaliser(empty_moments(()), jnp.zeros(num_envs))
