"""From options to trainers of the two algorithms that sample: what is read from files, and put together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from proximo.errors import UserError
from proximo.language import grpo_options, ppo_options
from proximo.language.adapters import trainable, without_adapters
from proximo.language.data import Prompt, read_prompts
from proximo.language.folder import load_reward_model
from proximo.language.grpo_options import GRPOOptions
from proximo.language.grpo_trainer import GRPO
from proximo.language.heads import RewardModel
from proximo.language.layers import Linear
from proximo.language.loading import loaded
from proximo.language.model import Transformer
from proximo.language.policy import Policy, new_policy
from proximo.language.ppo_options import PPOOptions, SamplingOptions
from proximo.language.ppo_trainer import PPO
from proximo.language.rewards import RewardFunction, reward_function
from proximo.language.rollout import Rollouts, checked_weights
from proximo.language.sharding import in_host_memory, laid_out, mesh_of
from proximo.language.tokenizer import Tokenizer


def ppo_trainer(options: PPOOptions, functions: Sequence[RewardFunction] | None = None) -> PPO:
    """A trainer of PPO: model, critic, reference, prompts and rewards as the options say.

    functions  rewards from Python; those that `options.rewards.reward` names unless given

    Raises UserError for options that cannot be, and for files that are missing or damaged.
    """
    options = ppo_options.checked(options)
    model, tokenizer = loaded(options.model, jax.random.key(options.run.seed))
    rollouts = _rollouts(options, model, tokenizer, functions)
    policy = _with_critic(model, options)
    return PPO(options, policy, trainable(policy), without_adapters(model), rollouts)


def grpo_trainer(options: GRPOOptions, functions: Sequence[RewardFunction] | None = None) -> GRPO:
    """A trainer of GRPO: model, reference, prompts and rewards as the options say.

    functions  as of `ppo_trainer`

    Raises UserError for options that cannot be, and for files that are missing or damaged.
    """
    options = grpo_options.checked(options)
    model, tokenizer = loaded(options.model, jax.random.key(options.run.seed))
    rollouts = _rollouts(options, model, tokenizer, functions)
    policy = Policy(model, None)
    return GRPO(options, policy, trainable(policy), without_adapters(model), rollouts)


def _with_critic(model: Transformer, options: PPOOptions) -> Policy:
    critic = options.critic
    if critic.critic == "shared":
        return new_policy(model)
    if critic.critic_from is None:
        return new_policy(model, critic=jax.tree.map(lambda x: x, model))
    scorer = _reward_model(critic.critic_from, model, options)
    bias = jnp.full(1, scorer.shift, jnp.float32)
    return new_policy(model, scorer.trunk, Linear(scorer.score.weight, bias))


def _rollouts(
    options: PPOOptions | GRPOOptions,
    model: Transformer,
    tokenizer: Tokenizer,
    functions: Sequence[RewardFunction] | None,
) -> Rollouts:
    sampling, rewards = options.sampling, options.rewards
    if functions is None:
        functions = [reward_function(name) for name in rewards.reward]
    models = {_name(folder): _reward_model(folder, model, options) for folder in rewards.reward_model}
    return Rollouts(
        _prompts(options.data, tokenizer, sampling, model),
        tokenizer,
        sampling,
        functions,
        models,
        checked_weights(rewards, len(functions), len(models)),
        options.run.seed,
    )


def _prompts(data: Any, tokenizer: Tokenizer, sampling: SamplingOptions, model: Transformer) -> list[Prompt]:
    room = model.config.context - sampling.response_length
    if room < 1:
        raise UserError(
            f"response_length is {sampling.response_length}: the model's context is {model.config.context} "
            "tokens, and the prompt needs some"
        )
    return list(read_prompts(data, tokenizer, min(sampling.prompt_length, room)).records)


def _reward_model(folder: str, model: Transformer, options: PPOOptions | GRPOOptions) -> RewardModel:
    mesh = mesh_of(options.model.mesh)
    with in_host_memory(mesh):
        found = load_reward_model(folder)
    if found.trunk.config.vocabulary != model.config.vocabulary:
        raise UserError(
            f"{folder} knows {found.trunk.config.vocabulary} tokens, the policy {model.config.vocabulary}: "
            "a reward model must read the policy's tokens"
        )
    return laid_out(found, mesh)


def _name(folder: str) -> str:
    """What a reward model is called in the metrics: its run, where it is the model of one."""
    path = Path(folder)
    return path.parent.name if path.name == "model" and path.parent.name else path.name
