"""A run: training that leaves a folder behind."""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proximo.config import Config, preset, validated, with_options
from proximo.envs import find_spec
from proximo.errors import UserError
from proximo.learn.agent import Agent
from proximo.learn.train import Iteration, training
from proximo.runs.evaluate import Evaluation, evaluate
from proximo.runs.folder import RunFolder
from proximo.runs.model import load_model
from proximo.runs.process import prepare_process


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies and what it learned."""

    folder: Path
    agent: Agent
    env: Any  # what it was trained on; the id where that is enough to make it again

    def evaluate(self, episodes: int = 100, **options: Any) -> Evaluation:
        """Play whole episodes with the final policy; options as of `proximo.evaluate`."""
        return evaluate(self.agent, self.env, episodes=episodes, **options)


def recorded(iterations: Iterator[Iteration], folder: RunFolder) -> Generator[Iteration, None, None]:
    """The same iterations, each logged as it comes; however it ends, the last policy is saved."""
    last = None
    try:
        for iteration in iterations:
            last = iteration
            folder.log(iteration)
            yield iteration
    finally:
        if last is not None:
            folder.save(last.agent)


def train(
    env: Any,
    *,
    preset_name: str = "default",
    out: str | Path | None = None,
    progress: bool = False,
    allow_import: bool = False,
    **options: Any,
) -> Run:
    """Train a policy and keep everything in a run folder.

        run = proximo.train("CartPole-v1", steps=100_000, seed=0)
        run.agent.act(observation)

    env          a Gymnasium id, an environment, a class, a function that makes one, or a vector
    preset_name  "default" (the best-known recipe for this kind of environment) or "paper"
    out          the run folder; one under `runs/` unless said otherwise
    progress     draw a progress bar
    allow_import let an id `module:EnvId` import its module, which runs the module's code
    options      any option by its name, such as `learning_rate=1e-3`; `proximo train --help` lists them

    Raises UserError (one line that says what to do) for options that cannot be and for environments
    that fail. What was learned before a failure, or Ctrl-C, is saved.
    """
    if allow_import and isinstance(env, str):
        find_spec(env, allow_import=True)  # the preset asks the registry
    config = with_options(preset(preset_name, env), **options)
    return train_config(config, out=out, progress=progress, allow_import=allow_import)


def train_config(
    config: Config, *, out: str | Path | None = None, progress: bool = False, **make_options: Any
) -> Run:
    """`train` for a configuration that is complete already."""
    from proximo.runs.progress import shown

    prepare_process()
    folder = RunFolder.create(validated(config), out)
    last = None
    with (
        contextlib.closing(recorded(training(config, **make_options), folder)) as iterations,
        contextlib.closing(shown(iterations, config, progress)) as rows,
    ):
        for last in rows:  # noqa: B007 (read after the loop)
            pass
    if last is None:
        raise UserError(f"nothing was learned: training ended before its first update; see {folder.path}")
    return Run(folder.path, last.agent, config.env)


def load(folder: str | Path) -> Agent:
    """The agent of a run folder, or of a model folder.

    Nothing in it is executed. Raises UserError when it is missing, unreadable or tampered with.
    """
    folder = Path(folder)
    model = folder / "model"
    return load_model(model if model.is_dir() else folder)
