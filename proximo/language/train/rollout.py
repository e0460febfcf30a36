"""Rollouts: prompts, the policy's responses to them, and their scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from proximo.errors import UserError
from proximo.language.model.heads import RewardModel
from proximo.language.model.sampler import Sampling, sample
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Prompt
from proximo.language.text.packing import batch_indices, bucket, pad_left
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.options import RewardOptions, SamplingOptions
from proximo.language.train.reading import RewardReadout
from proximo.language.train.respond import stop_sequences
from proximo.language.train.responses import Responses
from proximo.language.train.rewards import (
    RewardFunction,
    call_rewards,
    check_arguments,
    model_scores,
    shown,
    source_names,
    weighted,
)

SMALLEST = 8  # columns that prompts are padded to, and responses cut to, at least
LOOKED_AT = 8  # completions that are logged at a time
SAME = {"float32": 1e-3, "tensorfloat32": 1e-2, "bfloat16": 1e-1}
"""Difference of log-probabilities, and of ratios, that rounding explains, by the precision of products."""


class Rollout(NamedTuple):
    """One batch of responses with their scores."""

    responses: Responses  # prompts with responses; [B, W + T]
    width: int  # W, columns of the prompts
    log_prob: Float[np.ndarray, "B T"]  # of the tokens when they were sampled, in nats
    score: Float[np.ndarray, "B"]  # units of reward; NaN for a response without a score
    metrics: dict[str, float]  # of each source of reward
    prompts: list[Any]  # to look at
    completions: list[str]
    parts: dict[str, Float[np.ndarray, "B"]]

    @property
    def tokens(self) -> int:
        """Tokens of prompts and responses."""
        return int(np.sum(self.responses.prompts) + np.sum(self.responses.lengths))

    def rows(self) -> tuple[dict[str, Any], ...]:
        """The first few, as plain data; a source of reward is called there as in the metrics."""
        return tuple(
            {
                "prompt": self.prompts[i],
                "completion": self.completions[i],
                "score": _plain(self.score[i]),
                **{f"rewards/{name}": _plain(part[i]) for name, part in self.parts.items()},
                "length": int(self.responses.lengths[i]),
                "finished": bool(self.responses.finished[i]),
            }
            for i in range(min(LOOKED_AT, len(self.completions)))
        )


def _plain(score: Any) -> float | None:
    return None if np.isnan(score) else float(score)


class Rollouts:
    """Samples and scores the responses of an iteration.

    prompts    all prompts
    tokenizer  of the policy
    sampling   options of sampling
    functions, models, weights  reward functions; reward models by their names; the weight of each source
    seed       for the order of prompts and for sampling
    micro_batch_tokens  maximum tokens per forward pass of a reward model (`rows_of_part`)
    readings   how to read reward models of other libraries, by their names
    notes      remarks on the prompts for the user, a line each
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        tokenizer: Tokenizer,
        sampling: SamplingOptions,
        functions: Sequence[RewardFunction],
        models: dict[str, RewardModel],
        weights: Sequence[float],
        seed: int,
        micro_batch_tokens: int | None = None,
        readings: Mapping[str, RewardReadout] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.prompts, self.tokenizer, self.options = prompts, tokenizer, sampling
        self.functions, self.models, self.seed = functions, models, seed
        self.names = source_names(functions, models)
        for name, function in zip(self.names, functions, strict=False):
            check_arguments(name, function)
        self.micro_batch_tokens, self.readings = micro_batch_tokens, readings or {}
        told = [note for reading in self.readings.values() for note in reading.notes]
        self.notes = (*tokenizer.notes, *notes, *told)
        self.weights = tuple(weights) or (1.0,) * (len(functions) + len(models))
        self.sampling = Sampling(
            length=sampling.response_length,
            temperature=sampling.temperature,
            samples=sampling.samples,
            eos_ids=tokenizer.eos_ids,
            stop_sequences=stop_sequences(tokenizer, sampling.stop),
        )

    def collect(self, model: Transformer, number: int) -> Rollout:
        """Responses of the model to the prompts of iteration `number`, with their scores."""
        chosen = batch_indices(self.seed, number, self.options.batch_size, len(self.prompts))
        prompts = [self.prompts[index] for index in chosen]
        width = bucket(max(len(prompt.ids) for prompt in prompts), SMALLEST)
        ids, lengths = pad_left([prompt.ids for prompt in prompts], width, self.tokenizer.pad_id)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        out = jax.device_get(sample(model, ids, lengths, key, self.sampling, self.tokenizer.pad_id))
        length = bucket_width(self.options.response_length, int(out.lengths.max()))
        rows = np.repeat(np.arange(len(prompts)), self.options.samples)
        responses = Responses(
            ids=jnp.asarray(np.concatenate([ids[rows], out.ids[:, :length]], axis=1)),
            prompts=jnp.asarray(lengths[rows]),
            lengths=jnp.asarray(out.lengths),
            finished=jnp.asarray(out.finished),
        )
        completion_ids = [row[:n].tolist() for row, n in zip(out.ids, out.lengths, strict=True)]
        completions = [self.tokenizer.decode(tokens) for tokens in completion_ids]
        parts = self.scores([prompts[row] for row in rows], completions, completion_ids, responses, width)
        score = weighted(parts, self.weights)
        judged = {f"rewards/{name}": part[~np.isnan(part)] for name, part in parts.items()}
        metrics = {name: float(np.mean(part)) for name, part in judged.items() if len(part)}
        metrics["rewards/std"] = float(np.std(score[~np.isnan(score)]))
        metrics["val/distinct"] = len(set(completions)) / len(completions)
        if unjudged := np.isnan(score).sum():
            metrics["val/unjudged"] = float(unjudged)
        return Rollout(
            responses,
            width,
            out.log_probs[:, :length],
            score,
            metrics,
            [prompts[row].text for row in rows],
            completions,
            parts,
        )

    def scores(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[list[int]],
        responses: Responses,
        width: int,
    ) -> dict[str, Float[np.ndarray, "B"]]:
        """The scores of each source of reward; NaN for a response that it does not score."""
        given = [prompt.given for prompt in prompts]
        columns = {
            name: [prompt.columns.get(name) for prompt in prompts]
            for name in dict.fromkeys(name for prompt in prompts for name in prompt.columns)
        }
        functions = dict(zip(self.names, self.functions, strict=False))
        scores = call_rewards(functions, given, completions, completion_ids, columns)
        conversations = [not isinstance(prompt, str) for prompt in given]
        for name, model in self.models.items():
            reading = self.readings.get(name)
            read = responses if reading is None else reading.closed_batch(responses, width, conversations)
            found = model_scores(model, read, width, self.micro_batch_tokens)
            if not np.isfinite(found).all():  # not to be taken for one that nothing judges
                wrong = int(np.argmin(np.isfinite(found)))
                raise UserError(
                    f"the reward model {name} returned {found[wrong]} for completion {wrong} of the batch "
                    f"({shown(completions[wrong])}): its weights are too large, or damaged"
                )
            scores[name] = found
        return scores

    def check_first(self, metrics: dict[str, float], precision: str) -> None:
        """Raises UserError unless policy, reference and sampler agree in the first iteration.

        Before the first step the policy equals the reference and the sampler: KL 0 and ratio 1, to rounding.
        Any difference means that two parts compute different log-probabilities, so training would be wrong.

        A sampling step and a pass over whole responses are two shapes of the same computation, so they round
        differently. Devices other than CPUs multiply float32 with 10 of its 23 bits (TensorFloat-32).
        """
        fewer_bits = precision == "float32" and jax.default_backend() != "cpu"
        most = SAME["tensorfloat32" if fewer_bits else precision]
        facts = {
            "objective/kl_per_token": metrics["objective/kl_per_token"],
            "val/first_ratio - 1": metrics["val/first_ratio"] - 1.0,
            "val/sampler_gap": metrics["val/sampler_gap"],
        }
        for name, value in facts.items():
            if not math.isfinite(value) or abs(value) > most:
                raise UserError(
                    f"{name} is {value:.2g} before the first step, where it must be 0: the policy, the "
                    "reference and the sampler do not agree (does the model folder match its config.json?)"
                )


def bucket_width(longest: int, needed: int) -> int:
    """The columns for responses: the limit, or a half, a quarter, ... of it if all fit, for few shapes."""
    while -(-longest // 2) >= max(needed, SMALLEST):
        longest = -(-longest // 2)
    return longest


def checked_weights(options: RewardOptions, functions: int, models: int) -> tuple[float, ...]:
    """One weight for each source of reward. Raises UserError if their numbers differ."""
    if functions + models == 0:
        raise UserError("no reward given: pass --reward or --reward-model")
    if options.reward_weights and len(options.reward_weights) != functions + models:
        raise UserError(
            f"reward_weights: {len(options.reward_weights)} given, {functions + models} needed, one for each "
            f"reward function ({functions}), then one for each reward model ({models})"
        )
    return options.reward_weights or (1.0,) * (functions + models)
