"""The options of PPO and GRPO for language models, and which of them cannot be."""

import math
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Literal

from proximo.core import Clip, ClippedSquaredError, FixedKL, KLController, ValueLoss
from proximo.core.arrays import traceable
from proximo.errors import UserError
from proximo.language.files.model_options import ModelOptions
from proximo.language.text.records import Invalid
from proximo.language.train.loss import Aggregation, KLEstimate, RatioOf, TokenObjective
from proximo.language.train.optimise import Optimisation
from proximo.language.train.run_options import RunOptions

Truncated = Literal["keep", "mask", "bootstrap"]


@traceable
@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How responses are drawn. Truncating the distribution (top-k, top-p) would bias the ratio."""

    response_length: int = 64
    """Most tokens of a response."""
    temperature: float = 1.0
    """Logits are divided by it, where tokens are drawn and wherever they are scored."""
    top_k: int = 0
    """Only 0, all tokens, can be trained with."""
    top_p: float = 1.0
    """Only 1, all tokens, can be trained with."""
    stop: tuple[str, ...] = ()
    """A response also ends with one of these texts, where it has the tokens that they are encoded as."""
    batch_size: int = 64
    """Prompts of an iteration."""
    samples: int = 1
    """Responses to each prompt."""
    prompt_length: int = 512
    """Longest prompt in tokens."""


@traceable
@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What a response is worth."""

    reward: tuple[str, ...] = ()
    """Python functions, `module:function`; f(prompts, completions, completion_ids, **columns) -> numbers."""
    reward_model: tuple[str, ...] = ()
    """Folders of reward models."""
    reward_weights: tuple[float, ...] = ()
    """One for each function, then for each model; 1 unless given."""
    missing_eos_penalty: float = 0.0
    """Taken from the score of a response that hit the limit."""
    truncated: Truncated = "keep"
    """Responses that hit the limit: `keep` them as they are, `mask` them out, `bootstrap` from the critic."""


@traceable
@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a policy learns from one batch of responses."""

    epochs: int = 4
    """Passes over each batch."""
    minibatches: int = 1
    """Gradient steps in each pass."""
    micro_batch_tokens: int | None = None
    """Most tokens that go through the model at once; the same gradient. Unless said all, on a CPU 1024."""
    group_by_length: bool = False
    """Micro-batches (on a CPU there always are some) are of responses of like length, and cut to a half or a
    quarter of the columns where these fit: the same step, sooner where lengths differ, compiled thrice."""
    objective: TokenObjective = field(default_factory=Clip)
    """`clip:0.2`, `dual-clip:0.2,3`, `asymmetric-clip:0.2,0.28`, ..."""
    ratio: RatioOf = "token"
    """Of single tokens, or of whole sequences (GSPO)."""
    aggregation: Aggregation = "tokens"
    """What counts alike in the mean: `tokens`, `sequences`, or tokens over a constant `length`."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    kl_estimate: KLEstimate = "k2"
    """What is differentiated where the KL from the reference is paid in the loss: k2 pulls as the KL does, k3
    as the reversed KL, k1 not at all on fresh samples."""
    target_kl: float | None = None
    """No more steps on a batch once the KL from where it was sampled passes 1.5 times this."""


@traceable
@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """The critic, and how advantages come from it."""

    critic: Literal["shared", "separate", "two"] = "shared"
    """A value head on the policy's trunk, a critic with a trunk of its own, or two of these, which share out
    the responses to each prompt (AsyPPO)."""
    critic_from: str | None = None
    """A model's or a reward model's folder that critics with trunks of their own start from, which may be
    smaller; the policy's weights unless given."""
    advantage_masking: float = 0.0
    """Share of the tokens, those that two critics agree on most, whose advantage is set to 0 (AsyPPO 0.2)."""
    entropy_filtering: float = 0.0
    """Share of the tokens, those that two critics agree on least, without entropy bonus (AsyPPO 0.2)."""
    critic_warmup: int = 0
    """Iterations at first in which only critics learn."""
    value_loss: ValueLoss = field(default_factory=ClippedSquaredError)
    """The critic's loss."""
    value_coefficient: float = 0.1
    """Weight of the critic's loss."""
    gamma: float = 1.0
    """Discount per token."""
    gae_lambda: float = 0.95
    """0 trusts the values, 1 the rewards."""
    critic_lambda: float | None = None
    """Lambda of the critic's targets, where it is another (VAPO: 1)."""
    length_lambda: float | None = None
    """Alpha of lambda = 1 - 1 / (alpha length) for the advantages (VAPO: 0.05)."""


@traceable
@dataclass(frozen=True, kw_only=True)
class PPOOptions:
    """Proximal Policy Optimization of a language model against rewards, tethered to where it started."""

    data: str
    """JSON lines with a `prompt` each."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What becomes of prompts that are too long: `refuse` to begin, or `drop`."""
    invalid: Invalid = "refuse"
    """What becomes of records that are wrong, such as empty prompts: `refuse` to begin, or `drop`."""
    episodes: int = 10_000
    """Responses to learn from in all."""
    kl: KLController = field(default_factory=FixedKL)
    """Price of a nat from the reference: `fixed-kl:0.05`, `adaptive-kl:6`, `proportional-kl:6`."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where it is paid; never in both."""
    whiten_rewards: bool = False
    """Standard deviation 1 of the tokens' rewards, the mean kept; changes what a nat costs."""
    scale_scores: bool = False
    """Divide scores by their running standard deviation."""
    samples_every: int = 10
    """Iterations between two looks at completions."""
    model: ModelOptions
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    rewards: RewardOptions = field(default_factory=RewardOptions)
    steps: StepOptions = field(default_factory=StepOptions)
    critic: CriticOptions = field(default_factory=CriticOptions)
    optimisation: Optimisation = field(default_factory=Optimisation)
    run: RunOptions = field(default_factory=RunOptions)


