"""Measure a model on data that it was not trained on: likelihoods, preferences, or rewards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from proximo.core.ranges import Range, at_least, between
from proximo.errors import UserError
from proximo.language.files.adapter_files import is_reward_model
from proximo.language.files.folder import load_reward_model, local_folder
from proximo.language.files.loading import load_model_and_tokenizer, row_length
from proximo.language.files.model_options import ModelOptions
from proximo.language.inputs import with_folders
from proximo.language.text.chat_records import with_template_variables
from proximo.language.text.data import Overlong, Preference, read_preferences, read_training_texts
from proximo.language.text.data_files import lines_of
from proximo.language.text.records import Invalid
from proximo.language.text.tokenizer import load_tokenizer
from proximo.language.train.building import sampling_trainer
from proximo.language.train.options import (
    LARGEST_SEED,
    PPOOptions,
    RewardOptions,
    RunOptions,
    SamplingOptions,
)
from proximo.language.train.reading import RewardReadout, reading_of
from proximo.language.train.reward_model import RewardModelOptions, reward_training
from proximo.language.train.rewards import RewardFunction
from proximo.language.train.sft import SFTOptions, fine_tuning
from proximo.options import FILE, MODEL, also, checked
from proximo.runs.statistics import mean_of


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Measure a model on data. The data's columns decide what is measured.

    Texts and completions: perplexity, and next-token accuracy. Preferences: how often a reward model gives
    the preferred answer the higher score. Prompts: the mean reward of the model's responses.
    """

    model: Annotated[str, MODEL, also("--model-name-or-path")]
    """A model folder, a run, or an id of the Hugging Face Hub."""
    data: Annotated[str, FILE, also("--dataset-name")]
    """Data to measure on, in the formats of the training commands (JSON lines)."""
    length: Annotated[int, at_least(1), also("--max-length")] = 1024
    """Maximum tokens of a text; at most the model's context."""
    completion_only: bool = True
    """Measure completions and the assistant's messages only, not prompts."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Rows, pairs or prompts per forward pass."""
    samples: Annotated[int, at_least(1), also("--num-generations")] = 1
    """Responses per prompt."""
    response_length: Annotated[int, at_least(1), also("--max-new-tokens", "--max-completion-length")] = 64
    """Maximum response length in tokens."""
    temperature: Annotated[float, at_least(0)] = 1.0
    """Sampling temperature; 0 takes the most likely token."""
    overlong: Overlong | None = None
    """What to do with longer texts and prompts: `truncate`, `drop`, or `refuse`. By default texts and pairs
    are truncated; prompts are refused, since they are never truncated."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as empty texts: `refuse` all, or `drop` them."""
    reward: Annotated[tuple[str, ...], also("--reward-funcs")] = ()
    """Reward functions that score responses: `file.py:function` or `module:function`."""
    reward_model: Annotated[tuple[str, ...], also("--reward-model-path")] = ()
    """Reward models that score responses: folders or runs."""
    reward_weights: Annotated[tuple[float, ...], Range()] = ()
    """Weights of the reward functions, then of the reward models; 1 by default."""
    seed: Annotated[int, between(0, LARGEST_SEED)] = 0
    """Random seed for sampling responses."""
    eos_token: str | None = None
    """End-of-text token, which ends a response; by default the tokenizer's."""
    pad_token: str | None = None
    """Padding token; by default the tokenizer's."""
    chat_template: Annotated[Path | None, FILE] = None
    """A file with a chat template (Jinja) to use instead of the model's."""
    chat_template_kwargs: str | None = None
    """Variables for the chat template, as JSON: `{"enable_thinking": false}`. A record's own column of this
    name has priority."""


def evaluate_model(
    options: EvaluationOptions, functions: Sequence[RewardFunction] | None = None
) -> dict[str, Any]:
    """The measurements as plain data: `kind` names what was measured, `notes` are remarks for the user.

    functions  reward functions from Python; by default those that the options name are imported

    Raises UserError for invalid options, for data that this model cannot be measured on, and for missing or
    damaged files.
    """
    options = with_folders(checked(options))
    first = next(lines_of(options.data), None)  # its reader says better what is wrong with an empty file
    columns = {name for name, value in first.record.items() if value is not None} if first else set()
    if is_reward_model(options.model):
        if "chosen" not in columns:
            raise UserError(f"{options.model} is a reward model: give preferences (prompt, chosen, rejected)")
        return _preferences(options)
    if "chosen" in columns:
        raise UserError(
            f"{options.model} is a language model, but preferences measure reward models: give texts, or "
            "prompts with --reward or --reward-model"
        )
    rewarded = bool(options.reward or options.reward_model or functions)
    if rewarded or columns & {"prompt", "text", "messages", "completion"} == {"prompt"}:
        return _rewards(options, functions)
    return _texts(options)


