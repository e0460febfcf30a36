"""Builds the trainers of PPO and GRPO: reads models, prompts and rewards as the options name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from proximo.errors import UserError
from proximo.language.files.adapter_files import base_folder, is_reward_model, load_merged_model
from proximo.language.files.folder import load_reward_model
from proximo.language.files.loading import add_adapters, load_model_and_tokenizer
from proximo.language.model.adapters import without_adapters
from proximo.language.model.heads import RewardModel, without_head
from proximo.language.model.layers import Linear
from proximo.language.model.sharding import shard
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import read_prompts
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.text.tokenizer_files import read_backend
from proximo.language.train.options import GRPOOptions, PPOOptions, checked_grpo, checked_ppo
from proximo.language.train.policy import Policy, new_policy, own_critic
from proximo.language.train.reading import reading_of
from proximo.language.train.rewards import RewardFunction, reward_function, source_names
from proximo.language.train.rollout import Rollouts, checked_weights
from proximo.language.train.sampling import SamplingTrainer
from proximo.learn.mesh import in_host_memory, mesh_of


@dataclass(frozen=True)
class LoadedModel:
    """The starting model of a run with its tokenizer, and the options that name them."""

    model: Transformer
    tokenizer: Tokenizer
    options: PPOOptions | GRPOOptions


def sampling_trainer(
    options: PPOOptions | GRPOOptions,
    functions: Sequence[RewardFunction] | None = None,
    greedy: bool = False,
) -> SamplingTrainer:
    """The trainer of PPO or GRPO, with model, critic, reference, prompts and rewards from the options.

    functions  reward functions from Python; by default those that `options.rewards.reward` names
    greedy     whether temperature 0 is allowed, for measuring without training

    Raises UserError for invalid options, and for missing or damaged files.
    """
    options = checked_ppo(options, greedy) if isinstance(options, PPOOptions) else checked_grpo(options)
    base = LoadedModel(*load_model_and_tokenizer(options.model, jax.random.key(options.run.seed)), options)
    policy = _policy_with_critics(base, options) if isinstance(options, PPOOptions) else Policy(base.model)
    rollouts = _rollouts(base, policy, functions)
    return SamplingTrainer(options, policy, without_adapters(base.model), rollouts)


def _policy_with_critics(base: LoadedModel, options: PPOOptions) -> Policy:
    model, critic = base.model, options.critic
    if critic.critic == "shared":
        return new_policy(model)
    # Two begin alike, but for their adapters: it is what they learn from that makes them differ.
    trunk, score = _initial_critic(base, critic.critic_from)
    keys = jax.random.split(jax.random.key(options.run.seed), 2 if critic.critic == "two" else 1)
    own = [own_critic(add_adapters(trunk, options.model, key), score) for key in keys]
    return new_policy(model, *(shard(each, mesh_of(options.model.mesh)) for each in own))


def _initial_critic(base: LoadedModel, folder: str | None) -> tuple[Transformer, Linear | None]:
    """A trunk without adapters, from the policy's model or from a folder, and the folder's head if any."""
    if folder is None:
        return without_head(without_adapters(base.model)), None
    if is_reward_model(folder):
        scorer = _reward_model(folder, base)
        return scorer.trunk, Linear(scorer.score.weight, jnp.full(1, scorer.shift, jnp.float32))
    with in_host_memory(mesh_of(base.options.model.mesh)):
        trunk = without_head(load_merged_model(folder))
    _check_tokens(folder, trunk, base)
    return trunk, None


def _rollouts(base: LoadedModel, policy: Policy, functions: Sequence[RewardFunction] | None) -> Rollouts:
    options, rewards = base.options, base.options.rewards
    if functions is None:
        functions = [reward_function(name) for name in rewards.reward]
    weights = checked_weights(rewards, len(functions), len(rewards.reward_model))
    models = [_reward_model(folder, base) for folder in rewards.reward_model]
    names = source_names(functions, map(_name, rewards.reward_model))[len(functions) :]
    found = [reading_of(*each, base.tokenizer) for each in zip(rewards.reward_model, models, strict=True)]
    readings = {name: reading for name, reading in zip(names, found, strict=True) if reading is not None}
    own = [critic.trunk for critic in policy.critics if critic.trunk is not None]
    readers = [policy.model, *own, *(model.trunk for model in models)]
    behind = max((len(reading.closing or ()) for reading in readings.values()), default=0)
    context = min(reader.config.context for reader in readers) - behind
    room = context - options.sampling.response_length
    if room < 1:
        raise UserError(
            f"response_length is {options.sampling.response_length}: the model, its critic or a reward model "
            f"has a context of {context} tokens, and the prompt needs some of them"
        )
    longest = min(options.sampling.prompt_length, room)
    prompts = read_prompts(options.data, base.tokenizer, longest, options.overlong, invalid=options.invalid)
    return Rollouts(
        prompts.records,
        base.tokenizer,
        options.sampling,
        functions,
        dict(zip(names, models, strict=True)),
        weights,
        options.run.seed,
        options.steps.micro_batch_tokens,
        readings,
        prompts.notes(options.data),
    )


def _reward_model(folder: str, base: LoadedModel) -> RewardModel:
    mesh = mesh_of(base.options.model.mesh)
    with in_host_memory(mesh):
        found = load_reward_model(folder)
    _check_tokens(folder, found.trunk, base)
    return shard(found, mesh)


def _check_tokens(folder: str, model: Transformer, base: LoadedModel) -> None:
    """Raises UserError if a reward model or critic would read the policy's token ids as other tokens.

    Its tokenizer, if it has one, must use the same ids. PAD may differ, since padding is masked.
    """
    known, needed = model.config.vocabulary, base.tokenizer.vocab_size
    if known < needed:
        raise UserError(
            f"{folder} has {known} token ids, the policy's tokenizer {needed}: take a reward model or critic "
            "with the policy's tokenizer"
        )
    tokenizer = base.tokenizer
    place = base_folder(folder) / "tokenizer.json"
    if not place.is_file():
        return
    theirs = read_backend(place).get_vocab()
    for token, id in sorted(tokenizer.backend.get_vocab().items(), key=lambda pair: pair[1]):
        if theirs.get(token) != id and id != tokenizer.pad_id:
            there = f"id {theirs[token]}" if token in theirs else "no token"
            raise UserError(
                f"{folder} has another vocabulary ({token!r} is id {id} for the policy, {there} there): take "
                "a model that was trained with the policy's tokenizer"
            )


def _name(folder: str) -> str:
    """The name of a reward model in the metrics: its run's, if it is the model of a run."""
    path = Path(folder)
    return path.parent.name if path.name == "model" and path.parent.name else path.name
