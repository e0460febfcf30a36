"""The numbers of the figures that explain PPO: each is computed by the library, or read from its raw results.

`FIGURES` has a function for each figure: plain data, which a page embeds as JSON and its script draws. The
static pictures are drawn from the same numbers (`benchmarks/pictures.py`). A test compares what a built page
embeds with a fresh call, so no number can be typed in, or go stale.
"""

from collections.abc import Callable
from typing import Any

from proximo.experiments.figures.advantages import advantages
from proximo.experiments.figures.batches import batches
from proximo.experiments.figures.cartpole import cartpole
from proximo.experiments.figures.clip import clip
from proximo.experiments.figures.gradient import gradient
from proximo.experiments.figures.metrics import metrics
from proximo.experiments.figures.race import race
from proximo.experiments.figures.rlhf import rlhf
from proximo.experiments.figures.trust_region import trust_region

FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    "policy-gradient": gradient,
    "advantages": advantages,
    "trust-region": trust_region,
    "clip": clip,
    "cartpole": cartpole,
    "race": race,
    "rlhf": rlhf,
    "metrics": metrics,
    "batches": batches,
}

__all__ = ["FIGURES"]
