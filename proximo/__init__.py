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
    from proximo.control.agent import Agent
    from proximo.control.config import Config, preset
    from proximo.control.ensemble import ensemble
    from proximo.control.evaluate import Evaluation, evaluate
    from proximo.control.members import train_ensemble
    from proximo.control.ppo import PPO
    from proximo.control.run import Run, load, resume, train
    from proximo.control.train import Iteration, training
    from proximo.errors import EnvironmentFault, UserError
    from proximo.options import with_options

_HOMES = {
    "proximo.control.config": ("Config", "preset", "with_options"),
    "proximo.errors": ("EnvironmentFault", "UserError"),
    "proximo.control.agent": ("Agent",),
    "proximo.control.ensemble": ("ensemble",),
    "proximo.control.train": ("Iteration", "training"),
    "proximo.control.ppo": ("PPO",),
    "proximo.control.evaluate": ("Evaluation", "evaluate"),
    "proximo.control.members": ("train_ensemble",),
    "proximo.control.run": ("Run", "load", "resume", "train"),
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
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("proximo")
    if name == "language":
        return importlib.import_module("proximo.language")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "language", "__version__"})
