"""Proximo: Proximal Policy Optimization as one system.

run = proximo.train("CartPole-v1", steps=100_000, seed=0)
run.evaluate(episodes=100)
agent = proximo.load(run.folder)
agent.act(observation)

Language models are `proximo.language`, imported when it is used.
"""

import importlib
from typing import Any

from proximo.config import Config, preset, with_options
from proximo.errors import EnvironmentFault, UserError
from proximo.learn.agent import Agent
from proximo.learn.ensemble import ensemble
from proximo.learn.train import Iteration, training
from proximo.ppo import PPO
from proximo.runs.evaluate import Evaluation, evaluate
from proximo.runs.members import train_ensemble
from proximo.runs.run import Run, load, resume, train

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
    if name != "language":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("proximo.language")
