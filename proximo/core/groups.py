"""How a response is scored against the other responses to its prompt, without a critic.

Each takes the scores of several groups and returns the advantage of every member, both [P, G]: G answers to
each of P prompts, in units of the score by default. None raises anything.

    judged  which scores are valid; by default all. The others, whatever they contain, are as if they were
            not in their group, and their advantage is 0
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core.arrays import traceable

SMALLEST_SPREAD = 1e-6  # of a group's scores, relative to the largest; less is float32's rounding of them


def from_first(score: Float[Array, "P G"]) -> Float[Array, "P G"]:
    """score - the group's first: exactly 0 where all are equal. Their rounded mean may be another number."""
    return score - score[:, :1]


def has_spread(score: Float[Array, "P G"], judged: Bool[Array, "P G"] | None = None) -> Bool[Array, "P 1"]:
    """Whether a group's scores differ by more than rounding, whatever their unit."""
    score = fill_missing(score, judged)
    size = jnp.max(jnp.abs(score), axis=1, keepdims=True)
    return jnp.max(jnp.abs(from_first(score)), axis=1, keepdims=True) > SMALLEST_SPREAD * size


def fill_missing(score: Float[Array, "P G"], judged: Bool[Array, "P G"] | None) -> Float[Array, "P G"]:
    """The scores, with each invalid one replaced by the mean of its group's valid ones; 0 without any."""
    if judged is None:
        return score
    total = jnp.sum(jnp.where(judged, score, 0.0), axis=1, keepdims=True)
    return jnp.where(judged, score, total / jnp.maximum(jnp.sum(judged, axis=1, keepdims=True), 1))


def centred(score: Float[Array, "P G"]) -> Float[Array, "P G"]:
    """score - the group's mean."""
    away = from_first(score)
    return away - jnp.mean(away, axis=1, keepdims=True)


@traceable
@dataclass(frozen=True)
class Standardised:
    """(score - the group's mean) / the group's standard deviation (Shao et al. 2024, section 4.1.2).

    We depart: nothing is added to the standard deviation, so that the unit of the scores does not count; a
    group whose scores are equal has 0.
    """

    def __call__(
        self, score: Float[Array, "P G"], judged: Bool[Array, "P G"] | None = None
    ) -> Float[Array, "P G"]:
        score = fill_missing(score, judged)
        away, there = from_first(score), has_spread(score)
        # In units of the largest: the square of a small score would be 0 in float32.
        unit = away / jnp.where(there, jnp.max(jnp.abs(away), axis=1, keepdims=True), 1.0)
        spread = jnp.std(unit, axis=1, keepdims=True, ddof=1)
        if judged is not None:  # those in the others' place add no deviation, and are not to be counted
            others = jnp.maximum(jnp.sum(judged, axis=1, keepdims=True) - 1, 1)
            spread = spread * jnp.sqrt((score.shape[1] - 1) / others)
        return jnp.where(there, centred(unit) / jnp.where(there, spread, 1.0), 0.0)


@traceable
@dataclass(frozen=True)
class Centred:
    """score - the group's mean (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783).

    Without the division, very easy and very hard prompts do not weigh more than the others.
    """

    def __call__(
        self, score: Float[Array, "P G"], judged: Bool[Array, "P G"] | None = None
    ) -> Float[Array, "P G"]:
        return centred(fill_missing(score, judged))


@traceable
@dataclass(frozen=True)
class LeaveOneOut:
    """score - the mean of the group's OTHER scores (RLOO, Ahmadian et al. 2024, arXiv 2402.14740, eq. 7).

    That mean does not depend on the response, so it is a baseline without bias. It is `Centred` times
    G / (G - 1).
    """

    def __call__(
        self, score: Float[Array, "P G"], judged: Bool[Array, "P G"] | None = None
    ) -> Float[Array, "P G"]:
        if judged is None:
            group = score.shape[1]
            return centred(score) * group / (group - 1)
        count = jnp.sum(judged, axis=1, keepdims=True)
        return centred(fill_missing(score, judged)) * count / jnp.maximum(count - 1, 1)


GroupAdvantage = Standardised | Centred | LeaveOneOut
