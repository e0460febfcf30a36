"""Language models, trained by the same core as control: tokens are time steps, a response is an episode.

    model = proximo.language.load("Qwen/Qwen2.5-0.5B-Instruct")
    model.generate("Once upon a time")
    run = proximo.language.ppo(model="runs/lm-sft-0-...", data="prompts.jsonl", reward=score)

Nothing is imported until the first of these names is used, so importing this package is fast.
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
    "new",
    "ppo",
    "resume",
    "reward",
    "sft",
]


def need_libraries() -> None:
    """Raises UserError, with the pip command, if a library that language models need is missing."""
    from proximo.runs.extras import require_package

    for library in ("tokenizers", "jinja2"):
        require_package(library, "language")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need_libraries()
    return getattr(importlib.import_module(f"{__name__}.face"), name)
