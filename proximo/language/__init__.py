"""Language models on the same core: tokens are time steps, a response is a column of the rollout.

    model = proximo.language.load("Qwen/Qwen2.5-0.5B-Instruct")
    model.generate("Once upon a time")
    run = proximo.language.ppo(model="runs/lm-sft-0-...", data="prompts.jsonl", reward=score)

Its parts are imported when the first of these names is used; importing this package costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "LanguageModel",
    "LanguageRunResult",
    "dpo",
    "evaluate",
    "generate",
    "grpo",
    "load",
    "ppo",
    "resume",
    "reward",
    "sft",
]

MODULES = ("dpo", "grpo", "ppo", "sft")
"""Commands that are called as the module that does their work: the module can be called."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from proximo.language.extras import need_libraries

    need_libraries()
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.face"), name)


class _Command(ModuleType):
    """A module that is called as the function of its name."""

    def __call__(self, **arguments: Any) -> Any:
        face = importlib.import_module("proximo.language.face")
        return getattr(face, self.__name__.rpartition(".")[2])(**arguments)


class _Package(ModuleType):
    """This package: its modules are put into it as they are imported, by whoever does."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in MODULES and isinstance(value, ModuleType):
            value.__class__ = _Command
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
