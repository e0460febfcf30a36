"""A policy of a few thousand weights, prompts and rewards, ready to train."""

import jax
import jax.numpy as jnp
from small_models import small_model

from proximo.core import FixedKL
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.adapters import LoRA, with_adapters, without_adapters
from proximo.language.text.data import read_prompts
from proximo.language.text.tokenizer import character_tokenizer
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import (
    CriticOptions,
    GRPOOptions,
    PPOOptions,
    RunOptions,
    SamplingOptions,
    StepOptions,
)
from proximo.language.train.policy import Policy, new_policy, own_critic
from proximo.language.train.rollout import Rollouts
from proximo.language.train.sampling import SamplingTrainer, mean_metrics, task_of
from proximo.learn.update import State, minibatch_steps

TOKENIZER = character_tokenizer("abcdefghijklm")  # 16 tokens with its own three
PROMPTS = read_prompts([{"prompt": text} for text in ("a", "bc", "def", "ghij")], TOKENIZER, 8).records
PARTS = {
    "sampling": SamplingOptions,
    "steps": StepOptions,
    "critic": CriticOptions,
    "optimisation": Optimisation,
    "run": RunOptions,
}


def count_of_a(completions):
    """A reward."""
    return [float(text.count("a")) for text in completions]


def options(kind=PPOOptions, **given):
    """Options of a run of three iterations; parts by their names, as dictionaries."""
    defaults = {"sampling": dict(response_length=6, batch_size=8), "optimisation": dict(learning_rate=1e-2)}
    if kind is GRPOOptions:
        defaults |= {"sampling": dict(response_length=6, batch_size=4, samples=2)}
    own = {name: value for name, value in given.items() if name not in PARTS}
    parts = {
        name: part(**{**defaults.get(name, {}), **given.get(name, {})})
        for name, part in PARTS.items()
        if not (kind is GRPOOptions and name == "critic")
    }
    rows = parts["sampling"].batch_size * parts["sampling"].samples
    return kind(**{"data": "", "episodes": 3 * rows, "model": ModelOptions(model=""), **parts, **own})


def rollouts(options, functions=(count_of_a,), tokenizer=TOKENIZER):
    """Prompts, sampling, and a reward."""
    return Rollouts(PROMPTS, tokenizer, options.sampling, functions, {}, (), options.run.seed)


def ppo(options, model=None, lora=None, critics=(), functions=(count_of_a,)):
    """A trainer of PPO on a small model."""
    model = small_model(layers=1) if model is None else model
    if lora:
        model = with_adapters(model, LoRA(lora, 16.0, ("query", "value")), jax.random.key(1))
    policy = new_policy(model, *(own_critic(trunk) for trunk in critics))
    return SamplingTrainer(options, policy, without_adapters(model), rollouts(options, functions))


def grpo(options, functions=(count_of_a,)):
    """A trainer of GRPO on a small model."""
    model = small_model(layers=1)
    return SamplingTrainer(options, Policy(model), model, rollouts(options, functions))


def run_epochs(loss, weights, moments, batch, order, rate, options):
    """The steps of an update alone: weights, Adam's moments and metrics after them."""
    task, order = task_of(loss, batch, order, options)
    state = State(weights, moments, jnp.asarray(rate), jnp.zeros((), bool))
    state, history = minibatch_steps(state, order, task)
    return state.weights, state.adam, mean_metrics(history)


def distance(a, b):
    """The largest difference of two trees' arrays."""
    gaps = [float(jnp.max(jnp.abs(x - y))) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]
    return max(gaps)


FREE = FixedKL(0.0)
