"""What `--group-by-length` saves: `python -m benchmarks.group_by_length`; results/speed/group_by_length.json.

One update of PPO (four epochs of 64 responses, at most 48 tokens after prompts of 16) with the option and
without, in turns in one process. Lengths are drawn once: geometric with a mean of 12, so that a few answers
are long; or all 48, where there is nothing to save.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.language_task import BATCH, PROMPT, RESPONSE, SHAPES, Shape
from benchmarks.worker_language import config_of, options
from proximo.language.model.adapters import trainable
from proximo.language.model.transformer import new_model
from proximo.language.train.loss import Tokens
from proximo.language.train.policy import Sequences, new_policy, response_mask
from proximo.language.train.ppo import part_loss
from proximo.language.train.ppo_options import PPOOptions
from proximo.language.train.update import Batch, compiled_for, minibatch_order, update
from proximo.learn.descend import adam
from proximo.runs.process import prepare_process

RESULT = Path("results/speed/group_by_length.json")
ROUNDS = 9


def responses(shape: Shape, lengths: np.ndarray) -> Batch:
    """Random responses of these lengths, with random advantages and targets."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, shape.vocabulary, (BATCH, PROMPT + RESPONSE))
    sequences = Sequences(
        jnp.asarray(ids, jnp.int32), jnp.full(BATCH, PROMPT), jnp.asarray(lengths), jnp.ones(BATCH, bool)
    )
    mask = response_mask(sequences.lengths, RESPONSE)
    noise = [jnp.asarray(draw.normal(size=mask.shape), jnp.float32) * mask for _ in range(4)]
    old, advantage, value, target = noise
    tokens = Tokens(old - 5.0, old - 5.0, advantage, 0.0 * mask, 0.0 * mask, mask, mask)
    return Batch(sequences, tokens, value, target, jnp.zeros(BATCH, jnp.int32))


def seconds(shape: Shape, batch: Batch) -> dict[str, list[float]]:
    """Of every update in turn, after one of each that compiles it."""
    plain: PPOOptions = options("shared")
    policy = new_policy(new_model(config_of(shape), jax.random.key(0)))
    weights, frozen = eqx.partition(policy, trainable(policy))
    found: dict[str, list[float]] = {"apart": [], "grouped": []}
    for _ in range(1 + ROUNDS):
        for name, times in found.items():
            steps = replace(plain.steps, group_by_length=name == "grouped")
            asked = compiled_for(replace(plain, steps=steps))
            moments, order = adam(weights), minibatch_order(0, 0, steps, BATCH)
            started = time.perf_counter()
            done = update(part_loss, weights, moments, frozen, batch, 0.0, 1e-5, order, asked, PROMPT)
            jax.block_until_ready(done)
            times.append(time.perf_counter() - started)
    return {name: times[1:] for name, times in found.items()}


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
