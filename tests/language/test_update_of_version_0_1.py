"""The update of a language model gives what version 0.1 gave, to rounding.

`tests/data/version-0.1/language-update.*` were written by that version: eight responses, the weights of the
policy that sampled them (`first`) and of the one that learns (`now`); then its advantages, loss and gradient,
and its weights after two epochs of two minibatches.
"""

import json
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from policies import grpo, options, ppo

from proximo.core import ClippedSquaredError, FixedKL, empty_moments
from proximo.language.train import grpo as grpo_trainer
from proximo.language.train import ppo as ppo_trainer
from proximo.language.train.grpo_options import GRPOOptions
from proximo.language.train.policy import Sequences
from proximo.language.train.update import shared, update
from proximo.runs.named import filled, named_arrays

FOLDER = Path(__file__).parent.parent / "data" / "version-0.1"
ARRAYS = safetensors.numpy.load_file(FOLDER / "language-update.safetensors")
FACTS = json.loads((FOLDER / "language-update.json").read_text())
WIDTH, RATE = 4, 1e-3
STEPS = dict(minibatches=2, epochs=2)
CASES = {
    "ppo": options(steps=STEPS, kl=FixedKL(0.1)),
    "ppo-loss": options(
        steps=STEPS | dict(entropy_coefficient=0.02, target_kl=0.6),
        kl=FixedKL(0.1),
        kl_in="loss",
        whiten_rewards=True,
        critic=dict(value_loss=ClippedSquaredError(0.2), gae_lambda=0.9),
    ),
    "grpo": options(GRPOOptions, steps=STEPS),
    "grpo-sequence": options(
        GRPOOptions, steps=STEPS | dict(ratio="sequence", aggregation="tokens"), kl_in="loss", beta=0.1
    ),
}


def of(name, group):
    """The arrays of a case that stand under `group`."""
    start = f"{name}/{group}/"
    return {key.removeprefix(start): array for key, array in ARRAYS.items() if key.startswith(start)}


def close(found, expected):
    # Sums of another order may differ in the last digits of float32.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A case, its trainer, its weights, and its experience: (batch, facts, beta, loss)."""
    name, opts = request.param, CASES[request.param]
    trainer = (grpo if "grpo" in name else ppo)(opts)
    first, now = (filled(trainer.first, of(name, group), group) for group in ("first", "now"))
    arrays = {key: jnp.asarray(ARRAYS[key]) for key in ("ids", "prompts", "lengths", "finished")}
    given = (trainer.reference, Sequences(**arrays), ARRAYS["score"], ARRAYS["sampled"])
    policy = eqx.combine(first, trainer.frozen)
    if "grpo" in name:
        batch, facts = grpo_trainer.experience(policy, *given, trainer.compiled_for, WIDTH)
        return name, trainer, now, batch, facts, opts.beta, grpo_trainer.part_loss
    kl = jax.tree.map(jnp.float32, opts.kl)
    batch, _, _, facts = ppo_trainer.experience(
        policy, *given, kl, empty_moments(()), trainer.compiled_for, WIDTH
    )
    return name, trainer, now, batch, facts, kl.beta, ppo_trainer.part_loss


def test_what_is_learned_from(case):
    name, _, _, batch, facts, _, _ = case
    found = batch.tokens._asdict() | {"value": batch.value, "target": batch.target}
    for key, expected in of(name, "experience").items():
        close(found[key], expected)
    for key, expected in FACTS[name]["facts"].items():
        close(facts[key], expected)


def test_the_loss_and_its_gradient(case):
    name, trainer, now, batch, _, beta, loss = case
    opts = trainer.options
    part = batch._replace(tokens=shared(batch.tokens, opts.steps.aggregation, opts.sampling.response_length))
    of_weights = partial(loss, part=part, frozen=trainer.frozen, beta=beta, options=opts, width=WIDTH)
    (value, metrics), gradient = jax.value_and_grad(of_weights, has_aux=True)(now)
    close(value, FACTS[name]["loss"])
    for key, expected in FACTS[name]["metrics"].items():
        close(metrics[key], expected)
    found = named_arrays(gradient)
    for key, expected in of(name, "gradient").items():
        close(found[key], expected)


def test_the_weights_after_it(case):
    name, trainer, now, batch, _, beta, loss = case
    moments, order = trainer.begin().moments, ARRAYS[f"{name}/order"].reshape(2, 2, -1)
    given = (trainer.frozen, batch, beta, RATE, order, trainer.compiled_for, WIDTH)
    weights, _, metrics = update(loss, now, moments, *given)
    found = named_arrays(weights)
    for key, expected in of(name, "after").items():
        close(found[key], expected)
    for key, expected in FACTS[name]["after"].items():
        close(metrics[key], expected)
