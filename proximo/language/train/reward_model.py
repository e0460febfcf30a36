"""Reward models: a score for an answer, learned from preferences between two answers.

P(chosen is preferred) = sigmoid(r(chosen) - r(rejected))   (Bradley and Terry 1952; Christiano et al. 2017)

The score is read at an answer's last token.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from proximo.core.arrays import traceable
from proximo.core.ranges import Range, at_least
from proximo.errors import UserError
from proximo.language.files.folder import save_reward_model
from proximo.language.files.loading import combine, load_model_and_tokenizer, read_files, row_length
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.adapters import merge_adapters, without_adapters
from proximo.language.model.heads import RewardModel, new_reward_model, normalised
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Ids, Overlong, Preference, Prompt, read_preferences
from proximo.language.text.packing import PairRows, Pairs, batch_indices
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.calibration import calibration, share_with_interval
from proximo.language.train.labelled import Columns, LabelledTrainer
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import RunOptions, SamplingOptions
from proximo.language.train.rollout import Rollouts
from proximo.options import FILE, also, checked
from proximo.runs.sealed import replace_file

CALIBRATION = "calibration.json"  # in the run's folder
SAMPLES = 512  # their mean is known to 0.04 of their standard deviation
NORMALISED_ON = 512  # pairs: the mean of 1024 scores is known to 0.03 of their standard deviation


@dataclass(frozen=True, kw_only=True)
class RewardModelOptions:
    """Train a reward model on pairs of answers with one preferred (Bradley-Terry)."""

    data: Annotated[str, FILE, also("--dataset-name", "--train-file")]
    """Preferences: JSON lines with `prompt`, `chosen` and `rejected`, and optionally `margin`. Without
    `prompt`, the common beginning of both answers is the prompt."""
    evaluation_data: Annotated[str | None, FILE] = None
    """Held-out data in the same format; the accuracy is measured after every epoch, the calibration at the
    end."""
    evaluation_share: Annotated[float, Range(least=0, below=1)] = 0.05
    """Share of the data to hold out, if --evaluation-data is not given."""
    epochs: Annotated[int, at_least(1), also("--num-train-epochs")] = 1
    """Epochs over the data. In a second one the model memorises label noise (Ouyang et al. 2022)."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Pairs per step."""
    length: Annotated[int, at_least(1), also("--max-length", "--max-seq-length")] = 1024
    """Maximum tokens of a prompt with its answer; at most the model's context."""
    overlong: Overlong = "drop"
    """What to do with longer pairs: `drop`, `refuse` to start, or `truncate` their answers."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as equal answers: `refuse` to start, or `drop` them."""
    center_rewards_coefficient: Annotated[float, at_least(0)] = 0.0
    """Weight of (r(chosen) + r(rejected))^2, which keeps rewards near 0 (Eisenstein et al. 2023: 0.01)."""
    normalise: Literal["answers", "samples", "nothing"] = "answers"
    """Scale the saved rewards to mean 0 and standard deviation 1 on the data's `answers`, on `samples` of the
    starting model (which PPO also starts from), or on `nothing`."""
    sample_length: Annotated[int, at_least(1)] = 64
    """Maximum length of the samples of --normalise samples, in tokens."""
    micro_batch_tokens: Annotated[int | None, at_least(1)] = None
    """Maximum tokens per forward pass (gradient accumulation); by default all, on a CPU 1024."""
    model: ModelOptions
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            learning_rate=1e-5, schedule="linear", warmup=0.03, adam_epsilon=1e-8
        )
    )
    """For all weights 1e-5 is usual (Ouyang et al. 2022: 9e-6); for adapters 1e-4."""
    run: RunOptions = field(default_factory=RunOptions)


