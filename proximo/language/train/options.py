"""Options of PPO and GRPO for language models, options of every run, and checks of their combinations."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from proximo.core import (
    AsymmetricClip,
    Clip,
    ClippedSquaredError,
    DualClip,
    FixedKL,
    GroupAdvantage,
    KLController,
    LogClip,
    PolicyGradient,
    QuadraticPenalty,
    Standardised,
    Unclipped,
    ValueLoss,
)
from proximo.core.arrays import traceable
from proximo.core.ranges import Range, above, at_least, between
from proximo.errors import UserError
from proximo.language.files.model_options import ModelOptions
from proximo.language.text.records import Invalid
from proximo.language.train.optimise import Optimisation
from proximo.options import FILE, FOLDER, MODEL, SECONDS, also, checked
from proximo.runs.sinks import ReportOptions

LARGEST_SEED = 2**63 - 1  # of JAX's keys

TokenObjective = Clip | DualClip | AsymmetricClip | LogClip | QuadraticPenalty | Unclipped | PolicyGradient
"""The objectives of `core.surrogates` without those that need the exact KL, i.e. [B, T, V] logits."""

RatioOf = Literal["token", "sequence"]
Aggregation = Literal["tokens", "sequences", "length"]
KLEstimate = Literal["k1", "k2", "k3"]
Truncated = Literal["keep", "mask", "bootstrap"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run is saved, its seed, its checkpoints and its time limit."""

    out: Annotated[Path | None, FOLDER, also("--output-dir")] = None
    """The run folder; by default a new one under runs/."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Random seed."""
    checkpoint_every: Annotated[float, at_least(0, infinite=True), SECONDS] = 60.0
    """Seconds between checkpoints; 0 saves one after every iteration."""
    max_time: Annotated[float | None, at_least(0, infinite=True), SECONDS] = None
    """Stop, with a checkpoint, before this many seconds."""
    reports: ReportOptions = field(default_factory=ReportOptions)


@traceable
@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How responses are sampled. Training uses the full distribution: top-k or top-p would bias the ratio."""

    response_length: Annotated[int, at_least(1), also("--max-new-tokens", "--max-completion-length")] = 64
    """Maximum response length in tokens."""
    temperature: Annotated[float, at_least(0)] = 1.0
    """Sampling temperature; logits are divided by it in sampling and in training."""
    top_k: int = 0
    """Must be 0 (all tokens) in training."""
    top_p: float = 1.0
    """Must be 1 (all tokens) in training."""
    stop: tuple[str, ...] = ()
    """Stop sequences: texts that also end a response. They are matched token by token, as encoded."""
    batch_size: Annotated[int, at_least(1)] = 64
    """Prompts per iteration."""
    samples: Annotated[int, at_least(1), also("--num-generations")] = 1
    """Responses per prompt."""
    prompt_length: Annotated[int, at_least(1), also("--max-prompt-length")] = 512
    """Maximum prompt length in tokens."""


@traceable
@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """How responses are scored."""

    reward: Annotated[tuple[str, ...], also("--reward-funcs")] = ()
    """Reward functions, `file.py:function` or `module:function`, called as f(prompts, completions,
    completion_ids, **columns); each returns a number for each completion."""
    reward_model: Annotated[tuple[str, ...], also("--reward-model-path", "--reward-model-name-or-path")] = ()
    """Reward models: folders or runs."""
    reward_weights: Annotated[tuple[float, ...], Range()] = ()
    """Weights of the reward functions, then of the reward models; 1 by default."""
    missing_eos_penalty: Annotated[float, Range()] = 0.0
    """Subtracted from the score of a response that reached the maximum length."""
    truncated: Truncated = "keep"
    """What to do with responses cut off at the maximum length: `keep` them like the others, `mask` them (no
    loss), or `bootstrap` their value from the critic."""


@traceable
@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a policy learns from one batch of responses."""

    epochs: Annotated[int, at_least(1), also("--num-ppo-epochs", "--num-iterations")] = 4
    """Epochs over each batch of responses."""
    minibatches: Annotated[int, at_least(1), also("--num-mini-batches")] = 1
    """Minibatches (gradient steps) per epoch."""
    micro_batch_tokens: Annotated[int | None, at_least(1)] = None
    """Maximum tokens per forward pass (gradient accumulation); by default all, on a CPU 1024."""
    group_by_length: bool = False
    """Form micro-batches (always used on a CPU) of responses with similar lengths, cut to a half or a quarter
    of the columns if they fit. The step is the same, faster if lengths differ, but is compiled for three
    widths."""
    objective: TokenObjective = field(default_factory=Clip)
    """Objective of the policy: `clip:0.2`, `dual-clip:0.2,3`, `asymmetric-clip:0.2,0.28`, ..."""
    ratio: Annotated[RatioOf, also("--importance-sampling-level")] = "token"
    """Probability ratio per `token`, or per `sequence` (GSPO)."""
    aggregation: Annotated[Aggregation, also("--loss-type")] = "tokens"
    """How the loss is averaged: over `tokens`, over `sequences`, or over the maximum response
    `length`, a constant."""
    entropy_coefficient: Annotated[float, at_least(0)] = 0.0
    """Weight of the entropy bonus."""
    kl_estimate: KLEstimate = "k2"
    """Estimator of a KL penalty in the loss. The gradient of `k2` is that of the KL; that of `k3` is that of
    the reversed KL; that of `k1` is 0 on average on fresh samples."""
    target_kl: Annotated[float | None, above(0)] = None
    """Stop the epochs of a batch once its KL divergence exceeds 1.5 times this."""


