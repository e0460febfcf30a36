"""`proximo check ENV`: find what is wrong with an environment."""

import dataclasses
import json
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import tyro

from proximo.arguments import Shown, parse_words


@dataclass(frozen=True)
class Check(Shown):
    """Find what is wrong with an environment before it costs a training run. The exit status is 1 if it finds
    an error."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """A Gymnasium id, or your own environment: `file.py:Class`, `module:Class`, `module:EnvId`."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment. Each value is parsed as JSON if possible, else it is text."""
    steps: int = 1000
    """Number of environment steps in each check."""
    seed: int = 0
    """Random seed of the environment and of the actions."""


read = partial(parse_words, Check, "check")


def with_arguments(env: str, env_kwargs: dict[str, Any]) -> Any:
    """A function that makes a registered environment with these arguments. It has the environment's name."""
    from proximo.envs import make_one

    def make() -> Any:
        return make_one(env, allow_import=True, env_kwargs=env_kwargs)

    make.__name__ = env.rpartition(":")[2]
    return make


def run(arguments: Check) -> int:
    """Check; returns the exit status: 1 when something is wrong."""
    from proximo.envs.check import check as examine

    env = with_arguments(arguments.env, arguments.env_kwargs) if arguments.env_kwargs else arguments.env
    findings = examine(env, steps=arguments.steps, seed=arguments.seed, allow_import=True)
    errors = sum(finding.level == "error" for finding in findings)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.level:8s} {finding.name}: {finding.message}")
        print("no errors" if not errors else "1 error" if errors == 1 else f"{errors} errors")
    return 1 if errors else 0
