"""A group in the place of a critic, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proximo.core import Centred, LeaveOneOut, Standardised, has_spread

SCORE = jnp.array([[1.0, 2.0, 3.0, 6.0]])  # mean 3, deviations -2 -1 0 3, variance 14 / 3


def test_by_hand():
    np.testing.assert_allclose(Centred()(SCORE), [[-2, -1, 0, 3]])
    np.testing.assert_allclose(LeaveOneOut()(SCORE)[0, 3], 6 - (1 + 2 + 3) / 3)
    np.testing.assert_allclose(Standardised()(SCORE)[0, 3], 3 / (14 / 3) ** 0.5, rtol=1e-4)


@pytest.mark.parametrize("advantage", [Centred(), LeaveOneOut(), Standardised()])
def test_equal_answers_teach_nothing(advantage):
    assert advantage(jnp.full((2, 4), 5.0)).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("advantage", [Centred(), LeaveOneOut(), Standardised()])
@pytest.mark.parametrize("score", [0.0, 123.4, 1000.1])
@pytest.mark.parametrize("size", [3, 6, 7])
def test_nor_do_those_whose_mean_is_rounded(advantage, score, size):
    # In float32 1000.1 is 1000.09998, and the mean of six of it 1000.10004. Divided by that difference's own
    # standard deviation and 1e-4, each would be -6.1e-5 / (6.7e-5 + 1e-4) = -0.37.
    group = jnp.full((1, size), score)
    assert advantage(group).tolist() == [[0.0] * size]
    assert not has_spread(group).any()


@pytest.mark.parametrize("unit", [1e-30, 1e-5, 1.0, 1e5])
def test_the_unit_of_the_scores_does_not_count(unit):
    assert has_spread(SCORE * unit).all()
    np.testing.assert_allclose(Standardised()(SCORE * unit), Standardised()(SCORE), rtol=1e-5)


def test_rounding_is_no_difference():
    # The number of float32 next to 1000.1 is 6e-5 away; 0.01 is more than rounding.
    assert has_spread(jnp.array([[1000.1, 1000.1 + 6.2e-5], [1000.1, 1000.11]])).tolist() == [[False], [True]]
    assert Standardised()(jnp.array([[1000.1, 1000.1 + 6.2e-5]])).tolist() == [[0.0, 0.0]]


groups = arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


@given(groups)
def test_leave_one_out_is_the_score_less_the_mean_of_the_others(score):
    others = (score.sum(1, keepdims=True) - score) / 3
    np.testing.assert_allclose(LeaveOneOut()(jnp.asarray(score)), score - others, atol=1e-3)


@given(groups, st.floats(-50, 50, width=32))
def test_a_constant_on_a_prompts_scores_changes_nothing(score, constant):
    for advantage in (Centred(), LeaveOneOut()):
        moved = advantage(jnp.asarray(score) + np.float32(constant))
        np.testing.assert_allclose(moved, advantage(jnp.asarray(score)), atol=1e-3)


@pytest.mark.parametrize("advantage", [Standardised(), Centred(), LeaveOneOut()])
def test_a_group_is_what_is_judged_of_it(advantage):
    """1, 2, 3 and 6 have the advantages that they have alone; what is not judged has 0 and moves nothing."""
    alone = advantage(jnp.array([[1.0, 2.0, 3.0, 6.0]]))[0]
    garbage = jnp.array([[1.0, jnp.nan, 2.0, 3.0, -jnp.inf, 6.0], [jnp.nan] * 6, [7.0] + [jnp.nan] * 5])
    judged = jnp.isfinite(garbage)
    found = advantage(garbage, judged)
    np.testing.assert_allclose(found[0, np.array([0, 2, 3, 5])], alone, atol=1e-6)
    np.testing.assert_allclose(found[0, np.array([1, 4])], 0.0, atol=1e-6)
    assert found[1].tolist() == found[2].tolist() == [0.0] * 6  # nobody to compare with
