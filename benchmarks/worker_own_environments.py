"""One run with a library's defaults: `python -m benchmarks.worker_own_environments LIBRARY ENV STEPS SEED`.

Prints one line of JSON. Seconds count from before the library is imported until it has trained: as long as
its user waits. Both are evaluated by the same loop, on the same episodes, with their most likely actions.
"""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym

EPISODES = 100  # of the evaluation, and of the training that count
FIRST_SEED = 10_000  # of the evaluation's episodes

Act = Callable[[Any], Any]

ENVIRONMENTS = {
    "inventory": "Inventory",
    "thermostat": "Thermostat",
    "job_shop": "JobShop",
    "hotel": "Hotel",
    "irrigation": "Irrigation",
}


def environment(name: str) -> type[gym.Env]:
    """The class of an environment of `examples/environments`."""
    return getattr(importlib.import_module(f"examples.environments.{name}"), ENVIRONMENTS[name])


def proximo(env: Any, steps: int, seed: int) -> tuple[Act, list[float], tuple[str, ...]]:
    """Train with Proximo: how it acts, the last training episodes, the packages it stands on."""
    import csv

    import proximo

    with tempfile.TemporaryDirectory() as folder:
        run = proximo.train(env, steps=steps, seed=seed, out=Path(folder) / "run")
        with (run.folder / "episodes.csv").open() as file:
            returns = [float(row["return"]) for row in csv.DictReader(file)]
    return run.agent.act, returns[-EPISODES:], ("proximo", "jax")


def sb3(env: Any, steps: int, seed: int) -> tuple[Act, list[float], tuple[str, ...]]:
    """The same with Stable-Baselines3."""
    from stable_baselines3 import PPO

    made = env()
    policy = "MultiInputPolicy" if isinstance(made.observation_space, gym.spaces.Dict) else "MlpPolicy"
    model = PPO(policy, made, seed=seed).learn(steps)
    returns = [float(episode["r"]) for episode in model.ep_info_buffer]

    def act(observation: Any) -> Any:
        return model.predict(observation, deterministic=True)[0]

    return act, returns, ("stable_baselines3", "torch")


def evaluate(env: gym.Env, act: Act) -> list[float]:
    """The return of each episode, always the same ones."""
    returns = []
    for seed in range(FIRST_SEED, FIRST_SEED + EPISODES):
        (observation, _), total, over = env.reset(seed=seed), 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def main() -> None:
    library, name, steps, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    env = environment(name)
    train = {"proximo": proximo, "sb3": sb3}[library]
    start = time.perf_counter()
    act, training, packages = train(env, steps, seed)
    seconds = time.perf_counter() - start
    versions = {package: version(package) for package in (*packages, "numpy", "gymnasium")}
    answer = {"seconds": seconds, "training": training, "versions": versions}
    print(json.dumps(answer | {"evaluation": evaluate(env(), act)}))


if __name__ == "__main__":
    main()
