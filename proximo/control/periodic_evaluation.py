"""Evaluation during training: how good the policy is without exploration, and which policy was best.

RUN/best/       the model with the highest mean return in such an evaluation, as in `control.model`
RUN/best.json   its steps and its score
"""

import contextlib
import math
import random
import shutil
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import Config
from proximo.control.evaluate import MOST_ENVS, Evaluation, Evaluator
from proximo.control.iteration import EVALUATING, Iteration, Iterations
from proximo.control.model import save_model
from proximo.control.streams import streams
from proximo.core.ranges import at_least
from proximo.envs import HostEnvs, make_envs, own_num_envs
from proximo.errors import EvaluationSkipped, UserError
from proximo.options import also
from proximo.runs.files import BEST
from proximo.runs.folder import RunFolder
from proximo.runs.kinds import config_of
from proximo.runs.logs import last_value
from proximo.runs.sealed import json_object

RECORDED = "evaluation"  # in config.json: the options, for a resumed run
EPISODES = 20
LONGEST = 100_000  # steps of an episode: the most likely actions may stand still for ever


@dataclass(frozen=True)
class EvalOptions:
    """Evaluation during training."""

    eval_every: Annotated[int | None, at_least(1), also("--eval-freq")] = None
    """Evaluate every so many steps and at the end, in separate environments; save the best model in RUN/best.
    This does not change the training."""
    eval_episodes: Annotated[int | None, at_least(1), also("--n-eval-episodes")] = None
    """Number of full episodes per evaluation. By default 20."""

    def check(self, config: Config) -> None:
        """Raises UserError, before the run starts, for an impossible evaluation."""
        if self.eval_every is None and self.eval_episodes is not None:
            raise UserError("eval_episodes is given without eval_every: pass --eval-every STEPS too")
        if self.eval_every is not None and own_num_envs(config.env) is not None:
            raise UserError(
                "--eval-every needs environments of its own: pass an id, a class or a function instead of an "
                "environment instance"
            )

    def recorded(self) -> dict[str, Any]:
        """What `config.json` says of it."""
        if self.eval_every is None:
            return {}
        return {RECORDED: {"every": self.eval_every, "episodes": self.eval_episodes or EPISODES}}

    def after(self, run: Path) -> "EvalOptions":
        """Those of a resumed run; by default those that the run has."""
        said = config_of(run).get(RECORDED)
        every, episodes = (
            said.get(name) if isinstance(said, dict) else None for name in ("every", "episodes")
        )
        every, episodes = (one if type(one) is int and one > 0 else None for one in (every, episodes))
        episodes = self.eval_episodes or episodes
        return EvalOptions(self.eval_every or every, episodes if self.eval_every or every else None)


NO_EVALUATION = EvalOptions()