def _texts(options: EvaluationOptions) -> dict[str, Any]:
    """Likelihood of the next token, over all tokens that count in the training loss."""
    model, tokenizer = load_model_and_tokenizer(_model(options), jax.random.key(0))
    length = row_length(options.length, model.config)
    found = read_training_texts(
        options.data,
        tokenizer,
        length,
        options.completion_only,
        options.overlong or "truncate",
        options.invalid,
    )
    measure = SFTOptions(
        data=options.data, model=_model(options), length=length, batch_size=options.batch_size
    )
    trainer = fine_tuning(measure, model, tokenizer, found.records)
    metrics = trainer.loss.evaluation(trainer.columns(trainer.first, trainer.rows))
    return {
        "kind": "texts",
        "records": len(found.records),
        "truncated": found.truncated,
        "tokens": int(sum(text.learn.sum() for text in found.records)),
        "loss": metrics["loss"],
        "perplexity": math.exp(metrics["loss"]),
        "token_accuracy": metrics["mean_token_accuracy"],
        "entropy": metrics["entropy"],
        "notes": [*tokenizer.notes, *found.notes(options.data)],
    }


def _preferences(options: EvaluationOptions) -> dict[str, Any]:
    """How often the preferred answer has the higher score. Saved scores have no scale for a loss in nats."""
    folder = local_folder(options.model)
    model = load_reward_model(folder)
    tokenizer = load_tokenizer(folder, options.eos_token, options.pad_token, options.chat_template)
    tokenizer = with_template_variables(tokenizer, options.chat_template_kwargs)
    config, reading = model.trunk.config, reading_of(options.model, model, tokenizer)
    length = row_length(options.length, config)
    room = length if reading is None else length - len(reading.closing or ())
    cutting = options.overlong or "truncate"
    found = read_preferences(options.data, tokenizer, room, cutting, options.invalid, config.vocabulary)
    pairs = tuple(_closed(pair, reading) for pair in found.records)
    measure = RewardModelOptions(
        data=options.data, model=_model(options), length=length, batch_size=options.batch_size
    )
    trainer = reward_training(measure, model, tokenizer, pairs)
    columns = trainer.columns(trainer.first, trainer.rows)
    metrics, scores = trainer.loss.evaluation(columns), columns["scores"]
    return {
        "kind": "preferences",
        "records": len(pairs),
        "truncated": found.truncated,
        "accuracy": metrics["accuracy"],
        "accuracy_low": metrics["accuracy_low"],
        "accuracy_high": metrics["accuracy_high"],
        "margin": float(np.mean(scores[:, 0] - scores[:, 1])),
        "notes": [
            *tokenizer.notes,
            *found.notes(options.data),
            *(() if reading is None else reading.notes),
        ],
    }


def _closed(pair: Preference, reading: RewardReadout | None) -> Preference:
    """A pair as a reward model of another library reads it; a truncated answer has no end."""
    if reading is None or not pair.conversation:
        return pair
    chosen, rejected = (
        np.array(reading.closed(ids), np.int32) if ids[-1] in reading.eos_ids else ids
        for ids in (pair.chosen_ids, pair.rejected_ids)
    )
    return replace(pair, chosen_ids=chosen, rejected_ids=rejected)


def _rewards(options: EvaluationOptions, functions: Sequence[RewardFunction] | None) -> dict[str, Any]:
    """The mean reward of responses to all prompts; the interval is over the prompts' means."""
    if options.overlong == "truncate":
        raise UserError("overlong is truncate, but prompts are never truncated: use drop or refuse")
    asked = PPOOptions(
        data=options.data,
        overlong=options.overlong or "refuse",
        invalid=options.invalid,
        model=_model(options),
        sampling=SamplingOptions(
            response_length=options.response_length,
            temperature=options.temperature,
            batch_size=options.batch_size,
            samples=options.samples,
            prompt_length=options.length,
        ),
        rewards=RewardOptions(
            reward=options.reward, reward_model=options.reward_model, reward_weights=options.reward_weights
        ),
        run=RunOptions(seed=options.seed),
    )
    # Nothing is learned: its prompts and rewards are what is needed.
    trainer = sampling_trainer(asked, functions, greedy=True)
    source, model = trainer.rollouts, trainer.reference
    prompts = source.prompts
    batches = [source.collect(model, number) for number in range(-(-len(prompts) // options.batch_size))]
    count = len(prompts) * options.samples  # the last batch runs on into a second pass
    score, length, finished = (
        np.concatenate(parts)[:count]
        for parts in zip(
            *((b.score, b.responses.lengths, b.responses.finished) for b in batches), strict=True
        )
    )
    judged, groups = ~np.isnan(score), score.reshape(-1, options.samples)
    groups = groups[~np.isnan(groups).all(axis=1)]
    mean, low, high, how = mean_of(np.nanmean(groups, axis=1))
    left_out = [f"{count - judged.sum()} of {count} responses were scored by no function and are left out"]
    return {
        "kind": "rewards",
        "prompts": len(prompts),
        "answers": count,
        "reward": mean,
        "low": mean if low is None else low,
        "high": mean if high is None else high,
        "interval": how,
        "length": float(length.mean()),
        "finished": float(finished.mean()),
        "notes": [*trainer.notes, *([] if judged.all() else left_out)],
    } | {
        f"rewards/{name}": float(np.mean(told[~np.isnan(told)]))
        for name in batches[0].parts
        if not np.isnan(told := np.concatenate([batch.parts[name] for batch in batches])[:count]).all()
    }


def _model(options: EvaluationOptions) -> ModelOptions:
    return ModelOptions(
        model=options.model,
        eos_token=options.eos_token,
        pad_token=options.pad_token,
        chat_template=options.chat_template,
        chat_template_kwargs=options.chat_template_kwargs,
    )