def checked(options: PPOOptions, greedy: bool = False) -> PPOOptions:
    """The same options, or a UserError that says which cannot be and what could.

    greedy  whether temperature 0, the likeliest token, will do: not to learn from, but to be measured
    """
    critic = options.critic
    check_sampling(options.sampling, greedy)
    check_steps(options.steps, options.sampling)
    check_run(options.rewards, options.run)
    options.optimisation.checked()
    whole(options, "episodes", "samples_every")
    choice(options.kl)
    for name in ("gamma", "gae_lambda", "critic_lambda"):
        number(name, getattr(critic, name), least=0, most=1)
    number("length_lambda", critic.length_lambda, above=0)
    number("value_coefficient", critic.value_coefficient, least=0)
    whole(critic, "critic_warmup", least=0)
    total = -(-options.episodes // (options.sampling.batch_size * options.sampling.samples))
    require(
        critic.critic_warmup == 0 or critic.critic_warmup < total,
        f"critic_warmup is {critic.critic_warmup} of {total} iterations in all: the policy would never learn",
    )
    choice(critic.value_loss)
    require(
        critic.critic_from is None or critic.critic != "shared",
        "critic_from needs a critic of its own: --critic separate, or two",
    )
    for name in ("advantage_masking", "entropy_filtering"):
        share = getattr(critic, name)
        number(name, share, least=0, below=1)
        require(share == 0 or critic.critic == "two", f"{name} needs two critics: --critic two")
    require(
        critic.critic != "two" or options.sampling.samples > 1,
        "two critics share out the responses to a prompt: --samples 2 or more",
    )
    require(
        critic.entropy_filtering == 0 or options.steps.entropy_coefficient > 0,
        "entropy_filtering needs a bonus to filter: --entropy-coefficient",
    )
    return options


def check_steps(steps: StepOptions, sampling: SamplingOptions) -> None:
    """Raises UserError for steps that cannot be taken on such batches."""
    whole(steps, "epochs", "minibatches", "micro_batch_tokens")
    rows = sampling.batch_size * sampling.samples
    require(
        rows % steps.minibatches == 0,
        f"minibatches is {steps.minibatches}: it must divide the {rows} responses of an iteration",
    )
    choice(steps.objective)
    number("entropy_coefficient", steps.entropy_coefficient, least=0)
    number("target_kl", steps.target_kl, above=0)


def check_sampling(sampling: SamplingOptions, greedy: bool = False) -> None:
    """Raises UserError for what cannot be sampled, or not be trained on. `greedy` as of `checked`."""
    whole(sampling, "response_length", "batch_size", "samples", "prompt_length")
    if greedy:
        number("temperature", sampling.temperature, least=0)
    else:
        number("temperature", sampling.temperature, above=0, why="a greedy policy cannot explore")
    biased = "the tokens would come from another distribution than the one they are scored with"
    require(sampling.top_k == 0, f"top_k is {sampling.top_k}: {biased}; leave it at 0")
    require(sampling.top_p == 1.0, f"top_p is {sampling.top_p}: {biased}; leave it at 1")


def check_run(rewards: RewardOptions, run: RunOptions) -> None:
    """Raises UserError for rewards that are no numbers, and for a seed that there is not."""
    number("missing_eos_penalty", rewards.missing_eos_penalty)
    for weight in rewards.reward_weights:
        number("one of reward_weights", weight)
    run.checked()


def choice(part: Any) -> None:
    """Raises UserError for an objective, a value loss or a price of KL whose numbers cannot be.

    Widths, targets and horizons must be above 0; a price may be 0; a bound of the ratio must be above 1.
    """
    for one in fields(part):
        name, value = f"{type(part).__name__}'s {one.name}", getattr(part, one.name)
        if one.name == "beta":
            number(name, value, least=0)
        else:
            number(name, value, above=1 if one.name == "bound" else 0)


def whole(options: object, *names: str, least: int = 1, most: int | None = None) -> None:
    """Raises UserError unless these options are None, or whole numbers within a range."""
    for name in names:
        value = getattr(options, name)
        good = value is None or (isinstance(value, int) and not isinstance(value, bool))
        require(good, f"{name} is {value!r}: it must be a whole number")
        number(name, value, least=least, most=most)


def number(
    name: str,
    value: Any,
    *,
    least: int | None = None,
    above: int | None = None,
    below: int | None = None,
    most: int | None = None,
    why: str | None = None,
) -> None:
    """Raises UserError unless a value is a finite number within a range, or None, which stands for none.

    least, above, below, most  bounds; `above` and `below` themselves are not in the range
    why                        what else to say of the range
    """
    if value is None:
        return
    require(isinstance(value, Real), f"{name} is {value!r}: it must be a number")
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    finite = isinstance(value, int) or math.isfinite(value)
    limits = [] if finite else ["finite"]
    limits += [] if above is None else [f"above {above}"]
    limits += [] if least is None else [f"at least {least}"]
    limits += [] if below is None else [f"below {below}"]
    limits += [] if most is None else [f"at most {most}"]
    reason = "" if why is None else f", {why}"
    good = finite and low <= value <= high and (above is None or value > above)
    good = good and (below is None or value < below)
    require(good, f"{name} is {value}: it must be {' and '.join(limits)}{reason}")


def require(condition: bool, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)
