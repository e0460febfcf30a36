"""Language models on the same core: tokens are time steps, a response is a column of the rollout.

    model = proximo.language.load("Qwen/Qwen2.5-0.5B-Instruct")
    model.generate("Once upon a time")
    run = proximo.language.ppo(model="runs/lm-sft-0-...", data="prompts.jsonl", reward=score)

Its parts are imported when the first of these names is used; importing this package costs nothing.
"""

import importlib
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


def need_libraries() -> None:
    """Raises UserError, with the pip command, where a library that only language models need is missing."""
    from proximo.runs.extras import require_package

    for library in ("tokenizers", "jinja2"):
        require_package(library, "language")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need_libraries()
    return getattr(importlib.import_module(f"{__name__}.face"), name)
