"""The static pictures of the explaining figures, from the same numbers as their live forms.

python -m benchmarks.site_pictures [--out docs/figures]

They stand for the live figures on GitHub, in print, and where no script runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import site_pictures_results
from benchmarks.pictures import drawn
from proximo.experiments.figures import FIGURES
from proximo.experiments.plots import COLOURS

BLACK, BLUE, RED, GREEN, PINK, *_ = COLOURS
GREY = "0.6"
WIDTH = 7.0  # inches


@dataclass(frozen=True)
class Options:
    """Draw the static pictures of the explaining figures."""

    out: Path = Path("docs/figures")
    """Where they go, as SVG."""


def draw_clip(data: dict[str, Any]) -> Any:
    """Objective and slope for a good and a bad action; below, the ratios of a real update."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplot_mosaic(
        [["good", "bad"], ["update", "update"]], figsize=(WIDTH, 5.2), layout="constrained"
    )
    for name, title in (("good", "a good action, A = +1"), ("bad", "a bad action, A = -1")):
        axis, curve, plain = (
            axes[name],
            data["objectives"]["clip:0.2"][name],
            data["objectives"]["unclipped"][name],
        )
        axis.plot(plain["ratio"], plain["value"], color=GREY, linestyle="dashed", label="no clipping, r A")
        axis.plot(curve["ratio"], curve["value"], color=BLUE, label="clip:0.2")
        axis.plot(curve["ratio"], curve["slope"], color=RED, linewidth=1, label="its slope")
        axis.set(title=title, xlabel="ratio of new to old probability", xlim=(0, 2.2))
    axes["good"].legend(frameon=False)
    update = data["update"]
    edges, whole, moving = (np.array(update[key]) for key in ("edges", "all", "moving"))
    bars = dict(x=edges[:-1], width=np.diff(edges), align="edge")
    axes["update"].bar(height=whole[-1], color=GREY, label="no slope left", **bars)
    axes["update"].bar(height=moving[-1], color=BLUE, label="still pushes", **bars)
    for bound in (1 - update["bounds"][0], 1 + update["bounds"][1]):
        axes["update"].axvline(bound, color=BLACK, linestyle="dashed", linewidth=1)
    axes["update"].set(
        title="the ratios of an update of HalfCheetah, after its last epoch", xlabel="ratio", ylabel="samples"
    )
    axes["update"].legend(frameon=False)
    return figure


def draw_advantages(data: dict[str, Any]) -> Any:
    """Weights of later errors; bias and variance by lambda; what an end leaves."""
    from matplotlib import pyplot

    figure, (weights, errors, ends) = pyplot.subplots(1, 3, figsize=(WIDTH, 2.8), layout="constrained")
    gamma = data["gammas"].index(0.99)
    for lam, colour in ((0.0, PINK), (0.8, GREEN), (0.95, BLUE), (1.0, BLACK)):
        weights.plot(
            data["weights"][data["lambdas"].index(lam)][gamma], color=colour, label=f"lambda {lam:g}"
        )
    weights.set(title="weight of later TD errors", xlabel="steps later")
    weights.legend(frameon=False)
    walk = data["walk"][2]
    for key, label, colour in (
        ("bias2", "bias squared", RED),
        ("variance", "variance", GREEN),
        ("error", "both", BLUE),
    ):
        errors.plot(data["lambdas"], walk[key], color=colour, label=label, marker=".")
    errors.set(
        title=f"error, with a critic {walk['critic_error']} off",
        xlabel="lambda",
        yscale="log",
        ylim=(1e-4, 1),
    )
    errors.legend(frameon=False)
    for row, colour, marker in zip(data["ends"], (GREY, RED, BLUE, GREEN), ("o", "s", "^", "x"), strict=True):
        values = [np.nan if x is None else x for x in row["advantage"]]
        ends.plot(range(1, 9), values, color=colour, marker=marker, label=row["end"].partition(":")[0])
    ends.set(title="advantages around an end", xlabel="step")
    ends.legend(frameon=False)
    return figure


def draw_policy_gradient(data: dict[str, Any]) -> Any:
    """One sample's push; how the direction gets clear with samples."""
    from matplotlib import pyplot

    figure, (push, cosine) = pyplot.subplots(1, 2, figsize=(WIDTH, 2.8), layout="constrained")
    heights = data["push"][2][data["weights"].index(1.0)]
    push.bar(range(1, 4), heights, color=[GREEN if x > 0 else RED for x in heights], width=0.5)
    push.axhline(0, color=BLACK, linewidth=0.8)
    push.set(
        title="action 3 sampled, advantage 1", xlabel="action", ylabel="push on its logit", xticks=[1, 2, 3]
    )
    for name, colour in (("raw reward", RED), ("advantage", BLUE)):
        cosine.plot(data["counts"], data["cosine"][name], color=colour, label=name, marker=".")
    cosine.set(title="cosine with the true gradient", xlabel="samples", xscale="log")
    cosine.legend(frameon=False)
    return figure


def draw_trust_region(data: dict[str, Any]) -> Any:
    """The edge of the region, its ellipse, both gradients and what the line search accepts."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    step = data["steps"][4]
    surrogate = np.array(data["surrogate"]).reshape(len(data["log_std"]), -1)[::-1]
    axis.contour(data["mean"], data["log_std"], surrogate, 9, colors="0.8")
    axis.plot(*np.transpose(step["exact"]), color=BLACK, label=f"KL = {step['max_kl']}")
    axis.plot(*np.transpose(step["quadratic"]), color=BLACK, linestyle="dashed", label="its ellipse")
    for name, colour in (("plain", RED), ("natural", BLUE)):
        axis.plot(*zip(data["old"], step[name], strict=True), color=colour, label=f"{name} gradient")
    axis.plot(*data["old"], "s", color=BLACK, label="old policy")
    axis.plot(*step["natural"], "x", color=BLACK, label="refused")
    axis.plot(*step["accepted"], "o", color=GREEN, label="accepted")
    axis.set(xlabel="mean", ylabel="log standard deviation")
    figure.legend(loc="outside right center", frameon=False)
    return figure


def draw_metrics(data: dict[str, Any]) -> Any:
    """Four metrics of a run that learns and of one that breaks."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(WIDTH, 2.3), layout="constrained")
    names = ("rollout/ep_rew_mean", "train/approx_kl", "train/clip_fraction", "train/explained_variance")
    for axis, name in zip(axes, names, strict=True):
        for kind, colour in (("healthy", BLUE), ("broken", RED)):
            values = [np.nan if x is None else x for x in data["metrics"][name][kind]]
            axis.plot(data["steps"][kind], values, color=colour, label=kind)
        axis.set(title=name.partition("/")[2], xlabel="steps", xticks=[0, 60_000])
    axes[1].set(yscale="log")
    axes[0].legend(frameon=False)
    return figure


PICTURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "clip": draw_clip,
    "advantages": draw_advantages,
    "policy-gradient": draw_policy_gradient,
    "trust-region": draw_trust_region,
    **site_pictures_results.PICTURES,
    "metrics": draw_metrics,
}


def draw(folder: Path) -> list[Path]:
    """All pictures as SVG; returns their paths. Raises UserError where matplotlib is missing."""
    pictures = {name: partial(picture, FIGURES[name]()) for name, picture in PICTURES.items()}
    return drawn(pictures, folder, {"svg": {"Date": None, "Creator": None}})


if __name__ == "__main__":
    for path in draw(tyro.cli(Options).out):
        print(path)
