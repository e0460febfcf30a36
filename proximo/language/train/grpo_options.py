"""The options of GRPO, and which of them cannot be."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from proximo import options as plain_options
from proximo.core import GroupAdvantage, Standardised
from proximo.core.arrays import traceable
from proximo.core.ranges import at_least
from proximo.language.files.model_options import ModelOptions
from proximo.language.text.records import Invalid
from proximo.language.train.optimise import Optimisation
from proximo.language.train.ppo_options import (
    RewardOptions,
    SamplingOptions,
    StepOptions,
    check_minibatches,
    check_sampling,
    require,
)
from proximo.language.train.run_options import RunOptions
from proximo.options import also


@traceable
@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """Group-relative policy optimisation of a language model: no critic, several answers to each prompt."""

    data: Annotated[str, also("--dataset-name", "--train-file")]
    """JSON lines with a `prompt` each."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What becomes of prompts that are too long: `refuse` to begin, or `drop`."""
    invalid: Invalid = "refuse"
    """What becomes of records that are wrong, such as empty prompts: `refuse` to begin, or `drop`."""
    episodes: Annotated[int, at_least(1), also("--total-episodes")] = 10_000
    """Responses to learn from in all."""
    advantage: Annotated[GroupAdvantage, also("--scale-rewards")] = field(default_factory=Standardised)
    """How a response is judged against its group: `standardised`, `centred`, `leave-one-out`."""
    skip_equal_groups: bool = False
    """Groups whose scores are all equal do not count in the mean (what they were paid says nothing)."""
    soft_overlong: Annotated[int, at_least(0)] = 0
    """Over so many tokens before the limit the score falls by up to 1 (DAPO, eq. 13); 0 for not at all."""
    beta: Annotated[float, at_least(0)] = 0.04
    """Price of a nat from the reference."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where it is paid: `loss`, or `reward` (RLOO); never in both."""
    samples_every: Annotated[int, at_least(1)] = 10
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
    options = plain_options.checked(options)
    check_sampling(options.sampling)
    check_minibatches(options.steps, options.sampling)
    require(
        options.sampling.samples >= 2,
        f"samples is {options.sampling.samples}: a response is judged against others, so there must be 2",
    )
    require(
        options.rewards.truncated != "bootstrap",
        "truncated is bootstrap, which needs a critic: take keep or mask",
    )
    longest = options.sampling.response_length
    require(
        options.soft_overlong < longest,
        f"soft_overlong is {options.soft_overlong}: it must lie between 0 and response_length = {longest}",
    )
    return options
