"""The update of a language model gives what version 0.1 gave, to rounding.

`tests/data/version-0.1/language-update.*` were written by that version: eight responses, the weights of the
policy that sampled them (`first`) and of the one that learns (`now`); then its advantages, loss and gradient,
and its weights after two epochs of two minibatches.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from policies import grpo, options, ppo, run_epochs

from proximo.core import ClippedSquaredError, FixedKL
from proximo.language.train.estimators import estimator_of
from proximo.language.train.loss import prepare_minibatch
from proximo.language.train.options import GRPOOptions
from proximo.language.train.responses import Responses
from proximo.language.train.sampling import Experience, Frozen, estimate, part_loss
from proximo.runs.named import named_arrays, restore_tree

FOLDER = Path(__file__).parent.parent / "data" / "version-0.1"
ARRAYS = safetensors.numpy.load_file(FOLDER / "language-update.safetensors")
FACTS = json.loads((FOLDER / "language-update.json").read_text())
RATE = 1e-3
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
    """A case, its trainer, the weights that learn, what they learn from, facts of it, and the loss."""
    name, opts = request.param, CASES[request.param]
    trainer = (grpo if "grpo" in name else ppo)(opts)
    first, now = (restore_tree(trainer.first, of(name, group), group) for group in ("first", "now"))
    arrays = {key: jnp.asarray(ARRAYS[key]) for key in ("ids", "prompts", "lengths", "finished")}
    sampled, score, order = (jnp.asarray(ARRAYS[key]) for key in ("sampled", "score", f"{name}/order"))
    given = Experience(Responses(**arrays), sampled, score, order.reshape(2, 2, -1), jnp.asarray(0))
    learner, update_options = trainer.begin()._replace(weights=first), trainer.update_options
    frozen = Frozen(trainer.frozen, trainer.reference)
    batch, _, facts = jax.jit(estimate)(learner, given, update_options, frozen)
    estimator = estimator_of(update_options)
    price, facts = estimator.price(learner.kl), facts | estimator.adapt_price(learner.kl, 0.0, len(score))[1]
    loss = partial(part_loss, frozen=trainer.frozen, price=price, options=update_options)
    return name, trainer, now, batch, facts, loss


def test_what_is_learned_from(case):
    name, _, _, batch, facts, _ = case
    nothing = np.zeros_like(batch.mask)  # what that version had in the place of a critic, and of shares
    found = batch._asdict() | {"old_log_prob": batch.log_prob}
    for key, expected in of(name, "experience").items():
        close(nothing if found[key] is None else found[key], expected)
    for key, expected in FACTS[name]["facts"].items():
        close(facts[key], expected)


def test_the_loss_and_its_gradient(case):
    name, trainer, now, batch, _, loss = case
    opts = trainer.options
    part, _ = prepare_minibatch(batch, opts.steps.aggregation, opts.sampling.response_length)
    (value, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(now, part)
    close(value, FACTS[name]["loss"])
    for key, expected in FACTS[name]["metrics"].items():
        close(metrics[key], expected)
    found = named_arrays(gradient)
    for key, expected in of(name, "gradient").items():
        close(found[key], expected)


def test_the_weights_after_it(case):
    name, trainer, now, batch, _, loss = case
    moments, order = trainer.begin().moments, jnp.asarray(ARRAYS[f"{name}/order"].reshape(2, 2, -1))
    learning = jax.jit(partial(run_epochs, loss))
    weights, _, metrics = learning(now, moments, batch, order, RATE, trainer.update_options)
    found = named_arrays(weights)
    for key, expected in of(name, "after").items():
        close(found[key], expected)
    for key, expected in FACTS[name]["after"].items():
        close(metrics[key], expected)
