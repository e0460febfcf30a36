"""Critics of a language model's responses: one on the actor's trunk, one on its own, or two that disagree."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from proximo.core import masked_mean
from proximo.language.model.heads import number
from proximo.language.model.layers import Linear
from proximo.language.model.transformer import Transformer


class Critic(eqx.Module):
    """Hidden state -> value, units of reward."""

    score: Linear  # [D, 1], the head
    trunk: Transformer | None = None  # what it reads with; None where it reads the actor's hidden states

    def everywhere(self, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
        """The value at each place, of hidden states."""
        return number(self.score, hidden)


def own_critic(trunk: Transformer, score: Linear | None = None) -> Critic:
    """A critic with a trunk of its own, which may be smaller than the actor's.

    score  the head, such as a reward model's; one that says 0 everywhere unless given
    """
    return Critic(zero_head(trunk) if score is None else score, trunk)


def zero_head(model: Transformer) -> Linear:
    """A critic's head that says 0 everywhere."""
    return Linear(jnp.zeros((model.config.size, 1)), jnp.zeros(1))


def critic_of_row(rows: int, critics: int) -> Int[Array, "B"]:
    """The number of the critic that learns from each response.

    They take turns, so that several responses to a prompt, which stand side by side, are shared out evenly
    (Liu et al. 2025, AsyPPO, arXiv 2510.01656): the critics see all prompts, and no response is seen by two.
    """
    return jnp.arange(rows) % critics


def own_value(critic: Int[Array, "B"], values: Float[Array, "B C T1"]) -> Float[Array, "B T"]:
    """What the critic that learns from each response says before each of its tokens."""
    own = critic[:, None] == jnp.arange(values.shape[1])  # not an index: rows stay on their devices
    return jnp.sum(jnp.where(own[:, :, None], values[:, :, :-1], 0.0), axis=1)


def where_they_agree(
    values: Float[Array, "B C T1"], counts: Float[Array, "B T"], masking: float, filtering: float
) -> tuple[Float[Array, "B T"], Float[Array, "B T"], dict[str, Array]]:
    """What the disagreement of critics, the standard deviation of their values, says of the tokens (AsyPPO).

    counts     1 for the tokens that count
    masking    share of these, where they agree most, that have little to teach
    filtering  share of these, where they agree least, whose entropy should not be raised

    Returns 1 where a token is to keep its advantage, 1 where its entropy is to be rewarded, and a metric.
    """
    gap = jnp.std(values[:, :, :-1], axis=1)
    agreed, disputed = lowest(gap, counts, masking), lowest(-gap, counts, filtering)
    return 1.0 - agreed, 1.0 - disputed, {"val/critics_std": masked_mean(gap, counts)}


def lowest(x: Float[Array, "B T"], mask: Float[Array, "B T"], share: float) -> Float[Array, "B T"]:
    """1 for the tokens whose x is among the lowest share of those in the mask, 0 for the others.

    Equal ones are in or out together, and out in doubt: where all are equal, none is low.

    share  from 0 to below 1
    """
    low_first = jnp.sort(jnp.where(mask > 0, x, jnp.inf).ravel())
    many = jnp.floor(share * jnp.sum(mask)).astype(jnp.int32)
    return mask * (x < low_first[many])
