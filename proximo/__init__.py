"""Proximo: Proximal Policy Optimization as one system.

run = proximo.train("CartPole-v1", steps=100_000, seed=0)
run.evaluate(episodes=100)
agent = proximo.load(run.folder)
agent.act(observation)

Importing it costs next to nothing: JAX loads with the first name that computes. Language models are
`proximo.language`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proximo.config import Config, preset, with_options
    from proximo.errors import EnvironmentFault, UserError
    from proximo.learn.agent import Agent
    from proximo.learn.ensemble import ensemble
    from proximo.learn.train import Iteration, training
    from proximo.ppo import PPO
    from proximo.runs.evaluate import Evaluation, evaluate
    from proximo.runs.members import train_ensemble
    from proximo.runs.run import Run, load, resume, train

_HOMES = {
    "proximo.config": ("Config", "preset", "with_options"),
    "proximo.errors": ("EnvironmentFault", "UserError"),
    "proximo.learn.agent": ("Agent",),
    "proximo.learn.ensemble": ("ensemble",),
    "proximo.learn.train": ("Iteration", "training"),
    "proximo.ppo": ("PPO",),
    "proximo.runs.evaluate": ("Evaluation", "evaluate"),
    "proximo.runs.members": ("train_ensemble",),
    "proximo.runs.run": ("Run", "load", "resume", "train"),
}

__all__ = [
    "PPO",
    "Agent",
    "Config",
    "EnvironmentFault",
    "Evaluation",
    "Iteration",
    "Run",
    "UserError",
    "ensemble",
    "evaluate",
    "load",
    "preset",
    "resume",
    "train",
    "train_ensemble",
    "training",
    "with_options",
]


def __getattr__(name: str) -> Any:
    if name == "language":
        return importlib.import_module("proximo.language")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "language"})
