"""Masks of legal actions, dependent choices, and actions of several parts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proximo.core.types import Binary, Categories, Combinations, Continuous, Parts
from proximo.policies.distributions import flags_of, make_head

KEY = jax.random.key(1)


def test_illegal_choices_are_never_drawn_and_the_rest_share_their_probability():
    # logits 0, ln 3, 5 with the last one illegal: 1/4 and 3/4
    head = make_head(Categories((3,), scalar=True), 0.0)
    p = head(jnp.array([0.0, np.log(3.0), 5.0])).masked(jnp.array([True, True, False]))
    probabilities = np.exp([float(p.log_prob(jnp.array(a))) for a in range(3)])
    np.testing.assert_allclose(probabilities, [0.25, 0.75, 0.0], atol=1e-7)
    # -(1/4 ln 1/4 + 3/4 ln 3/4) = 0.5623
    assert float(p.entropy()) == pytest.approx(0.5623, abs=1e-4)
    assert int(p.mode()) == 1
    drawn = np.asarray(p.sample(head.noise(KEY, (5_000,))))
    assert stats.chisquare(np.bincount(drawn, minlength=2), [1250, 3750]).pvalue > 0.01


def test_another_mask_knows_nothing_of_the_one_before():
    """0.2, 0.2, 0.6: without the first 1/4 and 3/4, without the last 1/2 and 1/2."""
    p = make_head(Categories((3,), scalar=True), 0.0)(jnp.log(jnp.array([0.2, 0.2, 0.6])))
    first, second = jnp.array([False, True, True]), jnp.array([True, True, False])
    for legal, expected in ((first, [0.0, 0.25, 0.75]), (second, [0.5, 0.5, 0.0])):
        probabilities = np.exp([float(p.masked(legal).log_prob(jnp.array(a))) for a in range(3)])
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_equal_logits_have_the_entropy_of_the_legal_choices():
    head = make_head(Categories((1400,), scalar=True), 0.0)
    legal = jnp.arange(1400) % 7 == 0  # 200 of them
    assert float(head(jnp.full(1400, -17.0)).masked(legal).entropy()) == pytest.approx(np.log(200), rel=1e-5)


def test_one_legal_choice_among_many_leaves_nothing_to_choose():
    head = make_head(Categories((992,), scalar=True), 0.0)
    p = head(jnp.full(992, -17.0)).masked(jnp.arange(992) == 3)
    assert int(p.sample(head.noise(KEY, ()))) == 3
    assert float(p.log_prob(jnp.array(3))) == 0.0 and float(p.entropy()) == 0.0


def test_the_flags_of_several_choices_follow_one_another():
    # MultiDiscrete([2, 3]): off, on | a, b, c
    head = make_head(Categories((2, 3)), 0.0)
    p = head(jnp.zeros(6)).masked(jnp.array([False, True, True, False, True]))
    assert float(p.entropy()) == pytest.approx(np.log(2), rel=1e-6)
    drawn = np.asarray(p.sample(head.noise(KEY, (200,))))
    assert set(map(tuple, drawn.tolist())) == {(1, 0), (1, 2)}


def test_switches_may_be_forced():
    # free, forced off, forced on
    head = make_head(Binary(3), 0.0)
    p = head(jnp.array([0.0, 4.0, -4.0])).masked(jnp.array([True, True, True, False, False, True]))
    assert float(p.entropy()) == pytest.approx(np.log(2), rel=1e-6)
    assert float(p.log_prob(jnp.array([1, 0, 1]))) == pytest.approx(-np.log(2), rel=1e-6)
    drawn = np.asarray(p.sample(head.noise(KEY, (200,))))
    assert set(map(tuple, drawn.tolist())) == {(0, 0, 1), (1, 0, 1)}


def test_dependent_choices_take_legal_combinations_alone():
    """Independent masks cannot say that (0, 0) is illegal where (0, 1) and (1, 0) are not."""
    head = make_head(Combinations((3, 3)), 0.0)
    legal = ~np.eye(3, dtype=bool)
    p = head(jnp.array([1.0, 0.0, -1.0, 0.5, 0.0, 2.0])).masked(jnp.asarray(legal.reshape(-1)))
    actions = jnp.array(list(itertools.product(range(3), range(3))))
    probabilities = np.exp(np.asarray(jax.vmap(p.log_prob)(actions), np.float64))
    # l1[a] + l2[b] over the legal pairs
    odds = np.exp(np.add.outer([1.0, 0.0, -1.0], [0.5, 0.0, 2.0])) * legal
    np.testing.assert_allclose(probabilities, (odds / odds.sum()).reshape(-1), atol=1e-6)
    kept = probabilities[probabilities > 0]
    assert float(p.entropy()) == pytest.approx(-(kept * np.log(kept)).sum(), rel=1e-5)
    assert tuple(np.asarray(p.mode()).tolist()) == (0, 2)
    drawn = np.asarray(p.sample(head.noise(KEY, (500,))))
    assert (drawn[:, 0] != drawn[:, 1]).all()


def test_without_a_mask_dependent_choices_are_the_independent_ones():
    outputs = jnp.array([0.3, -0.4, 0.5, -1.0, 2.0])
    dependent = make_head(Combinations((2, 3)), 0.0)(outputs)
    independent = make_head(Categories((2, 3)), 0.0)(jnp.insert(outputs, 2, 0.0))
    action = jnp.array([1, 2])
    np.testing.assert_allclose(dependent.log_prob(action), independent.log_prob(action), rtol=1e-6)
    np.testing.assert_allclose(dependent.entropy(), independent.entropy(), rtol=1e-6)


ARM = Parts(("arm", "grip", "mode"), (Continuous(2), Binary(1), Categories((3,), scalar=True)))


def test_an_action_of_several_parts_adds_up():
    head = make_head(ARM, 0.0)
    assert head.inputs == 2 + 1 + 3
    outputs = jnp.array([0.1, -0.2, 0.7, 1.0, 0.0, -1.0])
    p = head(outputs)
    action = {"arm": jnp.array([0.3, 0.3]), "grip": jnp.array([1]), "mode": jnp.array(2)}
    alone = [
        make_head(Continuous(2), 0.0)(outputs[:2]).log_prob(action["arm"]),
        make_head(Binary(1), 0.0)(outputs[2:3]).log_prob(action["grip"]),
        make_head(Categories((3,), scalar=True), 0.0)(outputs[3:]).log_prob(action["mode"]),
    ]
    np.testing.assert_allclose(p.log_prob(action), sum(alone), rtol=1e-6)
    assert jax.tree.map(jnp.shape, p.sample(head.noise(KEY, (4, 5)))) == {
        "arm": (4, 5, 2),
        "grip": (4, 5, 1),
        "mode": (4, 5),
    }
    other = head(-outputs)
    assert float(p.kl(other)) > 0 and float(p.kl(p)) == pytest.approx(0.0, abs=1e-6)


def test_the_mask_of_several_parts_leaves_real_numbers_alone():
    assert flags_of(ARM) == 2 + 3
    p = make_head(ARM, 0.0)(jnp.zeros(6)).masked(jnp.array([False, True, True, False, False]))
    gaussian = 2 * stats.norm.entropy()
    assert float(p.entropy()) == pytest.approx(gaussian, rel=1e-6)  # nothing else is left to choose


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).flatmap(
        lambda sizes: st.tuples(
            st.just(tuple(sizes)),
            st.lists(st.booleans(), min_size=sum(sizes), max_size=sum(sizes)),
            st.integers(0, 2**31 - 1),
        )
    )
)
def test_what_the_network_says_of_illegal_choices_changes_nothing(drawn):
    sizes, flags, seed = drawn
    legal = np.array(flags)
    for first, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
        legal[first] |= not legal[first : first + size].any()
    head = make_head(Categories(sizes), 0.0)
    random = np.random.default_rng(seed)
    said = random.normal(size=head.inputs)
    from proximo.policies.distributions.categorical import by_component

    inside = np.asarray(by_component(jnp.asarray(legal), sizes)).reshape(-1)
    garbage = np.where(inside, said, random.normal(0, 1e4, head.inputs))

    def numbers(outputs):
        p = head(jnp.asarray(outputs, jnp.float32)).masked(jnp.asarray(legal))
        action = p.sample(head.noise(KEY, ()))
        return action, p.log_prob(action), p.entropy(), p.kl(head(jnp.zeros(head.inputs)).masked(legal))

    for ours, theirs in zip(numbers(said), numbers(garbage), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    slope = jax.grad(lambda x: head(x).masked(jnp.asarray(legal)).entropy())(jnp.asarray(said, jnp.float32))
    assert np.all(np.isfinite(slope)) and np.all(np.asarray(slope)[~inside] == 0.0)
