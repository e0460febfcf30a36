"""What objectives say of a ratio, where they push it, and where the ratios of a real update lie."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import (
    AsymmetricClip,
    Clip,
    DualClip,
    KLPenalty,
    LogClip,
    Objective,
    PolicyGradient,
    QuadraticPenalty,
    Unclipped,
)
from proximo.experiments.figures.rounded import rounded
from proximo.experiments.measured import ROOT
from proximo.policies import DiagonalGaussian

UPDATE = Path("results/microscope/HalfCheetah-v5.json")  # of `proximo inspect --json`
OBJECTIVES: dict[str, Objective] = {
    **{f"clip:{epsilon}": Clip(epsilon) for epsilon in (0.1, 0.2, 0.3, 0.5)},
    "unclipped": Unclipped(),
    "policy-gradient": PolicyGradient(),
    **{f"log-clip:{epsilon}": LogClip(epsilon) for epsilon in (0.2, 0.5)},
    **{f"kl-penalty:{beta:g}": KLPenalty(beta) for beta in (0.3, 1.0, 3.0, 10.0)},
    "dual-clip:0.2,3": DualClip(0.2, 3.0),
    "asymmetric-clip:0.2,0.28": AsymmetricClip(0.2, 0.28),
    **{f"quadratic-penalty:{epsilon}": QuadraticPenalty(epsilon) for epsilon in (0.1, 0.2, 0.3)},
}
ADVANTAGES = {"good": 1.0, "bad": -1.0}
CASES = ((0.6, "below"), (1.0, "inside"), (1.4, "above"))  # a ratio of each part of the range of clip:0.2
Curve = Callable[[Any, float], tuple[Any, Any]]
"""(place on the curve, advantage) -> (ratio, objective), scalars."""


def at_ratio(objective: Objective) -> Curve:
    """The objective of a sample with this ratio, for those that need no KL."""

    def point(ratio: Any, advantage: float) -> tuple[Any, Any]:
        no_kl = jnp.full_like(ratio, jnp.nan)  # seen in the picture, should an objective need it
        return ratio, objective(jnp.log(ratio), jnp.full_like(ratio, advantage), no_kl)

    return point


def at_moved_mean(objective: Objective) -> Curve:
    """The objective while the mean of a Gaussian moves, so that ratio and KL belong together.

    The old policy is the standard normal distribution; the action lies one standard deviation above its mean.
    """

    def point(mean: Any, advantage: float) -> tuple[Any, Any]:
        new = DiagonalGaussian(jnp.reshape(mean, (1,)), jnp.zeros(1))
        old, action = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1)), jnp.ones(1)
        log_ratio = new.log_prob(action) - old.log_prob(action)
        return jnp.exp(log_ratio), objective(log_ratio, jnp.asarray(advantage), old.kl(new))

    return point


def traced(
    curve: Curve, places: Float[Array, " points"], advantage: float
) -> tuple[Float[Array, " points"], Float[Array, " points"], Float[Array, " points"]]:
    """Ratio, objective, and the objective's slope in the ratio, at places along a curve."""
    (ratio, value), (of_ratio, of_value) = jax.vmap(
        lambda place: jax.jvp(lambda x: curve(x, advantage), (place,), (jnp.ones_like(place),))
    )(places)
    return ratio, value, of_value / of_ratio


def drawn(objective: Objective) -> dict[str, Any]:
    """An objective's curves: for a good and a bad action the ratios, values and slopes."""
    curve, places = at_ratio(objective), jnp.linspace(0.02, 2.2, 110)
    if isinstance(objective, KLPenalty):
        curve, places = at_moved_mean(objective), jnp.linspace(-1.4, 0.98, 97)  # past 1 the ratio falls again
    found = {}
    for name, advantage in ADVANTAGES.items():
        ratio, value, slope = traced(curve, places, advantage)
        found[name] = {"ratio": rounded(ratio), "value": rounded(value), "slope": rounded(slope)}
    return found


def cases() -> list[dict[str, Any]]:
    """The six cases of eq. 7: the sign of the advantage, and on which side of the range the ratio lies."""
    found = []
    for sign, advantage in ADVANTAGES.items():
        for ratio, place in CASES:
            _, (value,), (slope,) = traced(at_ratio(Clip(0.2)), jnp.array([ratio]), advantage)
            row = {"action": sign, "ratio": ratio, "place": place}
            found.append({**row, "value": rounded(value), "slope": rounded(slope)})
    return found


def clip() -> dict[str, Any]:
    """The numbers of the figure."""
    update = json.loads((ROOT / UPDATE).read_text())
    own = update["versions"][0]
    return {
        "objectives": {name: drawn(objective) for name, objective in OBJECTIVES.items()},
        "cases": cases(),
        "update": {
            "source": str(UPDATE),
            "number": update["update"],
            "bounds": update["bounds"],
            **own["ratios"],
            "outside": rounded(own["means"]["outside"]),
            "no_slope": rounded(own["means"]["no_slope"]),
        },
    }
