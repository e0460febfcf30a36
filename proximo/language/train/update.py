"""Epochs of minibatch steps on one batch of responses: what PPO and GRPO share."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from proximo.core import Scalar, masked_mean
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.compiling import jit
from proximo.language.text.packing import shuffled
from proximo.language.train.grpo_options import GRPOOptions
from proximo.language.train.loss import Aggregation, Tokens, token_weights
from proximo.language.train.optimise import Optimisation, compiled_in, descended, rows_of_part
from proximo.language.train.policy import Sequences
from proximo.language.train.ppo_options import SamplingOptions, StepOptions
from proximo.language.train.run_options import RunOptions
from proximo.learn.descend import Adam, Gradient
from proximo.learn.update import State, Task, minibatch_steps


class Batch(NamedTuple):
    """What the update needs of an iteration's responses.

    value   what the critic that learns from the response said before each token; zeros without one
    target  what it is to say; zeros without one
    critic  its number
    """

    sequences: Sequences
    tokens: Tokens
    value: Float[Array, "B T"]
    target: Float[Array, "B T"]
    critic: Int[Array, "B"]


class Options(Protocol):
    """What an update asks of its options."""

    @property
    def steps(self) -> StepOptions: ...
    @property
    def sampling(self) -> SamplingOptions: ...
    @property
    def optimisation(self) -> Optimisation: ...


def compiled_for(options: Any) -> Any:
    """The options with what no computation depends on set aside: runs that differ in it compile once.

    So do runs that differ in a number, which is traced. A price of 0 is none: what it would be paid for is
    not computed.
    """
    none: Any = None
    steps, rewards = options.steps, options.rewards
    free = {"beta": options.beta or none} if isinstance(options, GRPOOptions) else {}
    return replace(
        options,
        data="",
        episodes=1,
        samples_every=1,
        model=ModelOptions(model=""),
        run=RunOptions(),
        rewards=replace(rewards, reward=(), reward_model=(), reward_weights=()),
        steps=replace(steps, entropy_coefficient=steps.entropy_coefficient or none),
        optimisation=compiled_in(options.optimisation),
        **free,
    )


Loss = Callable[..., tuple[Array, dict[str, Array]]]
"""(weights, part, frozen, beta, options, width) -> a part's share of the loss, and of each metric."""


@partial(jit, static_argnames=("loss", "width"))
def update(
    loss: Loss,
    weights: Any,
    moments: Any,
    frozen: Any,
    batch: Batch,
    beta: Scalar,
    rate: Scalar,
    order: Int[Array, "K minibatches rows"],
    options: Options,
    width: int,
    held: Bool[Array, ""] | None = None,
) -> tuple[Any, Any, dict[str, Array]]:
    """Improve a policy on a batch of responses.

    weights, frozen  the policy's trained arrays, and its others
    beta             price of a nat from the reference, where the loss has it
    order            rows of each minibatch (`minibatch_order`)
    width            columns that prompts take
    held             the actor's model is to stay as it is, for the critic to learn alone

    Returns weights and moments after it, and metrics (`summary`).
    """
    steps, lengths = options.steps, batch.sequences.lengths
    part_rows = rows_of_part(order.shape[-1], batch.sequences.ids.shape[1], steps.micro_batch_tokens)
    gradient = jax.grad(partial(loss, frozen=frozen, beta=beta, options=options, width=width), has_aux=True)
    if steps.group_by_length and part_rows < len(lengths):  # all of them are cut to the longest already
        gradient, order = cut_to_length(gradient, width), by_length(order, lengths)

    def prepared(minibatch: Batch) -> tuple[Batch, Array]:
        tokens = shared(minibatch.tokens, steps.aggregation, options.sampling.response_length)
        return minibatch._replace(tokens=tokens), jnp.any(tokens.mask > 0)

    def step_of_adam(
        weights: Any, adam: Adam, gradients: Any, rate: Array, moving: Array
    ) -> tuple[Any, Adam, Array]:
        gradients = hold(held, gradients, _zeros(gradients))
        moved, adam, norm = descended(weights, adam, gradients, rate, moving, options.optimisation)
        return hold(held, moved, weights), adam, norm  # weight decay moves without a gradient

    task = Task(
        rows=lambda weights: batch,
        prepared=prepared,
        gradient=gradient,
        descend=step_of_adam,
        part_rows=part_rows,
        target_kl=steps.target_kl,
        kl="policy/approxkl_avg",
    )
    start = State(weights, moments, jnp.asarray(rate), jnp.zeros((), bool))
    state, history = minibatch_steps(start, order, task)
    return state.weights, state.adam, summary(history)


