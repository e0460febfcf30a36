"""Numbers are traced: a run that differs from another one in numbers alone compiles nothing."""

import pytest
from policies import grpo, options, ppo
from test_dpo import trainer as dpo
from test_sft import trainer as sft

from proximo.core import AdaptiveKL, AsymmetricClip, ConservativeLoss
from proximo.language.train import labelled, sampling
from proximo.language.train.optimise import Optimisation
from proximo.language.train.options import GRPOOptions, PPOOptions

COMPILED = (sampling.update, labelled.update)


def programs():
    return [function.compiled._cache_size() for function in COMPILED]


def sampled(x, kind=PPOOptions, **more):
    """Options of a trainer that samples, with every number a multiple of x."""
    rates = dict(learning_rate=1e-3 * x, warmup=0.1 * x, weight_decay=0.01 * x, max_grad_norm=x)
    clip = AsymmetricClip(0.1 * x, 0.2 * x)
    steps = dict(objective=clip, entropy_coefficient=0.01 * x, target_kl=0.1 * x)
    return options(kind, optimisation=rates, steps=steps, **more)


TRAINERS = {
    "ppo": lambda x: ppo(sampled(x, kl=AdaptiveKL(3.0 * x, 0.1 * x), critic=dict(gae_lambda=0.5 * x))),
    "grpo": lambda x: grpo(sampled(x, GRPOOptions, beta=0.1 * x)),
    "sft": lambda x: sft(optimisation=Optimisation(learning_rate=1e-3 * x, weight_decay=0.1 * x)),
    "dpo": lambda x: dpo(beta=0.1 * x, loss=ConservativeLoss(0.1 * x)),
}


@pytest.mark.parametrize("method", TRAINERS)
def test_other_numbers_compile_nothing(method):
    counts = []
    for x in (1.0, 1.5):
        trainer = TRAINERS[method](x)
        trainer.iterate(trainer.begin(), 0)
        counts.append(programs())
    assert counts[0] == counts[1]
