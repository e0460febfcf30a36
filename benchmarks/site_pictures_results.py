"""The static pictures of the figures that show committed runs; `benchmarks.site_pictures` draws them."""

from typing import Any

import numpy as np

from proximo.experiments.plots import COLOURS

BLACK, BLUE, RED, GREEN, PINK, *_ = COLOURS
GREY = "0.6"
WIDTH = 7.0  # inches
FAMILIES = {"SFT": GREY, "DPO": PINK, "PPO": BLUE, "GRPO": GREEN}
OFFSETS = {"PPO, beta 0.002": (-24, -12), "PPO, beta 0.1": (-2, 7)}  # points; where the words do not collide
RACERS = {"clip-0.2": BLUE, "trpo": GREEN, "vanilla-policy-gradient": RED, "a2c": PINK}


def draw_race(data: dict[str, Any]) -> Any:
    """Four methods on two tasks, by environment steps and by gradient steps of the actor."""
    from matplotlib import pyplot

    tasks = ("HalfCheetah", "Walker2d")
    figure, axes = pyplot.subplots(2, 2, figsize=(WIDTH, 4.6), layout="constrained", sharey="row")
    share = (1 + np.arange(data["points"])) / data["points"]
    for task, (by_steps, by_gradients) in zip(tasks, axes, strict=True):
        for name, colour in RACERS.items():
            method = data["methods"][name]
            of = method["curves"][data["tasks"].index(task)]
            steps = share * data["steps"] / 1000
            by_steps.plot(steps, np.transpose(of["seeds"]), color=colour, linewidth=0.5, alpha=0.4)
            by_steps.plot(steps, of["mean"], color=colour, label=method["label"])
            by_gradients.plot(share * method["gradient_steps"], of["mean"], color=colour)
        by_steps.set(title=task, xlabel="thousand environment steps", ylabel="return")
        by_gradients.set(title=task, xlabel="gradient steps of the actor", xscale="log")
        by_gradients.minorticks_off()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def draw_rlhf(data: dict[str, Any]) -> Any:
    """Both scores over training for a high and a low KL coefficient; all methods by gold score and KL."""
    from matplotlib import pyplot

    figure, (strong, weak, plane) = pyplot.subplots(1, 3, figsize=(WIDTH, 3.0), layout="constrained")
    for axis, name in ((strong, "PPO, beta 0.5"), (weak, "PPO, beta 0.002")):
        run = data["runs"][name]
        axis.plot(run["model"], color=RED, linewidth=1, label="reward model")
        axis.plot(run["gold"], color=BLUE, linewidth=1, label="gold")
        axis.set(title=name, xlabel="iteration", ylim=(-0.2, 2.8))
    strong.set_ylabel("score")
    strong.legend(frameon=False, loc="lower right")
    for method in data["methods"]:
        colour = FAMILIES[method["name"].partition(",")[0]]
        plane.errorbar(method["kl"], method["gold"], method["error"], fmt="o", markersize=4, color=colour)
        near = dict(textcoords="offset points", xytext=OFFSETS.get(method["name"], (6, -3)), fontsize=7)
        plane.annotate(method["name"].replace("beta ", ""), (method["kl"], method["gold"]), **near)
    plane.set(
        title="what each reached", xlabel="KL to the SFT model, nats", ylabel="gold score", xlim=(-0.5, 13)
    )
    return figure


def draw_batches(data: dict[str, Any]) -> Any:
    """A rollout, and the samples of one minibatch in it."""
    from matplotlib import pyplot

    of = data["presets"][0]["options"]
    order = np.random.default_rng(0).permutation(of["num_envs"] * of["horizon"])
    env, step = np.divmod(order[: of["minibatch_size"]], of["horizon"])
    figure, axis = pyplot.subplots(figsize=(WIDTH, 1.6), layout="constrained")
    axis.plot(step + 0.5, env + 0.5, "s", color=BLUE, markersize=2.5)
    axis.set(xlim=(0, of["horizon"]), ylim=(0, of["num_envs"]), xlabel="step", ylabel="environment")
    return figure


PICTURES = {"race": draw_race, "rlhf": draw_rlhf, "batches": draw_batches}