@traceable
@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """The critic, and how it estimates advantages."""

    critic: Literal["shared", "separate", "two"] = "shared"
    """`shared`: a value head on the policy's model. `separate`: a critic with its own model. `two`: two such
    critics, each trained on half of the responses to a prompt (AsyPPO)."""
    critic_from: Annotated[str | None, MODEL] = None
    """Model or reward model that separate critics start from; it may be smaller than the policy. By default
    the policy's weights."""
    advantage_masking: Annotated[float, Range(least=0, below=1)] = 0.0
    """Share of tokens whose advantage is set to 0: those on which two critics agree most (AsyPPO: 0.2)."""
    entropy_filtering: Annotated[float, Range(least=0, below=1)] = 0.0
    """Share of tokens without entropy bonus: those on which two critics agree least (AsyPPO: 0.2)."""
    critic_warmup: Annotated[int, at_least(0)] = 0
    """Number of first iterations in which only the critic is trained."""
    value_loss: ValueLoss = field(default_factory=ClippedSquaredError)
    """Value loss."""
    value_coefficient: Annotated[float, at_least(0), also("--vf-coef")] = 0.1
    """Weight of the value loss."""
    gamma: Annotated[float, between(0, 1)] = 1.0
    """Discount per token."""
    gae_lambda: Annotated[float, between(0, 1), also("--lam")] = 0.95
    """Lambda of GAE: 0 relies on the critic, 1 on the rewards."""
    critic_lambda: Annotated[float | None, between(0, 1)] = None
    """Lambda of the critic's targets; by default --gae-lambda (VAPO: 1)."""
    length_lambda: Annotated[float | None, above(0)] = None
    """Alpha of a lambda that depends on the response length, lambda = 1 - 1 / (alpha length), for the
    advantages; by default --gae-lambda (VAPO: 0.05)."""


@traceable
@dataclass(frozen=True, kw_only=True)
class PPOOptions:
    """Train a language model with PPO to maximise rewards, with a KL penalty towards the starting model."""

    data: Annotated[str, FILE, also("--dataset-name", "--train-file")]
    """Prompts: JSON lines, each with a `prompt`."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What to do with prompts that are too long: `refuse` to start, or `drop` them."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as empty prompts: `refuse` to start, or `drop` them."""
    episodes: Annotated[int, at_least(1), also("--total-episodes")] = 10_000
    """Total responses to train on."""
    kl: KLController = field(default_factory=FixedKL)
    """KL coefficient (per nat): fixed (`fixed-kl:0.05`), or adapted to a target KL per response
    (`adaptive-kl:6`, `proportional-kl:6`)."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where the KL penalty is applied: in the `reward` or in the `loss`."""
    whiten_rewards: bool = False
    """Scale token rewards to standard deviation 1 and keep their mean. This also rescales the KL penalty."""
    scale_scores: bool = False
    """Divide scores by their running standard deviation."""
    samples_every: Annotated[int, at_least(1)] = 10
    """Log sample responses every so many iterations."""
    model: ModelOptions
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    rewards: RewardOptions = field(default_factory=RewardOptions)
    steps: StepOptions = field(default_factory=StepOptions)
    critic: CriticOptions = field(default_factory=CriticOptions)
    optimisation: Optimisation = field(default_factory=Optimisation)
    run: RunOptions = field(default_factory=RunOptions)