class PeriodicEvaluation:
    """The evaluations of a run, or of the members of an ensemble, in one set of environments.

    configs  of the run, or of each member
    folders  of the same
    steps    that were made before, if the run is resumed

    Every evaluation begins with the same seeds, so that two of them differ by the policy alone; `proximo
    evaluate` has other seeds. Raises UserError where the environments cannot be made.
    """

    def __init__(
        self,
        options: EvalOptions,
        configs: Sequence[Config],
        folders: Sequence[RunFolder],
        steps: int = 0,
        **make_options: Any,
    ) -> None:
        assert options.eval_every is not None
        self.every, self.episodes = options.eval_every, options.eval_episodes or EPISODES
        self.folders, self.seeds = folders, [evaluation_seed(config.seed) for config in configs]
        self.done = [steps // self.every] * len(configs)
        self.best = [best_score(folder.path) for folder in folders]
        self.before = self.seconds = last_value(folders[0].path, EVALUATING)
        with undisturbed():
            self.envs = _environments(configs[0], min(self.episodes, MOST_ENVS), **make_options)

    @property
    def seconds_here(self) -> float:
        """Spent by this process, not in an earlier part of the run."""
        return self.seconds - self.before

    def __call__(self, iteration: Iteration, member: int = 0) -> Iteration:
        """The same iteration, with the scores in its metrics where an evaluation was due."""
        due = iteration.steps // self.every > self.done[member] or iteration.last
        found: dict[str, float] = {}
        if due and iteration.sound:
            self.done[member] = iteration.steps // self.every
            began = time.perf_counter()
            found = self._scores(iteration, member)
            self.seconds += time.perf_counter() - began
        if self.seconds:
            found[EVALUATING] = self.seconds
        return replace(iteration, metrics={**iteration.metrics, **found}) if found else iteration

    def _scores(self, iteration: Iteration, member: int) -> dict[str, float]:
        try:
            with undisturbed():
                outcome = self._play(iteration.agent, self.seeds[member])
        except UserError as error:
            warnings.warn(
                f"the evaluation after {iteration.steps:,} steps failed; the run continues: {error}",
                EvaluationSkipped,
                stacklevel=4,
            )
            return {}
        if outcome.mean > self.best[member]:
            self.best[member] = outcome.mean
            folder = self.folders[member]
            with folder.writing():
                save_model(iteration.agent, folder.path / BEST)
                content = {"steps": iteration.steps, "mean_reward": outcome.mean, "episodes": self.episodes}
                folder.write_json(f"{BEST}.json", content)
        found = {"eval/mean_reward": outcome.mean, "eval/mean_ep_length": float(np.mean(outcome.lengths))}
        success = outcome.success_rate
        return found if success is None else found | {"eval/success_rate": success}

    def _play(self, agent: Agent, seed: int) -> Evaluation:
        play = Evaluator(agent, self.envs, seed, deterministic=True, max_steps=LONGEST, remedy="")
        return play.summary(self.episodes)

    def close(self) -> None:
        """Close the environments."""
        with undisturbed():
            self.envs.close()


def evaluated(iterations: Iterations, evaluation: PeriodicEvaluation) -> Iterations:
    """The iterations of a run, with its evaluations; closes both."""
    with contextlib.closing(evaluation), contextlib.closing(iterations):
        for iteration in iterations:
            yield evaluation(iteration)


def evaluated_members(
    iterations: Generator[list[Iteration | None], None, None], evaluation: PeriodicEvaluation
) -> Generator[list[Iteration | None], None, None]:
    """The iterations of an ensemble, each member with its own evaluations; closes both."""
    with contextlib.closing(evaluation), contextlib.closing(iterations):
        for members in iterations:
            yield [one and evaluation(one, index) for index, one in enumerate(members)]


def evaluation_seed(seed: int) -> int:
    """The seed of a run's evaluations; neither its training nor `proximo evaluate` draws from that stream."""
    return int(streams(seed).evaluation.spawn(3)[-1].generate_state(1)[0])


def best_score(run: Path) -> float:
    """The mean return of the model in `best/`; lower than any where there is none."""
    try:
        return float(json_object(run / f"{BEST}.json")["mean_reward"]) if (run / BEST).is_dir() else -math.inf
    except (UserError, KeyError, TypeError, ValueError):
        return -math.inf


def copy_best(run: Path, out: Path) -> None:
    """The best model so far, for a run that continues in another folder."""
    if (run / BEST).is_dir() and (run / f"{BEST}.json").is_file():
        shutil.copytree(run / BEST, out / BEST)
        shutil.copyfile(run / f"{BEST}.json", out / f"{BEST}.json")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Puts global random streams back afterwards: environments of the training may draw from them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _environments(config: Config, count: int, **make_options: Any) -> HostEnvs:
    mode = "parallel" if config.vectorization_mode == "auto" else config.vectorization_mode
    if mode in ("parallel", "async"):
        watch = {"step_timeout": config.step_timeout, "max_restarts": 0}
        make_options = {"vector_kwargs": watch, **make_options}
    return make_envs(config.env, count, vectorization_mode=mode, env_kwargs=config.env_kwargs, **make_options)
