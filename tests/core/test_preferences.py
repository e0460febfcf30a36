"""What a pair of answers costs, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proximo.core import ConservativeLoss, IPOLoss, SigmoidLoss

CHOSEN, REJECTED = jnp.array([2.0, -1.0, 0.0]), jnp.array([-3.0, 1.0, 0.0])
NOTHING = jnp.zeros(())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("loss", "costs"),
    [
        # h = 0.1 (5, -2, 0): sigmoid(0.5) = 0.622459, sigmoid(-0.2) = 0.450166, sigmoid(0) = 1/2.
        (SigmoidLoss(), [0.474077, 0.798139, 0.693147]),
        # 0.9 of that, and 0.1 of -log(1 - sigmoid(h)): 0.974077, 0.598139, 0.693147.
        (ConservativeLoss(0.1), [0.524077, 0.778139, 0.693147]),
        # (lead - 5)^2 of leads 5, -2 and 0.
        (IPOLoss(), [0.0, 49.0, 25.0]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_cost_by_hand(loss, costs, compiled):
    found = (jax.jit(loss) if compiled else loss)(CHOSEN, REJECTED, 0.1)
    np.testing.assert_allclose(found, costs, rtol=1e-5)


def test_no_smoothing_is_the_plain_loss():
    plain = SigmoidLoss()(CHOSEN, REJECTED, 0.3)
    np.testing.assert_allclose(ConservativeLoss(0.0)(CHOSEN, REJECTED, 0.3), plain, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "lead"),
    [(ConservativeLoss(0.2), np.log(4.0) / 0.5), (IPOLoss(), 1.0)],  # sigmoid(log 4) = 0.8; 1 / (2 x 0.5)
)
def test_some_losses_have_a_best_lead(loss, lead):
    slope = jax.grad(lambda lead: loss(lead, NOTHING, 0.5))
    np.testing.assert_allclose(slope(lead), 0.0, atol=1e-6)
    assert slope(lead - 0.1) < 0 < slope(lead + 0.1)


def test_the_plain_loss_has_none():
    assert jax.grad(lambda lead: SigmoidLoss()(lead, NOTHING, 0.5))(20.0) < 0
