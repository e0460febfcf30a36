"""An update of a finished or interrupted run, made again to be looked at; and what might have been."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from proximo.control.agent import Agent
from proximo.control.config import Config, validate
from proximo.control.evaluate import Evaluation, evaluate
from proximo.control.files import load_checkpoint, with_source
from proximo.control.iteration import Snapshot
from proximo.control.learner import scheduled
from proximo.control.resume import where_it_was
from proximo.control.train import begin
from proximo.core.types import Experience
from proximo.errors import EpisodesRestarted, UserError
from proximo.learn.microscope import Epoch, replay
from proximo.learn.update import Learner, update
from proximo.options import with_options
from proximo.runs.checkpoints import newest_valid, newest_where
from proximo.runs.files import MODEL
from proximo.runs.kinds import check_is_policy
from proximo.runs.logs import compare

LOGGED = ("train/loss", "train/approx_kl", "train/grad_norm", "train/parameter_norm")


class Moment(NamedTuple):
    """A run just before one of its updates, with the rollout that it learns from.

    number      of the update, from 1
    steps       environment steps, with this rollout
    remaining   the share of the training that was left
    same        how it compares with what the run has logged, as `compare` says
    fresh       why the rollout is a new one, and not the run's; None if it is the run's
    agent       the policy that collected the rollout
    """

    config: Config
    number: int
    steps: int
    learner: Learner
    experience: Experience
    remaining: float
    same: str
    fresh: str | None
    agent: Agent


class Variant(NamedTuple):
    """An update of a moment's rollout, epoch by epoch, and the policy that it ends with.

    changes  options that differ from the run's, as they were typed; "" for the run's own update
    returns  of full episodes with that policy; None where nothing was played
    """

    changes: str
    config: Config
    epochs: list[Epoch]
    returns: Evaluation | None


class Plan(NamedTuple):
    """How an update of a run is reached.

    number  of the update, from 1
    start   the newest snapshot before it; None for the run's beginning
    agent   of the run
    """

    run: Path
    config: Config
    number: int
    start: Snapshot | None
    agent: Agent

    @property
    def updates_before(self) -> int:
        """Updates to be made again first."""
        return self.number - 1 - (0 if self.start is None else self.start.number)


def plan(run: Path, number: int | None = None, own: Mapping[str, Any] | None = None) -> Plan:
    """How an update of a run is reached; nothing is computed yet.

    number  of the update, from 1; by default the first after the newest checkpoint that is not the run's
            end. Where that is the run's second, since the run was short: the one in its middle
    own     as in `resume_run`

    Raises UserError where there is no such run or update, or no checkpoint.
    """
    if not run.is_dir():
        raise UserError(f"{run} is not a run folder, such as `proximo train` writes")
    check_is_policy(run)
    if number is not None and number < 1:
        raise UserError(f"update is {number}: the first one is 1")
    load = partial(load_checkpoint, own=own)
    _, (config, newest, agent) = newest_valid(run, load)
    if config.population is not None:
        raise UserError("the cross-entropy method has no update of epochs and minibatches to inspect")
    ended = (run / MODEL).is_dir()
    if number is not None and ended and number > newest.number:
        raise UserError(f"{run} ends with update {newest.number}: there is no update {number}")
    agent = with_source(agent, run)

    def before(content: tuple[Config, Snapshot, Agent]) -> bool:
        if number is not None:
            return content[1].number < number
        return content[1].number < newest.number or not ended

    found = newest_where(run, load, before)
    start = None if found is None else found[1]
    if number is None:
        middle = newest.number // 2 if start is None or start.number == 1 else 0
        number = max(1 if start is None else start.number + 1, middle)
    return Plan(run, config, number, start, agent)


def moment_of(plan: Plan, env: Any = None, **make_options: Any) -> Moment:
    """A run just before an update, with the rollout that it learns from; nothing in its folder changes.

    env           as in `resume_run`
    make_options  as in `make_envs`

    Raises UserError where the environment cannot be had, or is another one, and where training ends before.
    """
    config = validate(where_it_was(plan.run, plan.config, plan.agent, env))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        arena, learner, progress = begin(config, plan.start, **make_options)
    fresh = [str(one.message) for one in told if issubclass(one.category, EpisodesRestarted)]
    for one in told:
        if not issubclass(one.category, EpisodesRestarted):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    with arena:
        while not progress.over:
            remaining = progress.remaining
            learner = scheduled(learner, remaining)
            experience = arena.experience(learner, progress.number)
            if progress.number + 1 == plan.number:  # what the arena writes to is written to again
                experience = jax.tree.map(jnp.array, experience)
            after, metrics = update(learner, experience, config.update, remaining)
            iteration = progress.after(experience, after, metrics, arena.stream)
            if iteration.number == plan.number:
                learned = {name: iteration.metrics[name] for name in LOGGED if name in iteration.metrics}
                return Moment(
                    config=config,
                    number=plan.number,
                    steps=iteration.steps,
                    learner=learner,
                    experience=experience,
                    remaining=remaining,
                    same=compare(plan.run, "time/iterations", plan.number, learned),
                    fresh=fresh[0] if fresh else None,
                    agent=_agent(iteration.agent, learner),
                )
            learner = after
    raise UserError(f"{plan.run} ends with update {progress.number}: there is no update {plan.number}")


def _agent(like: Agent, learner: Learner) -> Agent:
    """An agent as another one, with the policy of a learner."""
    return Agent(
        learner.policy,
        learner.observations,
        like.spaces,
        like.environment,
        scale_actions=like.scale_actions,
        masked=like.masked,
    )


def variant(moment: Moment, changes: str, config: Config, episodes: int, **playing: Any) -> Variant:
    """An update of the moment's rollout with other options, and what its policy then earns.

    config    the moment's with the changes; only options of the update count
    episodes  full ones, to be played with the policy that it ends with; 0 for none
    playing   as in `evaluate`; the same for all variants, so that their returns can be compared in pairs
    """
    learner, options = moment.learner, config.update
    before = moment.config.update
    if options.objective != before.objective:
        learner = learner._replace(objective=jax.tree.map(jnp.float32, options.objective))
    if options.actor_step != before.actor_step:
        learner = learner._replace(actor_memory=options.actor_step.start(learner.policy))
    if options.learning_rate_kl is not None and before.learning_rate_kl is None:
        learner = learner._replace(learning_rate=jnp.full((), options.learning_rate))
    epochs = list(replay(learner, moment.experience, options, moment.remaining))
    policy = epochs[-1].policy
    played = played_by(moment, learner._replace(policy=policy), episodes, **playing)
    return Variant(changes, config, epochs, played)


def played_by(moment: Moment, learner: Learner, episodes: int, **playing: Any) -> Evaluation | None:
    """What a learner's policy earns, with the observation statistics of the rollout; None for 0 episodes."""
    if not episodes:
        return None
    return evaluate(_agent(moment.agent, learner), episodes=episodes, **playing)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with other options of its update.

    Raises UserError for what does not fit together, and for options that act before an update begins.
    """
    if "normalise_observations" in changes:
        raise UserError("normalise_observations cannot change: the rollout, which all versions share, has it")
    found = validate(with_options(config, **changes))
    if "learning_rate" in changes and None not in (
        config.update.learning_rate_kl,
        found.update.learning_rate_kl,
    ):
        raise UserError("learning_rate cannot change: it has followed learning_rate_kl since the run began")
    return found


def differences(ours: Evaluation, theirs: Evaluation) -> Sequence[float]:
    """Of returns, episode by episode: both were played with the same seeds."""
    return [a - b for a, b in zip(ours.returns, theirs.returns, strict=True)]
