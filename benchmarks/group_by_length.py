"""What `--group-by-length` saves: `python -m benchmarks.group_by_length`; results/speed/group_by_length.json.

One update of PPO (four epochs of 64 responses, at most 48 tokens after prompts of 16) with the option and
without, in turns in one process. Lengths are drawn once: geometric with a mean of 12, so that a few answers
are long; or all 48, where there is nothing to save.
"""

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.language_task import BATCH, PROMPT, RESPONSE, SHAPES, Shape
from benchmarks.worker_language import config_of, options
from proximo.language.model.adapters import trainable
from proximo.language.model.compiling import jit
from proximo.language.model.transformer import new_model
from proximo.language.train.options import PPOOptions
from proximo.language.train.policy import new_policy
from proximo.language.train.responses import Batch, Responses, response_mask
from proximo.language.train.sampling import (
    mean_metrics,
    minibatch_order,
    part_loss,
    task_of,
    update_options,
)
from proximo.learn.descend import adam
from proximo.learn.update import State, minibatch_steps
from proximo.runs.process import prepare_process

RESULT = Path("results/speed/group_by_length.json")
ROUNDS = 9


def responses(shape: Shape, lengths: np.ndarray) -> Batch:
    """Random responses of these lengths, with random advantages and targets."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, shape.vocabulary, (BATCH, PROMPT + RESPONSE))
    responses = Responses(
        jnp.asarray(ids, jnp.int32), jnp.full(BATCH, PROMPT), jnp.asarray(lengths), jnp.ones(BATCH, bool)
    )
    mask = response_mask(responses.lengths, RESPONSE)
    noise = [jnp.asarray(draw.normal(size=mask.shape), jnp.float32) * mask for _ in range(4)]
    old, advantage, value, target = noise
    critic = jnp.zeros(BATCH, jnp.int32)
    return Batch(responses, old - 5.0, old - 5.0, mask, advantage, None, value, target, critic)


def seconds(shape: Shape, batch: Batch) -> dict[str, list[float]]:
    """Of every update in turn, after one of each that compiles it."""
    plain: PPOOptions = options("shared")
    policy = new_policy(new_model(config_of(shape), jax.random.key(0)))
    weights, frozen = eqx.partition(policy, trainable(policy))
    found: dict[str, list[float]] = {"apart": [], "grouped": []}
    for _ in range(1 + ROUNDS):
        for name, times in found.items():
            steps = replace(plain.steps, group_by_length=name == "grouped")
            asked = update_options(replace(plain, steps=steps))
            moments, order = adam(weights), jnp.asarray(minibatch_order(0, 0, steps, BATCH))
            started = time.perf_counter()
            done = learning(weights, frozen, moments, batch, order, asked)
            jax.block_until_ready(done)
            times.append(time.perf_counter() - started)
    return {name: times[1:] for name, times in found.items()}


@jit
def learning(
    weights: Any, frozen: Any, moments: Any, batch: Batch, order: jax.Array, asked: PPOOptions
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """All steps on one batch of responses."""
    loss = partial(part_loss, frozen=frozen, price=0.0, options=asked)
    task, order = task_of(loss, batch, order, asked)
    state = State(weights, moments, jnp.asarray(1e-5), jnp.zeros((), bool))
    state, history = minibatch_steps(state, order, task)
    return state.weights, state.adam, mean_metrics(history)


def main() -> None:
    """Measure, write the file, print a line for each case."""
    prepare_process()
    drawn = np.random.default_rng(1).geometric(1 / 12, BATCH).clip(1, RESPONSE)
    content: dict[str, Any] = {"command": "python -m benchmarks.group_by_length"}
    for name, shape in SHAPES.items():
        for kind, lengths in (("mean of 12", drawn), ("all 48", np.full(BATCH, RESPONSE))):
            raw = seconds(shape, responses(shape, lengths.astype(np.int32)))
            ratios = np.array(raw["apart"]) / raw["grouped"]
            case = {"median": float(np.median(ratios)), "low": ratios.min(), "high": ratios.max()}
            content[f"{name}, {kind}"] = {"apart_over_grouped": case, "seconds": raw}
            print(f"{name}, {kind}: {case['median']:.2f} ({case['low']:.2f} to {case['high']:.2f})")
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
