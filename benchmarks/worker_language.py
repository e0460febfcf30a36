"""Proximo's PPO of language models, as its command runs it, and its decoding.

    python -m benchmarks.worker_language SHAPE shared|separate|decode

`shared` and `separate` say where the critic reads hidden states: from the policy's trunk, or its own.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import serve
from benchmarks.language_task import (
    BATCH,
    EPOCHS,
    KL,
    LEARNING_RATE,
    PROMPT,
    RESPONSE,
    VALUE_COEFFICIENT,
    Shape,
    asked,
)
from proximo.core import FixedKL
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.config import ModelConfig, model_config
from proximo.language.model.heads import new_reward_model
from proximo.language.model.sampler import Sampling, sample
from proximo.language.model.transformer import new_model
from proximo.language.text.data import Prompt
from proximo.language.text.tokenizer import Tokenizer, word_tokenizer
from proximo.language.train import rollout, sampling
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import (
    CriticOptions,
    PPOOptions,
    RewardOptions,
    SamplingOptions,
    StepOptions,
    checked_ppo,
)
from proximo.language.train.policy import new_policy, own_critic
from proximo.runs.process import prepare_process

PARTS = {  # of an iteration: (where its function is looked up, its name there)
    "sample": (rollout, "sample"),
    "score": (rollout.Rollouts, "scores"),
    "update": (sampling, "update"),
}


def config_of(shape: Shape) -> ModelConfig:
    """The shape as a model's configuration."""
    return model_config({"model_type": "gpt2", **shape.config()})


def tokenizer(shape: Shape) -> Tokenizer:
    """A word for each id; what ends a response is an id that the models have not."""
    words = word_tokenizer(f"t{index}" for index in range(shape.vocabulary - 3))
    return dataclasses.replace(words, eos_ids=(shape.eos_id,), pad_id=shape.pad_id)


def options(critic: Any) -> PPOOptions:
    """The task's."""
    return checked_ppo(
        PPOOptions(
            data="",
            episodes=10**9,
            kl=FixedKL(KL),
            model=ModelOptions(model=""),
            sampling=SamplingOptions(response_length=RESPONSE, batch_size=BATCH, prompt_length=PROMPT),
            rewards=RewardOptions(reward_model=("reward",)),
            steps=StepOptions(epochs=EPOCHS, minibatches=1),
            critic=CriticOptions(critic=critic, value_coefficient=VALUE_COEFFICIENT),
            optimisation=Optimisation(learning_rate=LEARNING_RATE, schedule="constant"),
        )
    )


def trainer(shape: Shape, critic: str) -> sampling.SamplingTrainer:
    """All that takes part: policy, critic, reference, and a reward model."""
    chosen, words = options(critic), tokenizer(shape)
    keys = jax.random.split(jax.random.key(0), 4)
    model, trunk = (new_model(config_of(shape), key) for key in keys[:2])
    own = [own_critic(new_model(config_of(shape), keys[2]))] if critic == "separate" else []
    policy = new_policy(model, *own)
    prompts = [
        Prompt(np.array(ids, np.int32), words.decode(ids), {}, words.decode(ids)) for ids in shape.prompts()
    ]
    models = {"reward": new_reward_model(trunk, keys[3])}
    rollouts = rollout.Rollouts(prompts, words, chosen.sampling, (), models, (1.0,), 0)
    return sampling.SamplingTrainer(chosen, policy, model, rollouts)


def ppo(shape: Shape, critic: str) -> Callable[[int], int]:
    """`train` for `serve`: whole iterations."""
    learning = trainer(shape, critic)
    state, number = learning.begin(), 0

    def train(iterations: int) -> int:
        nonlocal state, number
        tokens = 0
        for _ in range(iterations):
            outcome = learning.iterate(state, number)
            state, number = outcome.state, number + 1
            tokens += outcome.tokens - BATCH * PROMPT
        assert tokens == iterations * BATCH * RESPONSE
        return tokens

    return train


def decode(shape: Shape) -> Callable[[int], int]:
    """`train` for `serve`: samples responses to one batch of prompts."""
    model = new_model(config_of(shape), jax.random.key(0))
    ids = np.array(shape.prompts()[:BATCH], np.int32)
    lengths = np.full(BATCH, PROMPT, np.int32)
    sampling = Sampling(length=RESPONSE, eos_ids=(shape.eos_id,))
    number = 0

    def train(iterations: int) -> int:
        nonlocal number
        tokens = 0
        for _ in range(iterations):
            number += 1
            key = jax.random.fold_in(jax.random.key(0), number)
            out = jax.device_get(sample(model, ids, lengths, key, sampling, shape.pad_id))
            tokens += int(out.lengths.sum())
        assert tokens == iterations * BATCH * RESPONSE
        return tokens

    return train


def timed(seconds: dict[str, float], name: str) -> None:
    """Have the time of a part counted, wherever an iteration calls it."""
    owner, attribute = PARTS[name]
    function = getattr(owner, attribute)

    def call(*words: Any, **named: Any) -> Any:
        started = time.perf_counter()
        out = jax.block_until_ready(function(*words, **named))
        seconds[name] += time.perf_counter() - started
        return out

    setattr(owner, attribute, call)


def main() -> None:
    shape, task, _ = asked()
    jax.config.update("jax_enable_compilation_cache", False)  # a first run compiles, and its peak counts that
    prepare_process()
    seconds = dict.fromkeys(PARTS, 0.0)
    for name in PARTS:
        timed(seconds, name)

    def facts() -> dict[str, Any]:
        parts = dict(seconds)
        seconds.update(dict.fromkeys(PARTS, 0.0))
        return {} if task == "decode" else {"part_seconds": parts}

    train = decode(shape) if task == "decode" else ppo(shape, task)
    serve(train, ("proximo", "jax", "jaxlib", "equinox", "optax", "numpy"), facts)


if __name__ == "__main__":
    main()