@traceable
@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """Train a language model with GRPO: several responses per prompt replace the critic."""

    data: Annotated[str, FILE, also("--dataset-name", "--train-file")]
    """Prompts: JSON lines, each with a `prompt`."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What to do with prompts that are too long: `refuse` to start, or `drop` them."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as empty prompts: `refuse` to start, or `drop` them."""
    episodes: Annotated[int, at_least(1), also("--total-episodes")] = 10_000
    """Total responses to train on."""
    advantage: Annotated[GroupAdvantage, also("--scale-rewards")] = field(default_factory=Standardised)
    """Advantage of a response within its group: `standardised`, `centred`, `leave-one-out`."""
    skip_equal_groups: bool = False
    """Leave groups whose scores are all equal out of the loss average."""
    soft_overlong: Annotated[int, at_least(0)] = 0
    """Soft length penalty (DAPO, eq. 13): over this many tokens before the maximum length, the score falls
    by up to 1."""
    beta: Annotated[float, at_least(0)] = 0.04
    """KL coefficient (per nat)."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL penalty is applied: in the `loss`, or in the `reward` (RLOO)."""
    samples_every: Annotated[int, at_least(1)] = 10
    """Log sample responses every so many iterations."""
    model: ModelOptions
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(batch_size=8, samples=8))
    rewards: RewardOptions = field(default_factory=RewardOptions)
    steps: StepOptions = field(
        default_factory=lambda: StepOptions(epochs=1, aggregation="sequences", kl_estimate="k3")
    )
    optimisation: Optimisation = field(default_factory=Optimisation)
    run: RunOptions = field(default_factory=RunOptions)


def checked_ppo(options: PPOOptions, greedy: bool = False) -> PPOOptions:
    """The same options. Raises UserError if they are invalid, with what to change.

    greedy  whether temperature 0 (greedy) is allowed: for measuring, not for training
    """
    options = checked(options)
    critic = options.critic
    _check_batches(options.sampling, options.steps, greedy)
    total = -(-options.episodes // (options.sampling.batch_size * options.sampling.samples))
    require(
        critic.critic_warmup == 0 or critic.critic_warmup < total,
        f"critic_warmup is {critic.critic_warmup}, but the run has {total} iterations: lower it, or the "
        "policy never learns",
    )
    require(
        critic.critic_from is None or critic.critic != "shared",
        "critic_from needs a separate critic: add --critic separate, or --critic two",
    )
    for name in ("advantage_masking", "entropy_filtering"):
        two = getattr(critic, name) == 0 or critic.critic == "two"
        require(two, f"{name} needs two critics: add --critic two")
    require(
        critic.critic != "two" or options.sampling.samples > 1,
        "two critics divide the responses to each prompt: add --samples 2 or more",
    )
    require(
        critic.entropy_filtering == 0 or options.steps.entropy_coefficient > 0,
        "entropy_filtering needs an entropy bonus: add --entropy-coefficient",
    )
    return options


def checked_grpo(options: GRPOOptions) -> GRPOOptions:
    """The same options. Raises UserError if they are invalid, with what to change."""
    options = checked(options)
    _check_batches(options.sampling, options.steps)
    require(
        options.sampling.samples >= 2,
        f"samples is {options.sampling.samples}: GRPO compares responses to a prompt, so use 2 or more",
    )
    require(
        options.rewards.truncated != "bootstrap",
        "truncated is bootstrap, which needs a critic: use keep or mask",
    )
    longest = options.sampling.response_length
    require(
        options.soft_overlong < longest,
        f"soft_overlong is {options.soft_overlong}: it must be below response_length = {longest}",
    )
    return options


def _check_batches(sampling: SamplingOptions, steps: StepOptions, greedy: bool = False) -> None:
    """Raises UserError for invalid sampling or minibatches. `greedy` as in `checked_ppo`."""
    require(
        greedy or sampling.temperature > 0,
        f"temperature is {sampling.temperature}: it must be above 0, since a greedy policy cannot explore",
    )
    biased = "tokens would be sampled from another distribution than the one that is trained"
    require(sampling.top_k == 0, f"top_k is {sampling.top_k}: {biased}; set it to 0")
    require(sampling.top_p == 1.0, f"top_p is {sampling.top_p}: {biased}; set it to 1")
    rows = sampling.batch_size * sampling.samples
    require(
        rows % steps.minibatches == 0,
        f"minibatches is {steps.minibatches}: it must divide the {rows} responses of an iteration",
    )


def require(condition: bool, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)
