"""Steps that stay within a bound on KL(old || new): natural gradients, line search, and two related rules.

What TRPO needs, PPO's ancestor and baseline (Schulman 2015, arXiv 1502.05477, appendix C), on flat
vectors of P parameters. All gradients are of an objective to MAXIMISE, so every step points uphill.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from proximo.core.arrays import Scalar

Product: TypeAlias = Callable[[Float[Array, " P"]], Float[Array, " P"]]
"""v -> F v, for a symmetric positive definite matrix F that is never written out."""

Evaluation: TypeAlias = tuple[Float[Array, ""], Float[Array, ""]]
"""The surrogate objective and the mean KL(old || new) at some parameters."""


class _Solution(NamedTuple):
    x: Float[Array, " P"]
    residual: Float[Array, " P"]
    direction: Float[Array, " P"]
    squared: Float[Array, ""]
    iteration: Int[Array, ""]


def conjugate_gradient(
    product: Product, target: Float[Array, " P"], iterations: int = 10, tolerance: Scalar = 1e-10
) -> Float[Array, " P"]:
    """Solves F x = target with no more of F than its products.

    Hestenes and Stiefel 1952, eq. 3:1, from x = 0, r = p = target:

        a = |r|^2 / p.F p,    x' = x + a p,    r' = r - a F p,    p' = r' + (|r'|^2 / |r|^2) p

    Exact, to rounding, after P iterations; 10 suffice for a step of TRPO (Schulman 2015, appendix C.1).
    F = [[4, 1], [1, 3]] and target [1, 2]: x is [0.25, 0.5] after one, [1/11, 7/11] after two.

    product     v -> F v, with F symmetric and positive definite
    target      [P], any unit
    iterations  at most this many products
    tolerance   of |r|^2, in units of the target squared: once reached, x moves no more
    returns     x [P], units of the target over those of F; NaN where the target holds NaN

    Raises nothing.
    """

    def unfinished(now: _Solution) -> Bool[Array, ""]:
        # Not "squared > tolerance": NaN must go on and be seen, not look like a solution.
        return (now.iteration < iterations) & ~(now.squared <= tolerance)

    def iterate(now: _Solution) -> _Solution:
        curved = product(now.direction)
        length = now.squared / (now.direction @ curved)
        residual = now.residual - length * curved
        squared = residual @ residual
        return _Solution(
            x=now.x + length * now.direction,
            residual=residual,
            direction=residual + squared / now.squared * now.direction,
            squared=squared,
            iteration=now.iteration + 1,
        )

    start = _Solution(jnp.zeros_like(target), target, target, target @ target, jnp.int32(0))
    return jax.lax.while_loop(unfinished, iterate, start).x


def fisher_product(
    kl: Callable[[Float[Array, " P"]], Float[Array, ""]], parameters: Float[Array, " P"], damping: Scalar
) -> Product:
    """Products with the Fisher matrix of the policy, damped.

    Schulman 2015, appendix C:  v -> (F + damping I) v,   F the Hessian of mean KL(old || new) at old

    There it equals E[score score^T], without sampling the score. The forward pass and its gradient are
    worked out once, here; each product costs only their linear part.

    kl          parameters -> mean KL(old || new) over the batch, in nats, with `old` held constant
    parameters  [P], those of the old policy
    damping     keeps F positive definite, in nats over units of the parameters squared; theirs is 0.1
    returns     a function of v [P]

    Raises nothing.
    """
    _, curved = jax.linearize(jax.grad(kl), parameters)

    def product(v: Float[Array, " P"]) -> Float[Array, " P"]:
        return jnp.asarray(curved(v)) + damping * v

    return product


def natural_gradient(
    gradient: Float[Array, " P"], product: Product, max_kl: Scalar, iterations: int
) -> Float[Array, " P"]:
    """The uphill step that gains most, to first order, among those whose KL is `max_kl`, to second order.

    Kakade 2001 (direction); Schulman 2015, appendix C (length):

        x = F^-1 g,    step = sqrt(2 max_kl / x.F x) x

    We depart in one thing: g is first brought to length 1, which changes nothing but the meaning of
    the solver's tolerance. So a gradient of any size gives the same step.

    gradient    [P], of the surrogate
    product     v -> F v, damping included: `fisher_product`
    max_kl      in nats; Schulman 2015 has 0.01
    iterations  of `conjugate_gradient`; 10 is usual
    returns     step [P], units of the parameters; 0 where the gradient is 0, NaN where it holds NaN

    Raises nothing.
    """
    length = jnp.linalg.norm(gradient)
    x = conjugate_gradient(product, gradient / jnp.where(length == 0, 1.0, length), iterations)
    curvature = x @ product(x)
    # Also where rounding has made F indefinite: better no step than the root of a negative number.
    flat = curvature <= 0
    return jnp.where(flat, 0.0, jnp.sqrt(2.0 * max_kl / jnp.where(flat, 1.0, curvature)) * x)


class LineSearch(NamedTuple):
    """Where a line search ended.

    parameters   [P]  the new ones, or the old ones bit for bit where no step was good
    accepted     []   whether a step was taken
    backtracks   []   how often the step was shortened
    kl           []   mean KL(old || new) at `parameters`, in nats
    improvement  []   gain of the surrogate at `parameters`; 0 where no step was taken
    """

    parameters: Float[Array, " P"]
    accepted: Bool[Array, ""]
    backtracks: Int[Array, ""]
    kl: Float[Array, ""]
    improvement: Float[Array, ""]


def line_search(
    evaluate: Callable[[Float[Array, " P"]], Evaluation],
    parameters: Float[Array, " P"],
    step: Float[Array, " P"],
    max_kl: Scalar,
    shrink: Scalar = 0.8,
    backtracks: int = 10,
) -> LineSearch:
    """The longest of ever shorter steps that gains something and keeps the bound.

    Schulman 2015, appendix C: the first of  parameters + shrink^k step,  k = 0, 1, ..., with
    KL <= max_kl and a surrogate above that at `parameters`.

    A natural gradient lies on the bound to second order, so a full step often misses it by a hair: 0.8
    then gives up a third of the KL, where 0.5 would give up three quarters. NaN in either number counts
    as a failure. Nothing is evaluated beyond the first success.

    evaluate    parameters -> surrogate (any unit), mean KL(old || new) (nats)
    parameters  [P], those of the old policy
    step        [P], uphill: `natural_gradient`
    max_kl      in nats, as for the step
    shrink      in (0, 1), what a backtrack multiplies the step with
    backtracks  the most of them, after the full step
    returns     see `LineSearch`

    Raises nothing; ranges are checked where options are read.
    """
    before, kl_before = evaluate(parameters)

    def unfinished(last: LineSearch) -> Bool[Array, ""]:
        return ~last.accepted & (last.backtracks < backtracks)

    def attempt(last: LineSearch) -> LineSearch:
        number = last.backtracks + 1
        candidate = parameters + shrink**number * step
        surrogate, kl = evaluate(candidate)
        return LineSearch(candidate, (kl <= max_kl) & (surrogate > before), number, kl, surrogate - before)

    # The full step is backtrack 0, so before it there have been -1.
    start = LineSearch(parameters, jnp.array(False), jnp.int32(-1), kl_before, jnp.zeros_like(before))
    last = jax.lax.while_loop(unfinished, attempt, start)
    # The originals themselves, not `parameters + 0 * step`, which is NaN for a step that holds NaN.
    kept = jax.tree.map(lambda new, old: jnp.where(last.accepted, new, old), last, start)
    return LineSearch(kept.parameters, last.accepted, last.backtracks, kept.kl, kept.improvement)


def projected_gradient(
    gradient: Float[Array, "*shape D"], kl_gradient: Float[Array, "*shape D"], limit: Scalar
) -> Float[Array, "*shape D"]:
    """The nearest gradient that raises the divergence from an average policy by no more than `limit`.

    Wang 2016 (ACER, arXiv 1611.01224), eq. 12, row by row:  z = g - max(0, (k.g - limit) / |k|^2) k

    Both gradients are with respect to what the network puts out for one observation (logits, or mean
    and spread), not its parameters: that is what makes it cheap. g = [1, 2], k = [3, 4], limit 1:
    z = g - (11 - 1) / 25 k = [-0.2, 0.4], and k.z = 1.

    gradient     [..., D], g, of the objective to maximise
    kl_gradient  [..., D], k, of KL(average || new); where it is 0, g comes back as it is
    limit        the most that k.z may be; not negative; ACER's is 1
    returns      z [..., D], units of the gradient

    Raises nothing; ranges are checked where options are read.
    """
    excess = jnp.maximum(jnp.sum(kl_gradient * gradient, axis=-1, keepdims=True) - limit, 0.0)
    squared = jnp.sum(jnp.square(kl_gradient), axis=-1, keepdims=True)
    return gradient - excess / jnp.where(squared > 0, squared, 1.0) * kl_gradient


def adapted_rate(
    rate: Scalar,
    kl: Scalar,
    target: Scalar,
    factor: Scalar = 1.5,
    lowest: Scalar = 1e-5,
    highest: Scalar = 1e-2,
) -> Float[Array, ""]:
    """The learning rate of the next update, after what this one did to the policy.

    Schulman 2017, table 4, says only that it "was adjusted based on the target value of the KL
    divergence". The rule and its numbers are those of rsl_rl:

        rate / factor if kl > 2 target,    rate factor if kl < target / 2,    rate otherwise

    We depart where the KL is 0: there rsl_rl keeps the rate, and here it grows as for any small KL.

    rate             now, units of the optimiser
    kl               mean KL(old || new) of this update, in nats; NaN leaves the rate
    target           of the KL, in nats; rsl_rl's is 0.01
    factor           above 1, without unit
    lowest, highest  bounds of the result, units of the optimiser
    returns          one number, units of the optimiser

    Raises nothing; ranges are checked where options are read.
    """
    change = jnp.where(kl > 2.0 * target, 1.0 / factor, jnp.where(kl < target / 2.0, factor, 1.0))
    return jnp.clip(rate * change, lowest, highest)
