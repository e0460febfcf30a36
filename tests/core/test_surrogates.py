"""What each objective pays for moving the ratio, and where it stops paying."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core import (
    AdaptiveKLPenalty,
    AsymmetricClip,
    Clip,
    DualClip,
    KLPenalty,
    LogClip,
    PolicyGradient,
    QuadraticPenalty,
    Unclipped,
    categorical_kl,
    clip_fraction,
    masked_mean,
    select,
)

RANGED = [Clip(), LogClip(), DualClip(), AsymmetricClip(), QuadraticPenalty()]
OBJECTIVES = [*RANGED, Unclipped(), PolicyGradient(), KLPenalty(), AdaptiveKLPenalty()]
ZERO = jnp.float32(0.0)
RATIO = jnp.array([0.5, 0.9, 1.0, 1.1, 1.5])


@pytest.mark.parametrize("compiled", [False, True])
def test_clip_by_hand(compiled):
    objective = jax.jit(Clip(0.2).__call__) if compiled else Clip(0.2)
    # A = 2: 0.5 * 2, 0.9 * 2, 2, 1.1 * 2, and 1.2 * 2 where r = 1.5: no reward for going further.
    good = objective(jnp.log(RATIO), jnp.full(5, 2.0))
    np.testing.assert_allclose(good, [1.0, 1.8, 2.0, 2.2, 2.4], rtol=1e-6)
    # A = -2: 0.8 * -2 where r = 0.5: no reward for going further down; but the whole price at r = 1.5.
    bad = objective(jnp.log(RATIO), jnp.full(5, -2.0))
    np.testing.assert_allclose(bad, [-1.6, -1.8, -2.0, -2.2, -3.0], rtol=1e-6)


def test_clip_has_a_gradient_only_where_there_is_something_to_gain():
    slope = jax.vmap(jax.grad(Clip(0.2)))
    # d(r A) / d(log r) = r A inside, and outside on the side that still has to come back.
    np.testing.assert_allclose(slope(jnp.log(RATIO), jnp.full(5, 2.0)), [1.0, 1.8, 2.0, 2.2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(
        slope(jnp.log(RATIO), jnp.full(5, -2.0)), [0.0, -1.8, -2.0, -2.2, -3.0], rtol=1e-6
    )


def test_the_others_by_hand():
    log_ratio, advantage = jnp.log(RATIO), jnp.array([1.0, -1.0, 3.0, -2.0, 2.0])
    np.testing.assert_allclose(Unclipped()(log_ratio, advantage), [0.5, -0.9, 3.0, -2.2, 3.0], rtol=1e-6)
    # log 0.5 = -0.693147, log 0.9 = -0.105361, 0, log 1.1 = 0.095310, log 1.5 = 0.405465
    expected = [-0.693147, 0.105361, 0.0, -0.190620, 0.810930]
    np.testing.assert_allclose(PolicyGradient()(log_ratio, advantage), expected, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_at_ratio_1_every_gradient_is_the_policy_gradient(objective):
    logits = jnp.array([0.3, -1.0, 0.5])
    actions, advantage = jnp.array([0, 2, 1, 2]), jnp.array([1.0, -2.0, 0.5, 3.0])
    old = jax.nn.log_softmax(logits)[actions]

    def value(moved):
        # The exact KL of the two policies, whose gradient is 0 where they are equal.
        kl = jnp.broadcast_to(categorical_kl(logits[None], moved[None]), actions.shape)
        return jnp.mean(objective(jax.nn.log_softmax(moved)[actions] - old, advantage, kl))

    def policy_gradient(logits):
        return jnp.mean(jax.nn.log_softmax(logits)[actions] * advantage)

    np.testing.assert_allclose(jax.grad(value)(logits), jax.grad(policy_gradient)(logits), atol=1e-6)


@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
def test_clip_never_promises_more_than_the_unclipped_surrogate(log_ratio, advantage):
    log_ratio, advantage = jnp.float32(log_ratio), jnp.float32(advantage)
    clipped, plain = Clip()(log_ratio, advantage), Unclipped()(log_ratio, advantage)
    assert clipped <= plain
    np.testing.assert_allclose(Clip(1e9)(log_ratio, advantage), plain)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("log_ratio", [-1e30, -200.0, 200.0, 1e30])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_a_ratio_far_away_is_finite_and_so_is_its_gradient(objective, log_ratio, advantage):
    value, slope = jax.value_and_grad(objective)(jnp.float32(log_ratio), jnp.float32(advantage), ZERO)
    assert jnp.isfinite(value) and jnp.isfinite(slope)


def test_where_a_far_ratio_is_held():
    # e^20 = 4.851652e8 and e^-20 = 2.061154e-9; a log ratio of 15 is not yet held: e^15 = 3269017.4
    held = Unclipped()(jnp.array([-40.0, 15.0, 40.0]), jnp.ones(3))
    np.testing.assert_allclose(held, [2.061154e-9, 3269017.4, 4.851652e8], rtol=1e-5)


def test_epsilon_can_be_annealed_and_traced():
    narrow = Clip(0.2).annealed(0.25)  # 0.2 * 0.25 = 0.05
    assert narrow == Clip(0.05)
    log_ratio, ones = jnp.log(RATIO), jnp.ones(5)
    at = jax.jit(lambda remaining: Clip(0.2).annealed(remaining)(log_ratio, ones))
    np.testing.assert_allclose(at(0.25), [0.5, 0.9, 1.0, 1.05, 1.05], rtol=1e-6)
    np.testing.assert_allclose(at(jnp.float32(1.0)), [0.5, 0.9, 1.0, 1.1, 1.2], rtol=1e-6)


def test_every_range_is_annealed_and_nothing_else():
    # A quarter left: 0.2 * 0.25 = 0.05 and 0.28 * 0.25 = 0.07; dual clip's bound stays where it is.
    narrow = [objective.annealed(0.25) for objective in RANGED]
    expected = [
        Clip(0.05),
        LogClip(0.05),
        DualClip(0.05, 3.0),
        AsymmetricClip(0.05, 0.07),
        QuadraticPenalty(0.05),
    ]
    for found, wanted in zip(narrow, expected, strict=True):
        assert type(found) is type(wanted)
        np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(wanted), rtol=1e-6)
    assert not any(hasattr(objective, "annealed") for objective in OBJECTIVES if objective not in RANGED)


def test_a_parabola_of_no_width_is_finite():
    # At the very end of the annealing epsilon is 0, and the parabola divides by it.
    value, slope = jax.value_and_grad(QuadraticPenalty(0.2).annealed(0.0))(jnp.float32(0.1), jnp.float32(1.0))
    assert jnp.isfinite(value) and jnp.isfinite(slope)


def test_the_penalty_by_hand():
    # r A - beta KL: 0.5 * 2 - 3 * 0.1 = 0.7 and 1.5 * -1 - 3 * 0.2 = -2.1
    log_ratio, advantage, kl = jnp.log(jnp.array([0.5, 1.5])), jnp.array([2.0, -1.0]), jnp.array([0.1, 0.2])
    for objective in (KLPenalty(3.0), AdaptiveKLPenalty(0.01, beta=3.0)):
        np.testing.assert_allclose(objective(log_ratio, advantage, kl), [0.7, -2.1], rtol=1e-6)


def test_the_coefficient_doubles_and_halves_as_in_the_paper():
    # Target 0.03: halved below 0.03 / 1.5 = 0.02, doubled above 0.03 * 1.5 = 0.045, kept between.
    penalty, betas = AdaptiveKLPenalty(0.03), []
    for kl in (0.0199, 0.0201, 0.0449, 0.0451, 0.3, 0.001):
        penalty = penalty.adapted(kl)
        betas.append(float(penalty.beta))
    assert betas == [0.5, 0.5, 0.5, 1.0, 2.0, 1.0]
    assert penalty.target == 0.03


def test_the_coefficient_never_reaches_0_or_infinity():
    low = high = AdaptiveKLPenalty(0.01)
    for _ in range(200):
        low, high = low.adapted(0.0), high.adapted(1.0)
    assert float(low.beta) == pytest.approx(1e-20) and float(high.beta) == pytest.approx(1e20)


def test_clipping_in_log_space_by_hand():
    # The range is e^-0.2 = 0.818731 to e^0.2 = 1.221403, where `Clip` has 0.8 to 1.2.
    good = LogClip(0.2)(jnp.log(RATIO), jnp.ones(5))
    np.testing.assert_allclose(good, [0.5, 0.9, 1.0, 1.1, 1.221403], rtol=1e-6)
    bad = LogClip(0.2)(jnp.log(RATIO), -jnp.ones(5))
    np.testing.assert_allclose(bad, [-0.818731, -0.9, -1.0, -1.1, -1.5], rtol=1e-6)


def test_dual_clip_bounds_the_price_of_a_bad_action():
    ratio = jnp.log(jnp.array([0.5, 1.5, 2.0, 5.0]))
    # A = -1, bound 2: clip gives -0.8, -1.5, -2, -5; the last one is held at 2 * -1.
    np.testing.assert_allclose(DualClip(0.2, 2.0)(ratio, -jnp.ones(4)), [-0.8, -1.5, -2.0, -2.0], rtol=1e-6)
    np.testing.assert_array_equal(DualClip(0.2, 2.0)(ratio, jnp.ones(4)), Clip(0.2)(ratio, jnp.ones(4)))
    slope = jax.vmap(jax.grad(DualClip(0.2, 2.0)))(ratio, -jnp.ones(4))
    np.testing.assert_allclose(slope[jnp.array([1, 3])], [-1.5, 0.0], rtol=1e-6)


def test_asymmetric_clip_has_a_range_for_each_side():
    # Down to 0.9, up to 1.4: A = 1 gives min(r, clip(r)); A = -1 gives min(-r, -clip(r)).
    objective = AsymmetricClip(low=0.1, high=0.4)
    np.testing.assert_allclose(objective(jnp.log(RATIO), jnp.ones(5)), [0.5, 0.9, 1.0, 1.1, 1.4], rtol=1e-6)
    np.testing.assert_allclose(
        objective(jnp.log(RATIO), -jnp.ones(5)), [-0.9, -0.9, -1.0, -1.1, -1.5], rtol=1e-6
    )


def test_the_parabola_by_hand_and_its_top():
    # r A - |A| (r - 1)^2 / 0.4, A = 2: 1 - 2 * 0.25 / 0.4 = -0.25; 1.8 - 2 * 0.01 / 0.4 = 1.75; 2;
    # 2.2 - 0.05 = 2.15; 3 - 1.25 = 1.75. With A = -2 the penalty is the same: -1 - 1.25, and so on.
    found = QuadraticPenalty(0.2)(jnp.log(RATIO), jnp.full(5, 2.0))
    np.testing.assert_allclose(found, [-0.25, 1.75, 2.0, 2.15, 1.75], rtol=1e-5)
    found = QuadraticPenalty(0.2)(jnp.log(RATIO), jnp.full(5, -2.0))
    np.testing.assert_allclose(found, [-2.25, -1.85, -2.0, -2.25, -4.25], rtol=1e-5)
    slope = jax.vmap(jax.grad(QuadraticPenalty(0.2)))
    tops = slope(jnp.log(jnp.array([1.2, 0.8])), jnp.array([1.0, -1.0]))  # at 1 + sign(A) epsilon
    np.testing.assert_allclose(tops, [0.0, 0.0], atol=1e-6)


@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
def test_what_reduces_to_clip(log_ratio, advantage):
    log_ratio, advantage = jnp.float32(log_ratio), jnp.float32(advantage)
    clipped = Clip(0.2)(log_ratio, advantage)
    np.testing.assert_array_equal(AsymmetricClip(0.2, 0.2)(log_ratio, advantage), clipped)
    np.testing.assert_array_equal(DualClip(0.2, 1e9)(log_ratio, advantage), clipped)
    # No price, no penalty.
    np.testing.assert_array_equal(
        KLPenalty(0.0)(log_ratio, advantage, ZERO + 5), Unclipped()(log_ratio, advantage)
    )


def test_epsilon_can_differ_between_members():
    members = jax.vmap(Clip(0.2).annealed)(jnp.array([0.5, 1.0]))
    far = jax.vmap(lambda clip: clip(jnp.log(2.0), jnp.ones(())))(members)
    np.testing.assert_allclose(far, [1.1, 1.2], rtol=1e-6)
    assert jax.tree.leaves(Clip(0.3)) == [0.3]
    assert jax.tree.leaves([Unclipped(), PolicyGradient()]) == []


def test_clip_fraction_by_hand():
    # |r - 1| = 0.5, 0.1, 0, 0.1, 0.5: outside 0.2 at both ends, 2 of 5
    outside = clip_fraction(jnp.log(RATIO), 0.2, 0.2)
    np.testing.assert_array_equal(outside, [1.0, 0.0, 0.0, 0.0, 1.0])
    assert masked_mean(outside, jnp.ones(5)) == jnp.float32(0.4)
    # Down to 0.4, up to 1.05: 1.1 and 1.5 are outside.
    np.testing.assert_array_equal(clip_fraction(jnp.log(RATIO), 0.6, 0.05), [0.0, 0.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("garbage", [jnp.nan, jnp.inf, -jnp.inf])
def test_garbage_under_the_mask_does_not_reach_the_gradient(objective, garbage):
    mask = jnp.array([1.0, 0.0, 1.0])

    def loss(log_ratio, garbage):
        advantage = jnp.array([1.0, 0.0, -1.0]).at[1].set(garbage)
        log_ratio = log_ratio.at[1].set(garbage)
        kl = 0.5 * jnp.square(select(log_ratio, mask))
        return masked_mean(objective(select(log_ratio, mask), select(advantage, mask), kl), mask)

    both = jax.value_and_grad(loss)
    log_ratio = jnp.array([0.1, 0.0, 0.05])
    dirty, clean = both(log_ratio, garbage), both(log_ratio, 0.0)
    np.testing.assert_array_equal(dirty[0], clean[0])
    np.testing.assert_array_equal(dirty[1], clean[1])
