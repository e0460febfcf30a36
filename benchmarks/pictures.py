"""The pictures of `docs/paper.md`, drawn by the library's own functions.

python -m benchmarks.pictures [--out docs/paper]

A formula is never typed again here: what a picture shows is what training computes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

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
from proximo.experiments.figures.advantages import weights
from proximo.experiments.figures.clip import Curve, at_moved_mean, at_ratio, traced
from proximo.experiments.figures.trust_region import step as trust_region_step
from proximo.experiments.plots import COLOURS, STYLE, require_matplotlib

BLACK, BLUE, RED, GREEN, PINK, *_ = COLOURS
GREY = "0.82"
WIDTH = 6.6  # inches: a page of GitHub
LAMBDAS = (0.0, 0.5, 0.9, 0.95, 1.0)
GAMMA, DELAYS = 0.99, 61
MAX_KL = 0.08  # eight times TRPO's, so that a parabola and the KL itself can be told apart

Points = tuple[Any, Any]
Line = tuple[str, str, str, Callable[[float], Points]]
"""Label, colour, dashes, and advantage -> (ratios, what the objective says of them)."""


@dataclass(frozen=True)
class Options:
    """Draw the pictures of docs/paper.md."""

    out: Path = Path("docs/paper")
    """Where they go, as SVG and PNG."""


def of_ratio(objective: Objective) -> Callable[[float], Points]:
    """The objective at ratios from 0 to 4, for one that does not need the KL."""
    return partial(along, at_ratio(objective), jnp.linspace(0.0, 4.0, 401)[1:])


def of_moved_mean(objective: Objective) -> Callable[[float], Points]:
    """The objective while the mean of a Gaussian moves, so that ratio and KL belong together."""
    return partial(along, at_moved_mean(objective), jnp.linspace(-1.4, 0.9, 201))


def along(curve: Curve, places: Any, advantage: float) -> Points:
    """Ratios and values at places along a curve."""
    return traced(curve, places, advantage)[:2]


REFERENCE: Line = ("no clipping, eq. 6", GREY, "solid", of_ratio(Unclipped()))
SURROGATES: dict[str, tuple[Line, ...]] = {
    "policy-gradient": (
        ("policy gradient, eq. 2", BLUE, "solid", of_ratio(PolicyGradient())),
        ("no clipping, eq. 6", RED, "dashed", of_ratio(Unclipped())),
    ),
    "clip": (
        REFERENCE,
        ("clip:0.1", GREEN, "dashed", of_ratio(Clip(0.1))),
        ("clip:0.2", BLUE, "solid", of_ratio(Clip(0.2))),
        ("clip:0.3", RED, "dashdot", of_ratio(Clip(0.3))),
    ),
    "log-clip": (
        REFERENCE,
        ("clip:0.5", BLUE, "solid", of_ratio(Clip(0.5))),
        ("log-clip:0.5", RED, "dashed", of_ratio(LogClip(0.5))),
    ),
    "kl-penalty": (
        ("no penalty, eq. 6", GREY, "solid", of_moved_mean(Unclipped())),
        ("kl-penalty:0.3", GREEN, "dashed", of_moved_mean(KLPenalty(0.3))),
        ("kl-penalty:1", BLUE, "solid", of_moved_mean(KLPenalty(1.0))),
        ("kl-penalty:3", RED, "dashdot", of_moved_mean(KLPenalty(3.0))),
        ("kl-penalty:10", PINK, "dotted", of_moved_mean(KLPenalty(10.0))),
    ),
    "later": (
        ("clip:0.2", GREY, "solid", of_ratio(Clip(0.2))),
        ("dual-clip:0.2,3", BLUE, "dashed", of_ratio(DualClip(0.2, 3.0))),
        ("asymmetric-clip:0.2,0.28", GREEN, "dashdot", of_ratio(AsymmetricClip(0.2, 0.28))),
        ("quadratic-penalty:0.2", RED, "solid", of_ratio(QuadraticPenalty(0.2))),
    ),
}
LIMITS = {  # largest ratio, then lowest and highest objective; for a good action, for a bad one
    "policy-gradient": ((2.0, -2.1, 2.1), (2.0, -2.1, 2.1)),
    "clip": ((2.0, 0.0, 2.0), (2.0, -2.0, 0.0)),
    "log-clip": ((2.0, 0.0, 2.0), (2.0, -2.0, 0.0)),
    "kl-penalty": ((1.7, -1.0, 1.8), (1.7, -2.8, 0.0)),
    "later": ((2.0, -1.0, 1.5), (4.0, -4.0, -0.5)),
}


def draw_surrogates(name: str) -> Any:
    """What objectives say of a ratio, on the left for a good action and on the right for a bad one."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(WIDTH, 2.7), layout="constrained")
    for axis, advantage, limits in zip(axes, (1.0, -1.0), LIMITS[name], strict=True):
        for label, colour, dashes, points in SURROGATES[name]:
            ratio, value = points(advantage)
            width = 4.0 if colour == GREY else 1.6  # what others are compared with lies below them
            axis.plot(ratio, value, color=colour, linestyle=dashes, label=label, linewidth=width)
            axis.plot(1.0, jnp.interp(1.0, ratio, value), "o", color=BLACK, markersize=4, zorder=3)
        good = "a good action, A = +1" if advantage > 0 else "a bad action, A = -1"
        axis.set(title=good, xlabel="ratio of new to old probability")
        axis.set(xlim=(0.0, limits[0]), ylim=limits[1:], xticks=jnp.arange(0.0, limits[0] + 0.1, 0.5))
    axes[0].set_ylabel("objective, to be maximised")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def draw_gae() -> Any:
    """How far ahead an advantage looks, for several lambdas."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(WIDTH, 2.8), layout="constrained")
    looks = zip(LAMBDAS, (PINK, GREEN, RED, BLUE, BLACK), ("o", "s", "^", "D", ""), strict=True)
    for lam, colour, marker in looks:
        axis.plot(
            weights(lam, GAMMA, DELAYS),
            color=colour,
            marker=marker,
            markevery=5,
            markersize=4,
            label=f"lambda = {lam:g}",
            linewidth=1.6,
        )
    axis.set(xlabel="delay of the TD error, in steps", ylabel="weight in the advantage", xlim=(-0.5, 60.5))
    axis.set_ylim(0, 1.04)
    figure.legend(loc="outside right center", frameon=False)
    return figure


def draw_trust_region() -> Any:
    """Contours of KL(old || new), both gradients, and what the line search makes of the natural one."""
    from matplotlib import pyplot

    step = trust_region_step(MAX_KL)
    mean, log_std = np.meshgrid(np.linspace(-0.2, 0.3, 76), np.linspace(-0.36, 0.4, 77) + step.old[1])
    grid = jnp.stack([mean.ravel(), log_std.ravel()], axis=-1)
    away = grid - step.old
    parabola = 0.5 * jnp.sum(away * jax.vmap(step.product)(away), axis=-1)
    heights = (*jax.vmap(step.evaluate)(grid), parabola)
    surrogate, kl, quadratic = (np.asarray(x).reshape(mean.shape) for x in heights)
    figure, axis = pyplot.subplots(figsize=(WIDTH, 4.2), layout="constrained")

    def contour(height: Any, levels: Any, label: str, **look: Any) -> None:
        axis.contour(mean, log_std, height, levels, **{f"{key}s": value for key, value in look.items()})
        axis.plot([], [], color=look["color"], linestyle=look["linestyle"], label=label)

    contour(surrogate, 9, "surrogate, eq. 6: higher to the right", color="0.75", linestyle="solid")
    contour(kl, [MAX_KL], f"KL(old || new) = {MAX_KL}", color=BLACK, linestyle="solid")
    contour(quadratic, [MAX_KL], "its quadratic approximation", color=BLACK, linestyle="dashed")
    for name, vector, colour in (("plain", step.plain, RED), ("natural", step.natural, BLUE)):
        look = dict(arrowstyle="-|>", color=colour, linewidth=1.8, shrinkA=0, shrinkB=0)
        axis.annotate("", step.old + vector, step.old, arrowprops=look)
        axis.plot([], [], color=colour, linewidth=1.8, label=f"{name} gradient")
    refused = [step.old + 0.8**number * step.natural for number in range(int(step.found.backtracks))]
    axis.plot(
        *jnp.stack(refused, axis=-1), "x", color=BLACK, markersize=8, label="refused by the line search"
    )
    axis.plot(
        *step.found.parameters, "o", color=GREEN, markersize=8, zorder=5, label="accepted by the line search"
    )
    axis.plot(*step.old, "s", color=BLACK, label="the old policy")
    axis.set(xlabel="mean", ylabel="log standard deviation", aspect="equal")
    figure.legend(loc="outside right center", frameon=False)
    return figure


PICTURES: dict[str, Callable[[], Any]] = {
    **{name: partial(draw_surrogates, name) for name in SURROGATES},
    "gae": draw_gae,
    "trust-region": draw_trust_region,
}


def draw(folder: Path) -> list[Path]:
    """The pictures of the page as SVG and PNG; returns their paths. Raises UserError without matplotlib."""
    return drawn(PICTURES, folder, {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}})


def drawn(
    pictures: Mapping[str, Callable[[], Any]], folder: Path, metadata: Mapping[str, dict[str, None]]
) -> list[Path]:
    """Pictures as files; returns their paths. Raises UserError where matplotlib is missing.

    pictures  name -> what draws it
    metadata  of each kind of file that is wanted: what it must not tell, to be the same each time
    """
    require_matplotlib()
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context(STYLE | {"path.simplify_threshold": 0.05}):
        for name, picture in pictures.items():
            figure = picture()
            for ending, nothing in metadata.items():
                paths.append(folder / f"{name}.{ending}")
                figure.savefig(paths[-1], dpi=96, metadata=nothing)
            pyplot.close(figure)
    return paths


if __name__ == "__main__":
    for path in draw(tyro.cli(Options).out):
        print(path)
