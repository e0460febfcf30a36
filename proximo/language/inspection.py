"""An iteration of a run of `lm ppo` or `lm grpo`, made again to be looked at; and what might have been."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from proximo.errors import UserError
from proximo.language.running import SAMPLING, load_state, read_config, rebuilt
from proximo.language.train.job import training
from proximo.language.train.microscope import Epoch, Ledger, ledger, replay
from proximo.language.train.optimise import in_precision
from proximo.language.train.rollout import Rollout
from proximo.language.train.sampling import (
    Method,
    SamplingTrainer,
    minibatch_order,
    update,
    update_options,
)
from proximo.learn.mesh import mesh_of
from proximo.options import with_options
from proximo.runs.checkpoints import newest_valid, newest_where
from proximo.runs.files import MODEL
from proximo.runs.logs import compare

LOGGED = ("policy/approxkl_avg", "policy/grad_norm", "loss/policy_avg", "objective/scores")


class Moment(NamedTuple):
    """A run just before one of its updates, with the responses that it learns from.

    number     of the update, from 1
    rollout    prompts, responses, scores
    arguments  of `sampling.update`
    ledger     what every token was paid
    same       how it compares with what the run has logged, as `compare` says
    """

    trainer: SamplingTrainer
    options: Method
    number: int
    rollout: Rollout
    arguments: tuple[Any, ...]
    ledger: Ledger
    same: str


class Variant(NamedTuple):
    """An update on a moment's responses, epoch by epoch, and the scores of its policy's own responses."""

    changes: str
    options: Method
    epochs: list[Epoch]
    scores: np.ndarray | None


class Plan(NamedTuple):
    """How an update of a run is reached.

    number  of the update, from 1
    state   of the newest checkpoint before it; None for the run's beginning
    done    iterations done by then
    """

    run: Path
    trainer: SamplingTrainer
    options: Method
    number: int
    state: Any
    done: int


def plan(run: Path, number: int | None = None, names: Sequence[str] = ()) -> Plan:
    """How an update of a run is reached.

    number  of the update, from 1; by default the first after the newest checkpoint that is not the run's
            end, or, where there is none, the one in the run's middle
    names   its reward functions, as they were given to it: run files never import code

    Raises UserError where there is no such update, and for runs that sample no responses.
    """
    command = read_config(run)["command"]
    if command not in SAMPLING:
        raise UserError(f"{run} is a run of `proximo lm {command}`: only ppo and grpo can be inspected")
    options, trainer = rebuilt(command, run, names)
    if mesh_of(options.model.mesh) is not None:
        raise UserError("a run on several devices cannot be inspected")
    if number is not None and not 1 <= number <= trainer.total:
        raise UserError(f"update is {number}: the run has {trainer.total}, from 1")
    load = partial(load_state, jax.eval_shape(trainer.begin))
    _, (_, newest) = newest_valid(run, load)
    ended = (run / MODEL).is_dir()
    if number is not None and ended and number > newest:
        raise UserError(f"{run} ends with update {newest}: there is no update {number}")

    def before(content: tuple[Any, int]) -> bool:
        if number is not None:
            return content[1] < number
        return content[1] < (newest if ended else trainer.total)

    found = newest_where(run, load, before)
    state, done = (None, 0) if found is None else found
    if number is None:
        number = max(1, newest // 2) if found is None else done + 1
    return Plan(run, trainer, options, number, state, done)


def moment_of(plan: Plan) -> Moment:
    """A run just before an update, with the responses that it learns from."""
    trainer, state = plan.trainer, plan.state
    for iteration in training(trainer, state, plan.done) if plan.done < plan.number - 1 else ():
        state = iteration.state
        if iteration.number == plan.number - 1:
            break
    state = trainer.begin() if state is None else state
    rollout, arguments = trainer.before_update(state, plan.number - 1)
    _, metrics = update(*arguments)
    found = {name: float(metrics[name]) for name in LOGGED if name in metrics}
    return Moment(
        trainer,
        plan.options,
        plan.number,
        rollout,
        arguments,
        jax.device_get(ledger(*arguments)),
        compare(plan.run, "step", plan.number, found),
    )


def changed(options: Method, changes: Mapping[str, Any]) -> Method:
    """The run's options with other ones of its update. Raises UserError for what does not fit together."""
    found: Method = with_options(options, **changes)
    rows, count = options.sampling.batch_size * options.sampling.samples, found.steps.minibatches
    if rows % count:
        raise UserError(f"minibatches is {count}: it must divide the {rows} responses of an iteration")
    return found


def variant(moment: Moment, changes: str, options: Method, responses: int) -> Variant:
    """An update on the moment's responses with other options, and how its policy's own responses score.

    responses  to be sampled and scored, rounded up to whole batches; 0 for none
    """
    learner, experience, _, remaining, frozen = moment.arguments
    order = minibatch_order(options.run.seed, moment.number - 1, options.steps, moment.trainer.rows)
    experience = experience._replace(order=jnp.asarray(order))
    epochs = list(replay(learner, experience, update_options(options), remaining, frozen))
    return Variant(changes, options, epochs, scores_of(moment, epochs[-1].weights, responses))


def scores_of(moment: Moment, weights: Any, responses: int) -> np.ndarray | None:
    """Scores of a policy's responses to prompts, the same prompts and the same noise for every policy.

    responses  rounded up to whole batches; None is returned for 0
    """
    if not responses:
        return None
    trainer = moment.trainer
    model = in_precision(eqx.combine(weights, trainer.frozen).model, moment.options.optimisation)
    # Iterations after the run's last one: prompts in an order that it has not had, and noise of their own.
    batches = range(trainer.total, trainer.total + -(-responses // trainer.rows))
    return np.concatenate([trainer.rollouts.collect(model, number).score for number in batches])
