"""What the contact forces that Ant-v5 shows to the policy cost the default recipe.

    python -m benchmarks.ant_contact_forces        train what is missing, then write and print the scores

Three seeds of 300,000 steps each, with and without the 78 contact forces in the observation (the charge for
them stays), as one ensemble; a run folder each below `runs/ant-contact-forces`.
"""

import csv
import functools
import json
from pathlib import Path

import gymnasium as gym
import numpy as np

import proximo
from benchmarks.learning import LAST
from proximo.control.presets import RECIPES

RUNS, RESULT = Path("runs/ant-contact-forces"), Path("results/learning/ant_contact_forces.json")
STEPS, SEEDS = 300_000, 3


def trained(name: str, shown: bool) -> list[Path]:
    """The run folders of the three seeds."""
    folder = RUNS / name
    if not folder.exists():
        make = functools.partial(gym.make, "Ant-v5", include_cfrc_ext_in_observation=shown)
        options = RECIPES["mujoco"] | dict(steps=STEPS, vectorization_mode="sync")
        proximo.train_ensemble(make, seeds=SEEDS, out=folder, **options)
    return [folder / f"seed-{seed}" for seed in range(SEEDS)]


def score(run: Path) -> float:
    """Mean return of the last training episodes."""
    with (run / "episodes.csv").open() as file:
        returns = [float(row["return"]) for row in csv.DictReader(file)]
    return round(float(np.mean(returns[-LAST:])), 1)


def main() -> None:
    """Train, write, print."""
    scores = {name: [score(run) for run in trained(name, name == "shown")] for name in ("shown", "left-out")}
    content = {"command": "python -m benchmarks.ant_contact_forces", "steps": STEPS, "scores": scores}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    for name, values in scores.items():
        print(f"contact forces {name:<9} {np.mean(values):>7.0f}   {values}")


if __name__ == "__main__":
    main()
