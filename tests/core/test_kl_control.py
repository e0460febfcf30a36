"""The price of a nat, by hand."""

import jax
import numpy as np
import pytest

from proximo.core import AdaptiveKL, AdaptiveKLPenalty, FixedKL, ProportionalKL


def test_a_fixed_price_stays():
    assert FixedKL(0.05).adapted(100.0, 64) == FixedKL(0.05)


@pytest.mark.parametrize(
    ("kl", "beta"),
    [
        (3.9, 0.05),  # below 6 / 1.5 = 4: half of 0.1
        (4.1, 0.1),  # between 4 and 9: as it is
        (8.9, 0.1),
        (9.1, 0.2),  # above 1.5 x 6 = 9: twice
    ],
)
def test_the_papers_rule(kl, beta):
    assert AdaptiveKL(target=6.0, beta=0.1).adapted(kl, 64).beta == pytest.approx(beta)


def test_the_penalty_and_the_price_follow_one_rule():
    for kl in (0.001, 0.01, 0.1):
        penalty = AdaptiveKLPenalty(target=0.01, beta=1.0).adapted(kl)
        assert AdaptiveKL(target=0.01, beta=1.0).adapted(kl, 1).beta == penalty.beta


@pytest.mark.parametrize(
    ("kl", "beta"),
    [
        (6.6, 0.15 * (1 + 0.1 * 0.1)),  # 10% above the target, 1000 of 10,000 sequences
        (5.4, 0.15 * (1 - 0.1 * 0.1)),
        (60.0, 0.15 * (1 + 0.2 * 0.1)),  # errors count up to a fifth
        (-1.0, 0.15 * (1 - 0.2 * 0.1)),  # an estimate of the KL may be negative
    ],
)
def test_ziegler_by_hand(kl, beta):
    assert ProportionalKL().adapted(kl, 1000).beta == pytest.approx(beta, rel=1e-6)


@pytest.mark.parametrize("controller", [AdaptiveKL(), ProportionalKL(horizon=1.0)])
def test_the_price_never_leaves_the_finite_positive_numbers(controller):
    adapted = jax.jit(lambda controller, kl: controller.adapted(kl, 1000.0))
    for kl in (1e-9, 1e9):
        end = controller
        for _ in range(400):
            end = adapted(end, kl)
        assert np.isfinite(end.beta) and end.beta > 0
