"""A language model that scores texts: a reward model, or the start of a critic."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from proximo.errors import UserError
from proximo.language.model.layers import Linear
from proximo.language.model.transformer import Transformer


class RewardModel(eqx.Module):
    """A score for a text: score(hidden state of its last token) + shift."""

    trunk: Transformer  # the transformer; its head for tokens is not needed, and not kept
    score: Linear  # [D, 1], without bias, as the Hub's sequence classification with one label
    # added to every score, so that they can be centred; the Hub's format has no place for it but a
    # field of our own in `config.json`, so `transformers` returns our scores less this number
    shift: float = eqx.field(static=True, default=0.0)
    # of a model that was trained elsewhere: a text ends before the tokens with this id, even where they
    # mean its end, since `transformers` reads its score there; None for one of ours
    pad_id: int | None = eqx.field(static=True, default=None)

    def scores(
        self,
        ids: Int[Array, "B L"],
        segments: Int[Array, "B L"] | None = None,
        checkpoint: bool = False,
    ) -> Float[Array, "B"]:
        """The score of each text at its last token, in float32.

        ids         tokens
        segments    0 for padding, on either side; by default none is padding
        checkpoint  as in `Transformer.hidden`
        """
        segments = jnp.ones_like(ids) if segments is None else segments
        last = last_valid(segments if self.pad_id is None else segments * (ids != self.pad_id))
        hidden = self.trunk.hidden(ids, segments, checkpoint=checkpoint)
        return self.everywhere(hidden[jnp.arange(ids.shape[0]), last])

    def everywhere(self, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
        """The score at each place, of hidden states."""
        return number(self.score, hidden) + self.shift


def number(head: Linear, hidden: Float[Array, "... D"]) -> Float[Array, "..."]:
    """What a head with one output says, in float32 whatever the trunk computes in.

    In bfloat16 the number after 3 is 3.016, and less may decide between two answers.
    """
    with jax.default_matmul_precision("float32"):
        return head(hidden.astype(jnp.float32))[..., 0]


def last_valid(segments: Int[Array, "B L"]) -> Int[Array, "B"]:
    """The place of each row's last token that is not padding (0 where all is padding)."""
    return jnp.max(jnp.where(segments > 0, jnp.arange(segments.shape[1]), 0), axis=1)


def new_reward_model(trunk: Transformer, key: PRNGKeyArray) -> RewardModel:
    """A reward model on a trained trunk.

    The head's weights are N(0, 1 / (D + 1)), so that first scores are of the size of a normalised hidden
    state's entries (Stiennon et al. 2020).
    """
    size, dtype = trunk.config.size, trunk.embedding.dtype
    weight = jax.random.normal(key, (size, 1), dtype) / jnp.asarray(math.sqrt(size + 1), dtype)
    return RewardModel(without_head(trunk), Linear(weight, None))


def without_head(model: Transformer) -> Transformer:
    """The same model without its token head."""
    return eqx.tree_at(lambda m: m.head, model, None, is_leaf=lambda x: x is None)


def normalised(model: RewardModel, mean: float, std: float) -> RewardModel:
    """A reward model whose scores are (score - mean) / std.

    mean, std  of the scores that `model` gives to samples of the reference, so that theirs become 0 and 1

    The division goes into the head's weights: score' = hidden . (w / std) + (shift - mean) / std

    Raises UserError unless std is positive and both are finite.
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise UserError(
            f"scores of mean {mean} and standard deviation {std} cannot be normalised: "
            "the reward model gives all samples the same score, or no finite one"
        )
    weight = (model.score.weight.astype(jnp.float32) / std).astype(model.score.weight.dtype)
    return RewardModel(model.trunk, Linear(weight, None), (model.shift - mean) / std, model.pad_id)