def reference_scorer(
    reference: Transformer, tokenizer: Tokenizer, prompts: Sequence[Ids], options: RewardModelOptions
) -> Callable[[RewardModel], Float[np.ndarray, "samples"]]:
    """A function that scores about SAMPLES answers of a language model to the data's prompts.

    The answers are the same in every call.

    prompts  token ids of each; prompts that leave no room for an answer are left out

    Raises UserError if no prompt leaves room.
    """
    length, context = options.sample_length, reference.config.context
    asked = dict.fromkeys(tuple(map(int, ids)) for ids in prompts if len(ids) <= context - length)
    if not asked:
        raise UserError(
            f"sample_length is {length}: no prompt leaves this much room in the context of {context} tokens"
        )
    rows = [Prompt(np.array(ids, np.int32), "", {}, "") for ids in asked]
    sampling = SamplingOptions(response_length=length, batch_size=options.batch_size)

    def scores(model: RewardModel) -> Float[np.ndarray, "samples"]:
        given = rows, tokenizer, sampling, (), {"score": model}, (1.0,), options.run.seed
        rollouts = Rollouts(*given, options.micro_batch_tokens)
        batches = range(-(-SAMPLES // options.batch_size))
        return np.concatenate([rollouts.collect(reference, number).score for number in batches])

    return scores


def reward_model_trainer(options: RewardModelOptions) -> LabelledTrainer:
    """The trainer for the model and the pairs that the options name.

    Raises UserError for invalid options, and for missing or damaged files.
    """
    options = checked(options)
    trunk_key, head_key = jax.random.split(jax.random.key(options.run.seed))
    trunk, tokenizer = load_model_and_tokenizer(options.model, trunk_key)
    length = row_length(options.length, trunk.config)
    pairs, held_out, notes = read_files(
        options,
        lambda source: read_preferences(source, tokenizer, length, options.overlong, options.invalid),
    )
    if options.evaluation_data is None:
        pairs, held_out = split_held_out(pairs, options.evaluation_share, options.run.seed)
    samples = None
    if options.normalise == "samples":
        prompts = [pair.prompt_ids for pair in pairs]
        samples = reference_scorer(without_adapters(trunk), tokenizer, prompts, options)
    model = new_reward_model(trunk, head_key)
    return reward_training(options, model, tokenizer, pairs, held_out, (*tokenizer.notes, *notes), samples)


def reward_training(
    options: RewardModelOptions,
    model: RewardModel,
    tokenizer: Tokenizer,
    pairs: Sequence[Preference],
    held_out: Sequence[Preference] = (),
    notes: tuple[str, ...] = (),
    samples: Callable[[RewardModel], Float[np.ndarray, "samples"]] | None = None,
) -> LabelledTrainer:
    """The trainer for these pairs. Arguments as in `LabelledTrainer`; `held_out` may be empty.

    samples  computes scores of samples of the starting model, if they set the scale of rewards
    """
    length = row_length(options.length, model.trunk.config)
    centring = options.center_rewards_coefficient or None
    loss = BradleyTerry(centring, options.optimisation.gradient_checkpointing)
    rows, evaluation = PairRows(pairs, length), PairRows(held_out, length) if held_out else None
    answers = PairRows(pairs[:NORMALISED_ON], length)

    def write(trainer: LabelledTrainer, weights: Any, folder: Path) -> None:
        """Write the model with its tokenizer, and its calibration report beside it.

        A difference of saved rewards, times the report's `scale`, is the log odds of the preference.
        """
        model = merge_adapters(combine(weights, trainer.frozen))
        mean, std = 0.0, 1.0
        if options.normalise != "nothing":
            scores = samples(model) if samples else trainer.columns(weights, answers)["scores"]
            # Where it scores all alike there is no unit to take, but the model is still to be kept.
            mean, std = float(scores.mean()), float(scores.std()) or 1.0
        save_reward_model(folder, normalised(model, mean, std), tokenizer)
        if evaluation is not None:
            scores = trainer.columns(weights, evaluation)["scores"]
            report = {"scale": std, **calibration(probabilities(scores), np.ones(len(scores)))}
            replace_file(folder.parent / CALIBRATION, (json.dumps(report, indent=1) + "\n").encode())

    return LabelledTrainer(options, model, tokenizer, loss, rows, evaluation, notes, write)


def split_held_out(
    pairs: tuple[Preference, ...], share: float, seed: int
) -> tuple[tuple[Preference, ...], tuple[Preference, ...]]:
    """Training pairs, and a share that is held out, drawn at random with the seed."""
    order = batch_indices(seed, 0, len(pairs), len(pairs))
    out = set(order[: int(share * len(pairs))].tolist())
    kept = tuple(pair for index, pair in enumerate(pairs) if index not in out)
    return kept, tuple(pair for index, pair in enumerate(pairs) if index in out)


def preference_loss(
    chosen: Float[Array, "B"], rejected: Float[Array, "B"], margin: Float[Array, "B"]
) -> Float[Array, "B"]:
    """The loss of a pair, in nats.

    - log sigmoid(r(chosen) - r(rejected) - margin)          (Touvron et al. 2023, Llama 2, eq. 2)

    Rewards 1.5 and 0.5 without a margin: -log sigmoid(1) = 0.3133; with one of 1: log 2.
    """
    return -jax.nn.log_sigmoid(chosen - rejected - margin)


@traceable
@dataclass(frozen=True)
class BradleyTerry:
    """The loss of a pair: preference_loss + centring (r(chosen) + r(rejected))^2; the mean is minimised."""

    # only differences of rewards are learned from pairs; this holds their sum near 0
    centring: float | None = None
    checkpoint: bool = False  # as of `Transformer.hidden`

    def __call__(self, model: RewardModel, part: Pairs) -> dict[str, Array]:
        ids, segments = (x.reshape(-1, x.shape[-1]) for x in (part.ids, part.segments))
        scores = model.scores(ids, segments, checkpoint=self.checkpoint).reshape(-1, 2)
        cost = likelihood = preference_loss(scores[:, 0], scores[:, 1], part.margin)
        if self.centring is not None:
            cost = cost + self.centring * jnp.square(scores.sum(axis=1))
        return {"loss": cost, "preference_loss": likelihood, "scores": scores}

    def count(self, batch: Pairs) -> int:
        """Pairs."""
        return len(batch.ids)

    def metrics(self, columns: Columns) -> dict[str, float]:
        """The loss, and statistics of the rewards."""
        return {"loss": float(np.mean(columns["loss"]))} | facts_of(columns["scores"])

    def evaluation(self, columns: Columns) -> dict[str, float]:
        """The loss without centring, and the accuracy with its 95% interval."""
        scores = columns["scores"]
        accuracy = share_with_interval(int((scores[:, 0] > scores[:, 1]).sum()), len(scores))
        return {
            "loss": float(np.mean(columns["preference_loss"])),
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
        }


def facts_of(scores: Float[np.ndarray, "N 2"]) -> dict[str, float]:
    """Statistics of the rewards of chosen and rejected answers, with TRL's names."""
    difference = scores[:, 0] - scores[:, 1]
    return {
        "accuracy": float(np.mean(difference > 0)),
        "margin": float(np.mean(difference)),
        "mean_reward": float(np.mean(scores)),
        "min_reward": float(np.min(scores)),
        "max_reward": float(np.max(scores)),
    }


def probabilities(scores: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N"]:
    """The model's probabilities that the chosen answers are preferred."""
    return np.asarray(jax.nn.sigmoid(jnp.asarray(scores[:, 0] - scores[:, 1])))
