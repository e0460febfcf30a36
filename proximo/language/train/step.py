"""One gradient step on a labelled batch: what fine-tuning, reward models and DPO have in common."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from proximo.core import Scalar
from proximo.language.files.loading import assembled
from proximo.language.model.compiling import jit
from proximo.language.train.optimise import Optimisation, compiled_in, descended, in_precision, rate_at
from proximo.learn.descend import adam, in_parts
from proximo.learn.update import State, Task, minibatch_step

PartLoss = Callable[[Any, Any], tuple[Array, dict[str, Array]]]
"""(model, some rows) -> their share of the batch's loss, and of its facts. A tree with traced numbers."""


class Learner(NamedTuple):
    """All that learning changes: the trained arrays, and Adam's moments of them."""

    weights: Any
    moments: Any


def begun(weights: Any, options: Optimisation) -> Learner:
    """Before the first step."""
    # An array made from a plain number has a weak type; after a step it would have none, and compile anew.
    weights = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), weights)
    return Learner(weights, adam(weights))


def stepped(
    learner: Learner, frozen: Any, batch: Any, done: float, loss: PartLoss, options: Optimisation, rows: int
) -> tuple[Learner, dict[str, np.ndarray]]:
    """The learner after one step down the loss of a batch, and the batch's facts, on the host.

    frozen  what does not learn, as `split` gives it
    batch   a tree of arrays [B, ...]
    done    share of the run that is behind us, as `middle` says
    rows    that go through the model at once; the gradient does not depend on it
    """
    rate = rate_at(options, done)
    learner, facts = _stepped(learner, frozen, batch, rate, loss, compiled_in(options), rows)
    return learner, dict(jax.device_get({**facts, "learning_rate": rate}))


@partial(jit, static_argnames="rows")
def _stepped(
    learner: Learner, frozen: Any, batch: Any, rate: Scalar, loss: PartLoss, options: Optimisation, rows: int
) -> tuple[Learner, dict[str, Array]]:
    def share(weights: Any, part: Any) -> tuple[Array, dict[str, Array]]:
        return loss(in_precision(assembled(weights, frozen), options), part)

    task = Task(
        rows=lambda weights: batch,
        prepared=lambda batch: (batch, jnp.ones((), bool)),  # weighted where it was made
        gradient=jax.grad(share, has_aux=True),
        descend=partial(descended, options=options),
        part_rows=rows,
    )
    state = State(learner.weights, learner.moments, jnp.asarray(rate), jnp.zeros((), bool))
    state, facts = minibatch_step(state, batch, task)
    del facts["counted"]
    return Learner(state.weights, state.adam), facts


def measured(
    weights: Any, frozen: Any, batch: Any, loss: PartLoss, options: Optimisation, rows: int
) -> dict[str, np.ndarray]:
    """The facts of a batch, without a step, on the host. Arguments as of `stepped`."""
    return dict(jax.device_get(_measured(weights, frozen, batch, loss, compiled_in(options), rows)))


@partial(jit, static_argnames="rows")
def _measured(
    weights: Any, frozen: Any, batch: Any, loss: PartLoss, options: Optimisation, rows: int
) -> dict[str, Array]:
    model = in_precision(assembled(weights, frozen), options)
    shares = jax.lax.map(lambda part: loss(model, part)[1], in_parts(batch, rows))
    summed: dict[str, Array] = jax.tree.map(lambda x: x.sum(axis=0), shares)
    return summed


def middle(number: int, total: int) -> float:
    """The share of the run at the middle of iteration `number`, where the schedule of rates is read.

    At its beginning a warm-up still has a rate of 0, so that the first step, or the only one, did nothing.
    """
    return (number + 0.5) / total


def epoch_ends(number: int, rows: int, count: int, total: int) -> bool:
    """Whether iteration `number`, of `total`, is the last or completes a pass over the data.

    rows   of an iteration
    count  rows of the data
    """
    return number + 1 == total or (number + 1) * rows // count > number * rows // count
