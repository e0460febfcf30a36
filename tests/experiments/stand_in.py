"""A grid and training functions small enough for tests; worker processes import this file by its name."""

import os
import time
from pathlib import Path

import numpy as np

from proximo.control.iteration import diverged
from proximo.control.train import Iteration
from proximo.core import Clip, Unclipped
from proximo.envs import Episode
from proximo.errors import EnvironmentFault, UserError
from proximo.experiments.cells import ensure_description, read_description, write_json
from proximo.experiments.grid import Grid, Published, Setting, cells, groups
from proximo.experiments.reproduce import run_missing
from proximo.experiments.worker import OutputFolders, run_group

STEPS, TURN = 400, 100  # of a run, and of one of its four iterations; ten episodes end in each
SMALL = {"num_envs": 1, "horizon": TURN, "minibatch_size": TURN}
SETTINGS = (
    Setting("low", "the low one", options={**SMALL, "objective": Unclipped(), "gamma": 0.1}),
    Setting("high", "the high one", options={**SMALL, "objective": Clip(0.2), "gamma": 0.9}),
)
GRID = Grid(
    name="tiny",
    title="a grid for tests",
    settings=SETTINGS,
    environments=("CartPole-v1", "Pendulum-v1"),
    seeds=(0, 1),
    steps=STEPS,
    baseline="high",
)
PUBLISHED = Published(0.5, "made up for a test")


def ensemble_key(config):
    return type(config.update.objective).__name__


def iteration(config, number, loss=0.0):
    """Ten episodes, each with a return of 100 gamma + seed + the iteration's number."""
    value = 100 * config.update.gamma + config.seed + number
    rows = [(tenth + 1) * config.horizon // 10 - 1 for tenth in range(10)]
    episodes = [Episode(0, row, value, 10, True) for row in rows]
    return Iteration(
        number, number * TURN, None, None, {"train/loss": loss}, episodes, value, 10.0, lambda: None
    )


def train(configs):
    for number in range(1, STEPS // TURN + 1):
        yield [iteration(config, number) for config in configs]


def train_and_note(configs):
    """As `train`; and a line for each run goes into the file that the environment variable NOTES names."""
    with Path(os.environ["NOTES"]).open("a") as file:
        for config in configs:
            file.write(f"{config.env} {ensemble_key(config)} {config.seed}\n")
    yield from train(configs)


def train_and_die(configs):
    """Pendulum takes the whole process with it."""
    if configs[0].env == "Pendulum-v1":
        os._exit(7)
    yield from train(configs)


def train_and_fault(configs):
    """An environment that fails in the third iteration."""
    yield from list(train(configs))[:2]
    raise EnvironmentFault("environment 0 returned nan in its reward at step 201")


def train_for_ever(configs):
    """Runs of seed 0 finish, the others never do."""
    for turn in train(configs):
        yield [one if config.seed == 0 else None for config, one in zip(configs, turn, strict=True)]
    while True:
        time.sleep(0.02)
        yield [None] * len(configs)


def train_and_diverge(configs):
    """Seed 1 leaves the finite numbers in its second iteration; the others go on to their end."""
    for number, turn in enumerate(train(configs), start=1):
        for index, config in enumerate(configs):
            if config.seed == 1:
                turn[index] = (
                    iteration(config, number, np.nan if number == 2 else 0.0) if number < 3 else None
                )
        yield turn


def train_and_complain(configs):
    """The same of a member alone, for which `training` raises."""
    yield [iteration(configs[0], 1)]
    raise diverged(iteration(configs[0], 2, np.nan))


def train_and_complain_at_once(configs):
    """The first update leaves the finite numbers."""
    raise diverged(iteration(configs[0], 1, np.nan))
    yield


def train_and_refuse(configs):
    """What is no divergence, after an iteration that was sound."""
    yield [iteration(configs[0], 1)]
    raise UserError("an environment has not ended an episode")


def fill(folder, grid=GRID, train=train, **which):
    """As `run`, in this process: quick."""
    results, wanted = folder / "results", cells(grid, **which)
    for name in {cell.grid for cell in wanted}:
        ensure_description(results, name)
    places = OutputFolders(
        results,
        folder / "episodes",
        {cell.grid: read_description(results, cell.grid)["options"] for cell in wanted},
    )
    told = []
    for group in groups(wanted, ensemble_key, 12, 1):
        run_group(group, places, train, told.append)
    return told


def run(folder, grid=GRID, only=(), setting=(), seeds=(), **options):
    """Run what is missing below `folder`, with the stand-ins, in one process."""
    words = {"train": train, "ensemble_key": ensemble_key, "processes": 1, **options}
    wanted = cells(grid, only, setting, seeds)
    return run_missing(grid, wanted, results=folder / "results", episodes=folder / "episodes", **words)


def write_random(folder, grid=GRID, score=0.0):
    """The random policy's score, so that nothing has to be played."""
    for env in grid.environments:
        content = {"format": 1, "grid": grid.name, "env": env, "episodes": 100, "score": score}
        write_json(folder / "results" / grid.name / env / "random.json", content)


def finished(folder):
    """The names of all finished runs, such as `CartPole-v1/low-0`."""
    paths = (folder / "results").glob("*/*/*-[0-9].json")
    return sorted(f"{path.parent.name}/{path.stem}" for path in paths)
