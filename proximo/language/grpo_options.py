"""The options of GRPO, how a response is judged against its group, and which options cannot be."""

from dataclasses import dataclass, field
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from proximo.core.arrays import traceable
from proximo.language.optimise import Optimisation
from proximo.language.options import ModelOptions, RunOptions
from proximo.language.ppo_options import (
    RewardOptions,
    SamplingOptions,
    StepOptions,
    check_run,
    check_sampling,
    check_steps,
    number,
    require,
    whole,
)

SMALLEST_SPREAD = 1e-6  # of a group's scores, relative to the largest; less is float32's rounding of them


def from_first(score: Float[Array, "P G"]) -> Float[Array, "P G"]:
    """score - the group's first: exactly 0 where all are equal. Their rounded mean may be another number."""
    return score - score[:, :1]


def differ(score: Float[Array, "P G"]) -> Bool[Array, "P 1"]:
    """Whether a group's scores differ by more than rounding, whatever their unit."""
    size = jnp.max(jnp.abs(score), axis=1, keepdims=True)
    return jnp.max(jnp.abs(from_first(score)), axis=1, keepdims=True) > SMALLEST_SPREAD * size


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

    def __call__(self, score: Float[Array, "P G"]) -> Float[Array, "P G"]:
        away, there = from_first(score), differ(score)
        # In units of the largest: the square of a small score would be 0 in float32.
        unit = away / jnp.where(there, jnp.max(jnp.abs(away), axis=1, keepdims=True), 1.0)
        spread = jnp.std(unit, axis=1, keepdims=True, ddof=1)
        return jnp.where(there, centred(unit) / jnp.where(there, spread, 1.0), 0.0)


@traceable
@dataclass(frozen=True)
class Centred:
    """score - the group's mean (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783).

    Without the division, prompts that are very easy or very hard do not count more than the others.
    """

    def __call__(self, score: Float[Array, "P G"]) -> Float[Array, "P G"]:
        return centred(score)


@traceable
@dataclass(frozen=True)
class LeaveOneOut:
    """score - the mean of the group's OTHER scores (RLOO, Ahmadian et al. 2024, arXiv 2402.14740, eq. 7).

    That mean does not depend on the response, so it is a baseline without bias. It is `Centred` times
    G / (G - 1).
    """

    def __call__(self, score: Float[Array, "P G"]) -> Float[Array, "P G"]:
        group = score.shape[1]
        return centred(score) * group / (group - 1)


GroupAdvantage = Standardised | Centred | LeaveOneOut


@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """Group-relative policy optimisation of a language model: no critic, several answers to each prompt."""

    data: str
    """JSON lines with a `prompt` each."""
    episodes: int = 10_000
    """Responses to learn from in all."""
    advantage: GroupAdvantage = field(default_factory=Standardised)
    """How a response is judged against its group: `standardised`, `centred`, `leave-one-out`."""
    skip_equal_groups: bool = False
    """Groups whose scores are all equal do not count in the mean (what they were paid says nothing)."""
    soft_overlong: int = 0
    """Over so many tokens before the limit the score falls by up to 1 (DAPO, eq. 13); 0 for not at all."""
    beta: float = 0.04
    """Price of a nat from the reference."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where it is paid: `loss`, or `reward` (RLOO); never in both."""
    samples_every: int = 10
    """Iterations between two looks at completions."""
    model: ModelOptions
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(batch_size=8, samples=8))
    rewards: RewardOptions = field(default_factory=RewardOptions)
    steps: StepOptions = field(
        default_factory=lambda: StepOptions(epochs=1, aggregation="sequences", kl_estimate="k3")
    )
    optimisation: Optimisation = field(default_factory=Optimisation)
    run: RunOptions = field(default_factory=RunOptions)


def checked(options: GRPOOptions) -> GRPOOptions:
    """The same options, or a UserError that says which cannot be and what could."""
    check_sampling(options.sampling)
    check_steps(options.steps, options.sampling)
    options.optimisation.checked()
    check_run(options.rewards, options.run)
    whole(options, "episodes", "samples_every")
    require(
        options.sampling.samples >= 2,
        f"samples is {options.sampling.samples}: a response is judged against others, so there must be 2",
    )
    number("beta", options.beta, least=0)
    require(
        options.rewards.truncated != "bootstrap",
        "truncated is bootstrap, which needs a critic: take keep or mask",
    )
    longest = options.sampling.response_length
    require(
        0 <= options.soft_overlong < longest,
        f"soft_overlong is {options.soft_overlong}: it must lie between 0 and response_length = {longest}",
    )
    return options
