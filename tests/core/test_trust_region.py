"""What a step within a trust region is: its direction, its length, and when it is not taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proximo.core.divergence import categorical_kl
from proximo.core.trust_region import (
    adapted_rate,
    conjugate_gradient,
    fisher_product,
    line_search,
    natural_gradient,
    projected_gradient,
)

FEATURES, CHOICES, DAMPING = 3, 3, 0.1
seeds = st.integers(0, 10_000)


def vector(*numbers):
    return jnp.array(numbers, dtype=jnp.float32)


def times(*rows):
    return lambda v: jnp.array(rows, dtype=jnp.float32) @ v


# ---- a small policy: its KL, and its Fisher matrix from the scores alone


def softmax_kl(parameters, old, obs):
    return jnp.mean(categorical_kl(*(obs @ p.reshape(FEATURES, CHOICES) for p in (old, parameters))))


def dense_fisher(parameters, obs):
    """E[score score^T] + damping I, summed over every action, in float64."""
    odds = np.exp(obs @ parameters.reshape(FEATURES, CHOICES))
    fisher = DAMPING * np.eye(FEATURES * CHOICES)
    for row, probability in zip(obs, odds / odds.sum(axis=1, keepdims=True), strict=True):
        for action, p in enumerate(probability):
            score = np.outer(row, np.eye(CHOICES)[action] - probability).ravel()
            fisher += p * np.outer(score, score) / len(obs)
    return fisher


def problem(seed):
    """Parameters, observations, a gradient."""
    draw = np.random.default_rng(seed)
    shapes = FEATURES * CHOICES, (6, FEATURES), FEATURES * CHOICES
    return [jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes]


@jax.jit  # once, so that thirty examples cost no more than one
def step_of(parameters, obs, gradient, max_kl):
    product = fisher_product(lambda p: softmax_kl(p, parameters, obs), parameters, DAMPING)
    return natural_gradient(gradient, product, max_kl, 2 * FEATURES * CHOICES)


@jax.jit
def update(parameters, obs, goal, max_kl, shrink, stretch):
    """A whole update towards higher sines; a step that is stretched beyond the bound has to be cut."""

    def evaluate(p):
        return jnp.sum(jnp.sin(goal * p)), softmax_kl(p, parameters, obs)

    step = stretch * step_of(parameters, obs, jax.grad(lambda p: evaluate(p)[0])(parameters), max_kl)
    return line_search(evaluate, parameters, step, max_kl, shrink)


# ---- conjugate gradients


@partial(jax.jit, static_argnums=2)
def solve(matrix, target, iterations):
    return conjugate_gradient(lambda v: matrix @ v, target, iterations)


def test_conjugate_gradient_by_hand():
    product, target = times([4, 1], [1, 3]), vector(1, 2)
    # r = p = [1, 2]    F p = [6, 7]    a = 5 / 20         x = [0.25, 0.5]    r = [-0.5, 0.25]
    np.testing.assert_allclose(conjugate_gradient(product, target, 1), [0.25, 0.5], rtol=1e-6)
    # two dimensions, two iterations: [4 + 7, 1 + 21] / 11 = [1, 2]
    np.testing.assert_allclose(conjugate_gradient(product, target, 2), [1 / 11, 7 / 11], rtol=1e-6)
    # It stops at the tolerance: |r|^2 is 5 at first, 0.5^2 + 0.25^2 = 0.3125 after one iteration.
    for tolerance, x in ((5.1, [0, 0]), (0.32, [0.25, 0.5]), (0.31, [1 / 11, 7 / 11])):
        np.testing.assert_allclose(conjugate_gradient(product, target, 9, tolerance), x, rtol=1e-6)


@given(seeds, st.sampled_from([1, 2, 8]))
def test_a_system_of_size_n_is_solved_in_n_iterations(seed, size):
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(size, size))
    matrix, target = root @ root.T / size + np.eye(size), draw.normal(size=size)
    solution = solve(jnp.asarray(matrix, jnp.float32), jnp.asarray(target, jnp.float32), size)
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, target), atol=2e-4)


def test_nothing_moves_once_the_solution_is_exact():
    # F = 4 I is solved in one iteration without a rounding error; the next would divide 0 by 0.
    for tolerance in (0.0, 1e-10):
        assert conjugate_gradient(lambda v: 4 * v, vector(4, 8), 20, tolerance).tolist() == [1, 2]
        assert conjugate_gradient(lambda v: 4 * v, vector(0, 0), 20, tolerance).tolist() == [0, 0]
    # What is not a number is not solved, and does not look solved.
    assert np.isnan(conjugate_gradient(lambda v: v, vector(1, np.nan))).all()


# ---- Fisher products, and the natural gradient that solves them


def test_fisher_product_by_hand():
    calls = []

    def kl(v):  # p^2 + 3 p q + 5 q^2 has the Hessian [[2, 3], [3, 10]], wherever it is taken
        calls.append(v)
        return v[0] ** 2 + 3 * v[0] * v[1] + 5 * v[1] ** 2

    product = fisher_product(kl, vector(7, -7), 0.5)
    forward_passes = len(calls)
    # [2 + 6, 3 + 20] + 0.5 [1, 2] = [8.5, 24]
    np.testing.assert_allclose(product(vector(1, 2)), [8.5, 24.0], rtol=1e-6)
    np.testing.assert_allclose(product(vector(1, 0)), [2.5, 3.0], rtol=1e-6)
    assert len(calls) == forward_passes  # done once, for all products


def test_the_hessian_of_the_kl_is_the_mean_outer_product_of_the_score():
    parameters, obs, _ = problem(0)
    product = fisher_product(lambda p: softmax_kl(p, parameters, obs), parameters, DAMPING)
    np.testing.assert_allclose(
        jax.vmap(product)(jnp.eye(parameters.size)), dense_fisher(parameters, obs), atol=1e-5
    )


def test_natural_gradient_by_hand():
    # x = [2 / 2, 8 / 8] = [1, 1]    x.F x = 10    sqrt(2 * 0.05 / 10) = 0.1    (0.02 + 0.08) / 2 = 0.05
    step = natural_gradient(vector(2, 8), times([2, 0], [0, 8]), 0.05, 10)
    np.testing.assert_allclose(step, [0.1, 0.1], rtol=1e-5)


@given(seeds, st.sampled_from([1e-3, 0.01, 0.1]))
def test_the_step_is_that_of_the_dense_matrix(seed, max_kl):
    parameters, obs, gradient = problem(seed)
    matrix, step = dense_fisher(parameters, obs), np.asarray(step_of(parameters, obs, gradient, max_kl))
    x, length = np.linalg.solve(matrix, gradient), np.linalg.norm(step)
    np.testing.assert_allclose(step, x * length / np.linalg.norm(x), atol=1e-3 * length)
    np.testing.assert_allclose(0.5 * step @ matrix @ step, max_kl, rtol=1e-3)


@given(seeds, st.sampled_from([1e-12, 1e-6, 1e6]))
def test_the_size_of_the_gradient_does_not_matter(seed, size):
    # Were it not brought to length 1, a gradient of 1e-6 would pass for solved: 1e-12 < 1e-10.
    parameters, obs, gradient = problem(seed)
    step, same = (step_of(parameters, obs, scale * gradient, 0.01) for scale in (1.0, size))
    np.testing.assert_allclose(same, step, atol=1e-3 * jnp.linalg.norm(step))
    assert step @ gradient > 0  # uphill


def test_no_gradient_no_step():
    product = times([2, 0], [0, 8])
    np.testing.assert_array_equal(natural_gradient(vector(0, 0), product, 0.05, 10), [0.0, 0.0])
    np.testing.assert_array_equal(natural_gradient(vector(1, 2), lambda v: -v, 0.05, 10), [0.0, 0.0])
    assert np.isnan(natural_gradient(vector(1, np.nan), product, 0.05, 10)).all()


# ---- line search


def parabola(p):
    """Surrogate p and KL (p - 1)^2 around p = 1: the further, the better and the dearer."""
    return p[0], jnp.square(p[0] - 1.0)


@pytest.mark.parametrize(
    ("evaluate", "max_kl", "backtracks", "kl", "improvement"),
    [
        (parabola, 1.0, 0, 1.0, 1.0),  # whole: on the bound is within it
        (parabola, 0.1, 2, 0.0625, 0.25),  # too far twice: KL 1, 0.25, 0.0625
        # worse once, though the KL is fine: with d = p - 1, d - 1.5 d^2 is 1 - 1.5 < 0, 0.5 - 0.375
        (lambda p: (p[0] - 1.5 * (p[0] - 1.0) ** 2, jnp.zeros(())), 0.1, 1, 0.0, 0.125),
        # NaN in either is a failure
        (lambda p: (jnp.where(p[0] > 1.3, jnp.nan, p[0]), jnp.zeros(())), 0.1, 2, 0.0, 0.25),
        (lambda p: (p[0], jnp.where(p[0] > 1.3, jnp.nan, 0.0)), 0.1, 2, 0.0, 0.25),
    ],
)
def test_line_search_by_hand(evaluate, max_kl, backtracks, kl, improvement):
    # From 1 with a step of 1, halved: 2, 1.5, 1.25
    found = line_search(evaluate, vector(1), vector(1), max_kl, shrink=0.5)
    assert found.accepted and found.backtracks == backtracks
    assert (found.parameters[0], found.kl, found.improvement) == (1 + 0.5**backtracks, kl, improvement)


def test_it_shortens_ten_times_by_a_fifth_unless_told_otherwise():
    # 0.8^10 = 0.107374 has a KL of 0.011529; 0.8^9 = 0.134218 has 0.018014
    found = line_search(parabola, vector(1), vector(1), 0.0116)
    assert found.accepted and found.backtracks == 10
    assert not line_search(parabola, vector(1), vector(1), 0.0115).accepted


AWKWARD = vector(0.1, -0.0, 1e-40, 3e30, -7.0)
FAILURES = {
    "downhill": lambda p: (-jnp.sum(p / 1e30), jnp.zeros(())),
    "too far": lambda p: (jnp.sum(p / 1e30), jnp.where(jnp.all(p == AWKWARD), 0.0, 1.0)),
    "nothing gained": lambda p: (jnp.ones(()), jnp.zeros(())),
    "surrogate NaN": lambda p: (jnp.where(jnp.all(p == AWKWARD), 0.0, jnp.nan), jnp.zeros(())),
    "divergence NaN": lambda p: (jnp.sum(p / 1e30), jnp.where(jnp.all(p == AWKWARD), 0.0, jnp.nan)),
    "NaN from the start": lambda p: (jnp.full((), jnp.nan), jnp.zeros(())),
}


@pytest.mark.parametrize(("length", "compiled"), [(1e30, False), (1e30, True), (jnp.nan, True)])
@pytest.mark.parametrize("evaluate", FAILURES.values(), ids=FAILURES)
def test_without_a_good_step_the_old_parameters_stay_bit_for_bit(evaluate, length, compiled):
    search = partial(line_search, evaluate, max_kl=0.01, backtracks=4)
    found = (jax.jit(search) if compiled else search)(AWKWARD, jnp.full(5, length))
    assert not found.accepted and found.backtracks == 4
    assert np.array_equal(found.parameters, AWKWARD)
    assert np.asarray(found.parameters).tobytes() == np.asarray(AWKWARD).tobytes()  # -0 is not 0
    assert (found.kl, found.improvement) == (0.0, 0.0)


def test_nothing_is_evaluated_after_the_first_success():
    tried = []
    with jax.disable_jit():
        line_search(lambda p: tried.append(float(p[0])) or parabola(p), vector(1), vector(1), 0.1, 0.5)
    assert tried == [1.0, 2.0, 1.5, 1.25]


@given(seeds, st.sampled_from([1e-3, 0.01, 0.1]))
def test_a_whole_update_gains_and_keeps_the_bound(seed, max_kl):
    parameters, obs, goal = problem(seed)
    found = update(parameters, obs, goal, max_kl, 0.8, 1.0)
    assert found.accepted and softmax_kl(found.parameters, parameters, obs) <= 1.001 * max_kl
    assert jnp.sum(jnp.sin(goal * found.parameters)) > jnp.sum(jnp.sin(goal * parameters))


def test_members_search_each_on_its_own():
    data = problem(0)
    options = vector(0.001, 0.01, 0.1), vector(0.5, 0.8, 0.9), vector(1.0, 4.0, 8.0)
    members = jax.vmap(partial(update, *data))(*options)
    assert members.accepted.all() and len(set(members.backtracks.tolist())) == 3
    for index, option in enumerate(zip(*options, strict=True)):
        alone = update(*data, *option)
        assert members.backtracks[index] == alone.backtracks
        np.testing.assert_allclose(members.parameters[index], alone.parameters, rtol=1e-4, atol=1e-5)


# ---- ACER's projection


def test_projected_gradient_by_hand():
    g, k = vector(1, 2), vector(3, 4)
    # k.g = 11, |k|^2 = 25.  Limit 1: (11 - 1) / 25 = 0.4, z = [1 - 1.2, 2 - 1.6], and k.z = -0.6 + 1.6 = 1
    np.testing.assert_allclose(projected_gradient(g, k, 1.0), [-0.2, 0.4], rtol=1e-5)
    # Nothing is taken away where the limit is 11 or more, where the gradient brings the policies together,
    # and where the divergence is flat (0 / 0 is not a number).
    for away, limit in ((k, 11.0), (k, 20.0), (-k, 1.0), (0 * k, 0.0)):
        np.testing.assert_array_equal(projected_gradient(g, away, limit), g)


@given(seeds, st.sampled_from([0.0, 0.5, 2.0]))
def test_every_row_keeps_the_limit_on_its_own(seed, limit):
    draw = np.random.default_rng(seed)
    g, k = (jnp.asarray(draw.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    z = jax.jit(projected_gradient)(g, k, limit)
    assert (jnp.sum(k * z, axis=-1) <= limit + 1e-4).all()
    rows = jax.vmap(jax.vmap(lambda g, k: projected_gradient(g, k, limit)))(g, k)
    np.testing.assert_allclose(z, rows, atol=1e-5)


# ---- a rate that follows the divergence


@pytest.mark.parametrize("compiled", [False, True])
def test_adapted_rate_by_hand(compiled):
    adapt = jax.jit(adapted_rate) if compiled else adapted_rate
    for kl, change in [
        (0.0, 1.5),
        (0.0049, 1.5),
        (0.0051, 1),
        (0.0199, 1),
        (0.0201, 1 / 1.5),
        (1.0, 1 / 1.5),
    ]:
        # grows below 0.01 / 2, shrinks above 2 * 0.01
        np.testing.assert_allclose(adapt(1e-3, kl, 0.01), 1e-3 * change, rtol=1e-6)
    np.testing.assert_allclose(adapt(1e-3, np.nan, 0.01), 1e-3, rtol=1e-6)


def test_the_rate_has_bounds_and_can_differ_between_members():
    # 1.2e-5 / 1.5 = 8e-6 is too low, 9e-3 * 1.5 = 0.0135 too high.
    np.testing.assert_allclose(adapted_rate(1.2e-5, 1.0, 0.01), 1e-5, rtol=1e-6)
    np.testing.assert_allclose(adapted_rate(9e-3, 0.0, 0.01), 1e-2, rtol=1e-6)
    np.testing.assert_allclose(adapted_rate(1.0, 0.0, 0.01, factor=3.0, lowest=2.0, highest=4.0), 3.0)
    members = jax.vmap(adapted_rate, in_axes=(0, 0, None))(vector(1e-3, 2e-3), vector(1.0, 0.0), 0.01)
    np.testing.assert_allclose(members, [1e-3 / 1.5, 3e-3], rtol=1e-6)
