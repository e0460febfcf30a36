"""Language models learn by the engine of `learn`: taken out, none of them moves."""

import jax
import pytest
from policies import distance, grpo, options, ppo
from test_dpo import trainer as dpo
from test_sft import trainer as sft

from proximo.language.train.options import GRPOOptions
from proximo.learn.update import minibatch_step

TRAINERS = {
    "ppo": lambda: ppo(options()),
    "grpo": lambda: grpo(options(GRPOOptions)),
    "sft": sft,
    "dpo": dpo,
}


def without_a_step(state, minibatch, task):
    """What stands for the engine when it is taken out: the same metrics, nothing learned."""
    _, metrics = minibatch_step(state, minibatch, task)
    return state, metrics


@pytest.fixture(scope="module")
def outcomes():
    """How far each method's first iteration moves its weights: with the engine, and without it."""
    found = {}
    with pytest.MonkeyPatch.context() as patched:
        for engine in ("there", "taken out"):
            jax.clear_caches()  # what was compiled before has the other one in it
            for method, made in TRAINERS.items():
                trainer = made()
                begun = trainer.begin()
                found[method, engine] = distance(trainer.iterate(begun, 0).state.weights, begun.weights)
            patched.setattr("proximo.learn.update.minibatch_step", without_a_step)
            patched.setattr("proximo.language.train.labelled.minibatch_step", without_a_step)
    jax.clear_caches()
    return found


@pytest.mark.parametrize("method", TRAINERS)
def test_every_method_learns_by_it_alone(method, outcomes):
    assert outcomes[method, "there"] > 0
    assert outcomes[method, "taken out"] == 0