def hold(held: Bool[Array, ""] | None, new: Any, old: Any) -> Any:
    """A new policy's tree, with the actor of the old one where that is to stay as it is."""
    return (
        new if held is None else with_model(new, jax.tree.map(partial(jnp.where, held), old.model, new.model))
    )


def by_length(
    order: Int[Array, "K minibatches rows"], lengths: Int[Array, "B"]
) -> Int[Array, "K minibatches rows"]:
    """The same minibatches, the rows of each from the shortest response to the longest."""
    return jnp.take_along_axis(order, jnp.argsort(lengths[order], axis=-1), axis=-1)


def cut_to_length(gradient: Gradient, width: int) -> Gradient:
    """The same gradient, of a part's columns up to the longest response in it.

    That is, to all columns, to half or to a quarter of them: computations are compiled for a shape each.

    width  columns that prompts take
    """

    def of_part(weights: Any, part: Batch) -> tuple[Any, dict[str, Array]]:
        all_columns = part.tokens.mask.shape[1]
        columns = sorted({max(-(-all_columns // share), 1) for share in (1, 2, 4)})
        needed = jnp.searchsorted(jnp.array(columns), jnp.max(part.sequences.lengths))
        branches = [lambda weights, part, n=n: gradient(weights, cut(part, width, n)) for n in columns]
        return jax.lax.switch(needed, branches, weights, part)  # type: ignore[no-any-return]

    return of_part


def cut(batch: Batch, width: int, columns: int) -> Batch:
    """The same batch with only the first columns of its responses, which begin after `width` columns."""
    ids = batch.sequences.ids[:, : width + columns]
    tokens, value, target = jax.tree.map(lambda x: x[:, :columns], (batch.tokens, batch.value, batch.target))
    return Batch(batch.sequences._replace(ids=ids), tokens, value, target, batch.critic)


def summary(history: dict[str, Array]) -> dict[str, Array]:
    """The mean of each metric over the steps taken, and the first step's ratio.

    A step none of whose tokens counts (groups that are all equal, responses that are all masked out) is none,
    and says nothing. Its ratio, and that of an iteration of such steps alone, is 1: nothing has moved.

    history  each metric at each step, and `counted`: whether it was taken and any of its tokens counted
    """
    counted, ratio = history["counted"], history["val/ratio"]
    means = {name: masked_mean(x, counted) for name, x in history.items() if name != "counted"}
    means["policy/grad_norm"] = means.pop("grad_norm")
    return means | {
        "val/ratio": jnp.where(jnp.any(counted > 0), means["val/ratio"], 1.0),
        "val/first_ratio": jnp.where(counted[0, 0] > 0, ratio[0, 0], 1.0),
    }


def shared(tokens: Tokens, aggregation: Aggregation, longest: int) -> Tokens:
    """A minibatch's tokens with their shares in its loss and its metrics. Arguments as of `token_weights`."""
    weight, share = (token_weights(tokens.mask, by, longest) for by in (aggregation, "tokens"))
    return tokens._replace(weight=weight, share=share)


def minibatch_order(
    seed: int, number: int, steps: StepOptions, rows: int
) -> Int[np.ndarray, "K minibatches rows"]:
    """The rows of each minibatch of iteration `number`: every epoch is a new order of all."""
    epochs = [shuffled(seed, number * steps.epochs + epoch, rows) for epoch in range(steps.epochs)]
    return np.stack(epochs).reshape(steps.epochs, steps.minibatches, -1).astype(np.int32)


def with_model(policy: Any, model: Any) -> Any:
    """A policy's tree with another actor in it."""
    return eqx.tree_at(lambda tree: tree.model, policy, model)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
